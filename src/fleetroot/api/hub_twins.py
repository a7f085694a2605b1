"""Twins over the hub's service API."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request, Response

from fleetroot.access import Permission
from fleetroot.api.access import actor_of
from fleetroot.api.description import answers
from fleetroot.api.hub_routes import AddressedHub, asks, hub_router
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.services import services_of
from fleetroot.api.twin_bodies import TwinAnswer, TwinBody, shown
from fleetroot.hub.model import Hub
from fleetroot.hub.service_twins import TwinChange
from fleetroot.ids import identity_key
from fleetroot.registry.shared_access import Right

router = hub_router()

DeviceId = Annotated[str, Path(max_length=128)]
ModuleId = Annotated[str, Path(max_length=128)]


@router.get("/twins/{device_id}", responses=answers(404))
@asks(Right.SERVICE_CONNECT, Permission.READ)
async def get(request: Request, hub: AddressedHub, device_id: DeviceId) -> TwinAnswer:
    """A device's twin."""
    return shown(await services_of(request).hubs.twins.get(hub, identity_key(device_id)))


@router.patch("/twins/{device_id}", responses=answers(404, 412))
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def update(
    request: Request,
    response: Response,
    hub: AddressedHub,
    device_id: DeviceId,
    body: TwinBody,
    if_match: IfMatch = None,
) -> TwinAnswer:
    """Merges into tags and desired properties. The device hears of it if it listens."""
    return await _change(request, response, hub, identity_key(device_id), body.patch(), if_match)


@router.put("/twins/{device_id}", responses=answers(404, 412))
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def replace(
    request: Request,
    response: Response,
    hub: AddressedHub,
    device_id: DeviceId,
    body: TwinBody,
    if_match: IfMatch = None,
) -> TwinAnswer:
    """Replaces tags and desired properties; what is left out is empty then."""
    change = body.replacement()
    return await _change(request, response, hub, identity_key(device_id), change, if_match)


@router.get("/twins/{device_id}/modules/{module_id}", responses=answers(404))
@asks(Right.SERVICE_CONNECT, Permission.READ)
async def get_of_module(
    request: Request, hub: AddressedHub, device_id: DeviceId, module_id: ModuleId
) -> TwinAnswer:
    """A module's twin."""
    key = identity_key(device_id, module_id)
    return shown(await services_of(request).hubs.twins.get(hub, key))


@router.patch("/twins/{device_id}/modules/{module_id}", responses=answers(404, 412))
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def update_of_module(
    request: Request,
    response: Response,
    hub: AddressedHub,
    device_id: DeviceId,
    module_id: ModuleId,
    body: TwinBody,
    if_match: IfMatch = None,
) -> TwinAnswer:
    """Merges into tags and desired properties. The module hears of it if it listens."""
    key = identity_key(device_id, module_id)
    return await _change(request, response, hub, key, body.patch(), if_match)


@router.put("/twins/{device_id}/modules/{module_id}", responses=answers(404, 412))
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def replace_of_module(
    request: Request,
    response: Response,
    hub: AddressedHub,
    device_id: DeviceId,
    module_id: ModuleId,
    body: TwinBody,
    if_match: IfMatch = None,
) -> TwinAnswer:
    """Replaces tags and desired properties; what is left out is empty then."""
    key = identity_key(device_id, module_id)
    return await _change(request, response, hub, key, body.replacement(), if_match)


async def _change(
    request: Request,
    response: Response,
    hub: Hub,
    key: str,
    change: TwinChange,
    if_match: str | None,
) -> TwinAnswer:
    changed = await services_of(request).hubs.twins.change(
        hub, key, change, if_match=if_match, by=actor_of(request)
    )
    response.headers["ETag"] = f'"{changed.etag}"'
    return shown(changed)
