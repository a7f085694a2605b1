"""Devices made, changed and deleted over the operator API. The rest of them is in `operator`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import Field

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, actor_of, namespace_of, needs, of_namespaces
from fleetroot.api.description import answers
from fleetroot.api.device_words import DescribedBody
from fleetroot.api.devices import DescribedDeviceAnswer, described_body, policy_names
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.services import services_of
from fleetroot.errors import NotFound
from fleetroot.registry.device_resources import Description

router = APIRouter(prefix="/fleetroot/devices", route_class=OperatorRoute)
namespaced = of_namespaces("/devices")


class NewDevice(DescribedBody):
    """A device to make; `policy` is the name of the policy that it is under."""

    policy: str | None = Field(default=None, max_length=50)
    enabled: bool = True


class DeviceUpdate(DescribedBody):
    """What changes of a device."""

    policy: str | None = Field(default=None, max_length=50)
    enabled: bool | None = None


@router.put("/{device_id}", status_code=201, responses=answers(412))
@namespaced.put("/{device_id}", status_code=201, responses=answers(412))
@needs(Permission.WRITE_DEVICES)
async def create(
    request: Request, device_id: str, body: NewDevice | None = None
) -> DescribedDeviceAnswer:
    """Makes a device before it comes by itself; 412 if it is there."""
    services, body = services_of(request), body or NewDevice()
    kept = {name: value for name, value in body.properties().items() if value is not None}
    made, _ = await services.device_resources.put(
        namespace_of(request),
        device_id,
        Description(tags=body.tags or {}, properties=kept),
        enabled=body.enabled,
        policy=body.policy,
        if_match=None,
        create_only=True,
        by=actor_of(request),
    )
    return described_body(made, await policy_names(request))


@router.patch("/{device_id}", responses=answers(412))
@namespaced.patch("/{device_id}", responses=answers(412))
@needs(Permission.WRITE_DEVICES)
async def update(
    request: Request, device_id: str, body: DeviceUpdate, if_match: IfMatch = None
) -> DescribedDeviceAnswer:
    """Changes what is given of a device; under another policy, its certificates count no more."""
    changed = await services_of(request).device_resources.update(
        namespace_of(request),
        device_id,
        tags=body.tags,
        properties=body.properties(),
        enabled=body.enabled,
        policy=body.policy,
        if_match=if_match,
        by=actor_of(request),
    )
    return described_body(changed, await policy_names(request))


@router.delete("/{device_id}", status_code=204, responses=answers(412))
@namespaced.delete("/{device_id}", status_code=204, responses=answers(412))
@needs(Permission.WRITE_DEVICES)
async def delete(request: Request, device_id: str, if_match: IfMatch = None) -> Response:
    """Deletes a device: its certificates are revoked and its connection ends."""
    services = services_of(request)
    deleted = await services.device_resources.delete(
        namespace_of(request), device_id, if_match=if_match, by=actor_of(request)
    )
    if not deleted:
        raise NotFound(f"Device {device_id} is not registered")
    return Response(status_code=204)
