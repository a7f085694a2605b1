"""Twins over the operator API: those of the hub that the path names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.description import answers
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.service_routes import HubRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.api.twin_bodies import TwinAnswer, TwinBody, shown
from fleetroot.hub.model import Hub
from fleetroot.hub.service_twins import TwinChange
from fleetroot.ids import canonical

router = APIRouter(prefix="/fleetroot/hubs/{hub}/devices/{device_id}/twin", route_class=HubRoute)

_Id = Annotated[str, Path(max_length=128)]


@router.get("")
@needs(Permission.READ)
async def get(request: Request, device_id: _Id) -> TwinAnswer:
    """A device's twin."""
    twins = services_of(request).hubs.twins
    return shown(await twins.get(await _hub(request), canonical(device_id)))


@router.patch("", responses=answers(412))
@needs(Permission.WRITE_DEVICES)
async def update(
    request: Request, device_id: _Id, body: TwinBody, if_match: IfMatch = None
) -> TwinAnswer:
    """Merges into tags and desired properties."""
    return await _change(request, device_id, body.patch(), if_match)


@router.put("", responses=answers(412))
@needs(Permission.WRITE_DEVICES)
async def replace(
    request: Request, device_id: _Id, body: TwinBody, if_match: IfMatch = None
) -> TwinAnswer:
    """Replaces tags and desired properties; what is left out is empty then."""
    return await _change(request, device_id, body.replacement(), if_match)


async def _hub(request: Request) -> Hub:
    return await services_of(request).hubs.by_name(described_of(request).owner.name)


async def _change(
    request: Request, device_id: str, change: TwinChange, if_match: str | None
) -> TwinAnswer:
    hub = await _hub(request)
    return shown(
        await services_of(request).hubs.twins.change(
            hub, canonical(device_id), change, if_match=if_match, by=actor_of(request)
        )
    )
