"""Direct methods over the operator API: the call of `direct_methods`, by the hub's name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from fleetroot.access import Permission
from fleetroot.api.access import needs
from fleetroot.api.description import answers
from fleetroot.api.direct_methods import MethodBody, MethodResult, call_device
from fleetroot.api.service_routes import HubRoute, described_of
from fleetroot.api.services import services_of

router = APIRouter(prefix="/fleetroot/hubs/{hub}/devices/{device_id}/methods", route_class=HubRoute)


@router.post("", response_model=MethodResult, responses=answers(404, 429, 502, 504))
@needs(Permission.WRITE_DEVICES)
async def invoke(
    request: Request, device_id: Annotated[str, Path(max_length=128)], body: MethodBody
) -> Response:
    """Calls a direct method of a device that is connected, and waits for its answer."""
    hub = await services_of(request).hubs.by_name(described_of(request).owner.name)
    return await call_device(request, hub, device_id, body)
