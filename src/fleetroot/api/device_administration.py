"""Devices made and deleted over the operator API. What they do by themselves is in `operator`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, actor_of, namespace_of, needs, of_namespaces
from fleetroot.api.description import answers
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.services import services_of
from fleetroot.errors import NotFound
from fleetroot.registry.device_resources import Description

router = APIRouter(prefix="/fleetroot/devices", route_class=OperatorRoute)
namespaced = of_namespaces("/devices")


class NewDevice(BaseModel):
    """A device to make; `policy` is the name of the policy that it is under."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: str | None = Field(default=None, max_length=50)
    enabled: bool = True


class MadeDevice(BaseModel):
    """A device that was made."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    device_id: str
    uuid: str
    enabled: bool
    policy: str | None
    etag: str


@router.put("/{device_id}", status_code=201, responses=answers(412))
@namespaced.put("/{device_id}", status_code=201, responses=answers(412))
@needs(Permission.WRITE_DEVICES)
async def create(request: Request, device_id: str, body: NewDevice | None = None) -> MadeDevice:
    """Makes a device before it comes by itself; 412 if it is there."""
    services, body = services_of(request), body or NewDevice()
    made, _ = await services.device_resources.put(
        namespace_of(request),
        device_id,
        Description(),
        enabled=body.enabled,
        policy=body.policy,
        if_match=None,
        create_only=True,
        by=actor_of(request),
    )
    return MadeDevice(
        device_id=made.device.device_id,
        uuid=made.device.uuid,
        enabled=made.device.enabled,
        policy=body.policy,
        etag=made.device.etag,
    )


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
