"""Identities over the hub's service API: of devices and their modules, one by one and many at once.

Keys are answered to whoever may read the registry by a shared access policy, as Azure does it; of
operators, to those whose role reads secrets.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Body, Path, Query, Request, Response

from fleetroot.access import Permission
from fleetroot.api.access import actor_of
from fleetroot.api.description import answers, replaced
from fleetroot.api.hub_errors import error_name
from fleetroot.api.hub_routes import AddressedHub, asks, hub_router
from fleetroot.api.identity_bodies import (
    DeviceBody,
    DeviceIdentities,
    DeviceIdentity,
    IdentitiesAnswer,
    IdentitiesRefusal,
    ItemBody,
    Items,
    ModuleBody,
    ModuleIdentities,
    ModuleIdentity,
    NotDoneIdentity,
    read,
    show_device,
    show_module,
)
from fleetroot.api.preconditions import IfMatch, bare
from fleetroot.api.services import services_of
from fleetroot.errors import FleetrootError
from fleetroot.hub.identity_administration import (
    MAX_PAGE,
    IdentityAdministration,
    Item,
    NotDone,
    ShownIdentity,
)
from fleetroot.hub.model import Hub
from fleetroot.hub.wanted_identities import WantedIdentity
from fleetroot.registry.shared_access import Right

router = hub_router()

_ANY: Final = "*"
_NOT_ALL_DONE: Final[dict[int | str, dict[str, Any]]] = {
    400: {
        "model": IdentitiesRefusal,
        "description": "Not all was done; or a parameter or the body is not as it must be.",
    }
}

DeviceId = Annotated[str, Path(max_length=128)]
ModuleId = Annotated[str, Path(max_length=128)]
Top = Annotated[
    int, Query(description=f"How many at most; outside of 1 to {MAX_PAGE} it is {MAX_PAGE}.")
]


def _identities(request: Request) -> IdentityAdministration:
    return services_of(request).identities


def _sees_keys(request: Request, hub: Hub) -> bool:
    caller = getattr(request.state, "caller", None)  # none: by a shared access policy
    return caller is None or caller.may(Permission.READ_SECRETS, hub.namespace_id)


def _device(request: Request, hub: Hub, response: Response, shown: ShownIdentity) -> DeviceIdentity:
    response.headers["etag"] = f'"{shown.identity.etag}"'
    return show_device(shown, with_keys=_sees_keys(request, hub))


def _module(request: Request, hub: Hub, response: Response, shown: ShownIdentity) -> ModuleIdentity:
    response.headers["etag"] = f'"{shown.identity.etag}"'
    return show_module(shown, with_keys=_sees_keys(request, hub))


@router.get("/devices")
@asks(Right.REGISTRY_READ, Permission.READ)
async def page(request: Request, hub: AddressedHub, top: Top = MAX_PAGE) -> DeviceIdentities:
    """The first devices by their ids; a query finds all of them, and by more than that."""
    limit = top if 1 <= top <= MAX_PAGE else MAX_PAGE
    found = await _identities(request).page(hub, limit=limit)
    with_keys = _sees_keys(request, hub)
    return DeviceIdentities([show_device(each, with_keys=with_keys) for each in found])


@router.get("/devices/{device_id}")
@asks(Right.REGISTRY_READ, Permission.READ)
async def get(
    request: Request, response: Response, hub: AddressedHub, device_id: DeviceId
) -> DeviceIdentity:
    """The identity of a device."""
    return _device(request, hub, response, await _identities(request).get(hub, device_id))


@router.put("/devices/{device_id}", responses=answers(409, 412))
@asks(Right.REGISTRY_WRITE, Permission.WRITE_DEVICES)
async def put(
    request: Request,
    response: Response,
    hub: AddressedHub,
    device_id: DeviceId,
    body: DeviceBody,
    if_match: IfMatch = None,
) -> DeviceIdentity:
    """Creates an identity; with `If-Match`, changes the one that is there. What it changes of how
    the device proves who it is ends its connection.
    """
    shown = await _identities(request).put(
        hub, read(body, device_id), if_match=if_match, by=actor_of(request)
    )
    return _device(request, hub, response, shown)


@router.delete("/devices/{device_id}", status_code=204, responses=answers(412))
@asks(Right.REGISTRY_WRITE, Permission.WRITE_DEVICES)
async def delete(
    request: Request, hub: AddressedHub, device_id: DeviceId, if_match: IfMatch = None
) -> Response:
    """Deletes an identity, with its modules, twin and messages. The registry keeps the device."""
    administration = _identities(request)
    await administration.delete(hub, device_id, if_match=if_match or _ANY, by=actor_of(request))
    return Response(status_code=204)


@router.post("/devices", responses=_NOT_ALL_DONE)
@asks(Right.REGISTRY_WRITE, Permission.WRITE_DEVICES)
async def change_many(
    request: Request,
    response: Response,
    hub: AddressedHub,
    body: Annotated[Items, Body()],
) -> IdentitiesAnswer:
    """Creates, changes or deletes up to a hundred identities, each by itself."""
    items = [_item(each) for each in body]
    not_done = await _identities(request).change_many(hub, items, by=actor_of(request))
    if not_done:
        response.status_code = 400
    errors = [_told(each) for each in not_done]
    return IdentitiesAnswer(is_successful=not errors, errors=errors, warnings=[])


@router.get("/devices/{device_id}/modules")
@asks(Right.REGISTRY_READ, Permission.READ)
async def modules(request: Request, hub: AddressedHub, device_id: DeviceId) -> ModuleIdentities:
    """The modules of a device."""
    with_keys = _sees_keys(request, hub)
    found = await _identities(request).modules(hub, device_id)
    return ModuleIdentities([show_module(each, with_keys=with_keys) for each in found])


@router.get("/devices/{device_id}/modules/{module_id}")
@asks(Right.REGISTRY_READ, Permission.READ)
async def get_module(
    request: Request,
    response: Response,
    hub: AddressedHub,
    device_id: DeviceId,
    module_id: ModuleId,
) -> ModuleIdentity:
    """The identity of a module."""
    found = await _identities(request).get(hub, device_id, module_id)
    return _module(request, hub, response, found)


@router.put(
    "/devices/{device_id}/modules/{module_id}",
    status_code=201,
    responses=answers(409, 412) | replaced(ModuleIdentity),
)
@asks(Right.REGISTRY_WRITE, Permission.WRITE_DEVICES)
async def put_module(
    request: Request,
    response: Response,
    hub: AddressedHub,
    device_id: DeviceId,
    module_id: ModuleId,
    body: ModuleBody,
    if_match: IfMatch = None,
) -> ModuleIdentity:
    """Creates a module of a device; with `If-Match`, changes the one that is there."""
    wanted = read(body, device_id, module_id)
    shown = await _identities(request).put(hub, wanted, if_match=if_match, by=actor_of(request))
    if if_match is not None:
        response.status_code = 200
    return _module(request, hub, response, shown)


@router.delete("/devices/{device_id}/modules/{module_id}", status_code=204, responses=answers(412))
@asks(Right.REGISTRY_WRITE, Permission.WRITE_DEVICES)
async def delete_module(
    request: Request,
    hub: AddressedHub,
    device_id: DeviceId,
    module_id: ModuleId,
    if_match: IfMatch = None,
) -> Response:
    """Deletes a module with its twin."""
    await _identities(request).delete(
        hub, device_id, module_id, if_match=if_match or _ANY, by=actor_of(request)
    )
    return Response(status_code=204)


def _item(body: ItemBody) -> Item:
    etag = bare(body.etag or body.own_etag)
    try:
        return Item(body.mode, read(body, body.id, body.module_id), etag)
    except FleetrootError as error:
        return Item(body.mode, WantedIdentity(body.id, body.module_id), etag, error)


def _told(not_done: NotDone) -> NotDoneIdentity:
    wanted, error = not_done.item.wanted, not_done.error
    return NotDoneIdentity(
        device_id=wanted.device_id,
        module_id=wanted.module_id,
        error_code=error_name(error),
        error_status=error.message,
        operation=not_done.item.mode,
    )
