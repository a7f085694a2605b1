"""Identities over the operator API: those of the hub that the path names."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, caller_of, needs
from fleetroot.api.answers import Limit, Listed, Page
from fleetroot.api.description import answers
from fleetroot.api.identity_bodies import (
    DeviceBody,
    DeviceIdentity,
    ModuleBody,
    ModuleIdentity,
    read,
    show_device,
    show_module,
)
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.service_routes import HubRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.hub.identity_administration import IdentityAdministration
from fleetroot.hub.model import Hub

router = APIRouter(prefix="/fleetroot/hubs/{hub}/identities", route_class=HubRoute)

_ANY: Final = "*"
_DEVICE: Final = "/{device_id}"
_MODULES: Final = f"{_DEVICE}/modules"
_MODULE: Final = f"{_MODULES}/{{module_id}}"
_Id = Annotated[str, Path(max_length=128)]
_Module = Annotated[str, Path(max_length=128)]
_After = Annotated[str, Query(max_length=128, description="Begin behind this device id.")]


class IdentityPage(Page[DeviceIdentity, str]):
    """Devices, by their ids."""


class ModuleList(Listed[ModuleIdentity]):
    """The modules of a device, by their ids."""


@router.get("")
@needs(Permission.READ)
async def page(request: Request, after: _After = "", limit: Limit = 100) -> IdentityPage:
    """Devices of the hub behind an id."""
    found = await _identities(request).page(await _hub(request), after=after, limit=limit + 1)
    last = found[limit - 1].identity.device_id if len(found) > limit else None
    with_keys = _sees_keys(request)
    shown = [show_device(each, with_keys=with_keys) for each in found[:limit]]
    return IdentityPage(value=shown, next=last)


@router.get(_DEVICE)
@needs(Permission.READ)
async def get(request: Request, device_id: _Id) -> DeviceIdentity:
    """The identity of a device."""
    found = await _identities(request).get(await _hub(request), device_id)
    return show_device(found, with_keys=_sees_keys(request))


@router.put(_DEVICE, responses=answers(409, 412))
@needs(Permission.WRITE_DEVICES)
async def put(
    request: Request, device_id: _Id, body: DeviceBody, if_match: IfMatch = None
) -> DeviceIdentity:
    """Creates an identity; with `If-Match`, changes the one that is there."""
    made = await _identities(request).put(
        await _hub(request), read(body, device_id), if_match=if_match, by=actor_of(request)
    )
    return show_device(made, with_keys=_sees_keys(request))


@router.delete(_DEVICE, status_code=204, responses=answers(412))
@needs(Permission.WRITE_DEVICES)
async def delete(request: Request, device_id: _Id, if_match: IfMatch = None) -> Response:
    """Deletes an identity, with its modules, twin and messages. The registry keeps the device."""
    hub, by = await _hub(request), actor_of(request)
    await _identities(request).delete(hub, device_id, if_match=if_match or _ANY, by=by)
    return Response(status_code=204)


@router.get(_MODULES)
@needs(Permission.READ)
async def modules(request: Request, device_id: _Id) -> ModuleList:
    """The modules of a device."""
    found = await _identities(request).modules(await _hub(request), device_id)
    with_keys = _sees_keys(request)
    return ModuleList(value=[show_module(each, with_keys=with_keys) for each in found])


@router.get(_MODULE)
@needs(Permission.READ)
async def get_module(request: Request, device_id: _Id, module_id: _Module) -> ModuleIdentity:
    """The identity of a module."""
    found = await _identities(request).get(await _hub(request), device_id, module_id)
    return show_module(found, with_keys=_sees_keys(request))


@router.put(_MODULE, responses=answers(409, 412))
@needs(Permission.WRITE_DEVICES)
async def put_module(
    request: Request,
    device_id: _Id,
    module_id: _Module,
    body: ModuleBody,
    if_match: IfMatch = None,
) -> ModuleIdentity:
    """Creates a module of a device; with `If-Match`, changes the one that is there."""
    made = await _identities(request).put(
        await _hub(request),
        read(body, device_id, module_id),
        if_match=if_match,
        by=actor_of(request),
    )
    return show_module(made, with_keys=_sees_keys(request))


@router.delete(_MODULE, status_code=204, responses=answers(412))
@needs(Permission.WRITE_DEVICES)
async def delete_module(
    request: Request, device_id: _Id, module_id: _Module, if_match: IfMatch = None
) -> Response:
    """Deletes a module with its twin."""
    hub, by = await _hub(request), actor_of(request)
    await _identities(request).delete(hub, device_id, module_id, if_match=if_match or _ANY, by=by)
    return Response(status_code=204)


def _identities(request: Request) -> IdentityAdministration:
    return services_of(request).identities


async def _hub(request: Request) -> Hub:
    return await services_of(request).hubs.by_name(described_of(request).owner.name)


def _sees_keys(request: Request) -> bool:
    of = described_of(request).owner.namespace_id
    return caller_of(request).may(Permission.READ_SECRETS, of)
