"""Devices over the operator API: with their connections and newest
certificates, and how they are revoked, disabled and let in again.
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, actor_of, namespace_of, needs, of_namespaces
from fleetroot.api.answers import Answer, Limit, Page, Time
from fleetroot.api.certificates import CertificateAnswer, certificate_body
from fleetroot.api.description import operation_id
from fleetroot.api.device_words import DescribedAnswer, words_of
from fleetroot.api.services import services_of
from fleetroot.registry.device_resources import DescribedDevice
from fleetroot.registry.model import Device

router = APIRouter(
    prefix="/fleetroot",
    route_class=OperatorRoute,
    generate_unique_id_function=partial(operation_id, area="operator"),
)
namespaced = of_namespaces("")


class RevokeBody(BaseModel):
    """How to revoke a device."""

    model_config = ConfigDict(extra="forbid", strict=True)

    disable: bool = False


class DeviceAnswer(Answer):
    """A device."""

    device_id: str
    uuid: str
    enabled: bool
    policy: str | None
    generation: str
    etag: str
    version: int
    created_at: Time
    updated_at: Time


class ConnectionAnswer(Answer):
    """A live connection."""

    hub: str
    since: Time


class DescribedDeviceAnswer(DeviceAnswer, DescribedAnswer):
    """A device, with what was said of it."""


class DeviceDetails(DescribedDeviceAnswer):
    """A device, with its connections and newest certificates."""

    connections: list[ConnectionAnswer]
    certificates: list[CertificateAnswer]


class RevocationAnswer(Answer):
    """A device whose certificates were revoked, and how many these were."""

    device: DeviceAnswer
    certificates_revoked: int


@router.get("/devices")
@namespaced.get("/devices")
@needs(Permission.READ)
async def devices(request: Request, after: str = "", limit: Limit = 100) -> Page[DeviceAnswer, str]:
    """A page of devices, by id; `next` is the `after` of the next page."""
    services = services_of(request)
    found = await services.registry.devices(namespace_of(request), after=after, limit=limit)
    names = await policy_names(request)
    return Page(
        value=[device_body(device, names) for device in found],
        next=found[-1].device_id if len(found) == limit else None,
    )


@router.get("/devices/{device_id}")
@namespaced.get("/devices/{device_id}")
@needs(Permission.READ)
async def device(request: Request, device_id: str) -> DeviceDetails:
    """One device, with its newest certificates."""
    services = services_of(request)
    described = await services.device_resources.get(namespace_of(request), device_id)
    found = described.device
    certificates = await services.registry.certificates(
        namespace_of(request), device_id=device_id, limit=20
    )
    now = services.clock.now()
    live = services.hubs.live.of(found.namespace_id, found.device_key)
    return DeviceDetails(
        **dict(described_body(described, await policy_names(request))),
        connections=[ConnectionAnswer(hub=s.principal.hub.name, since=s.since) for s in live],
        certificates=[certificate_body(certificate, now) for certificate in certificates],
    )


@router.post("/devices/{device_id}/revoke")
@namespaced.post("/devices/{device_id}/revoke")
@needs(Permission.WRITE_DEVICES)
async def revoke(
    request: Request, device_id: str, body: RevokeBody | None = None
) -> RevocationAnswer:
    """Revokes every certificate of a device and ends its connection."""
    services = services_of(request)
    revocation = await services.registry.revoke(
        namespace_of(request),
        device_id,
        disable=body.disable if body else False,
        by=actor_of(request),
    )
    return RevocationAnswer(
        device=device_body(revocation.device, await policy_names(request)),
        certificates_revoked=revocation.certificates,
    )


@router.post("/devices/{device_id}/disable")
@namespaced.post("/devices/{device_id}/disable")
@needs(Permission.WRITE_DEVICES)
async def disable(request: Request, device_id: str) -> DeviceAnswer:
    """Refuses a device's connections and ends the live one; its certificates stay as they are."""
    services = services_of(request)
    found = await services.registry.set_enabled(
        namespace_of(request), device_id, False, by=actor_of(request)
    )
    return device_body(found, await policy_names(request))


@router.post("/devices/{device_id}/enable")
@namespaced.post("/devices/{device_id}/enable")
@needs(Permission.WRITE_DEVICES)
async def enable(request: Request, device_id: str) -> DeviceAnswer:
    """Lets a device in again."""
    services = services_of(request)
    found = await services.registry.set_enabled(
        namespace_of(request), device_id, True, by=actor_of(request)
    )
    return device_body(found, await policy_names(request))


async def policy_names(request: Request) -> dict[str, str]:
    """The names of the policies of the request's namespace, by their ids."""
    policies = await services_of(request).registry.policies(namespace_of(request))
    return {policy.id: policy.name for policy in policies}


def device_body(device: Device, policy_names: dict[str, str]) -> DeviceAnswer:
    """A device as JSON shows it."""
    return DeviceAnswer(
        device_id=device.device_id,
        uuid=device.uuid,
        enabled=device.enabled,
        policy=policy_names.get(device.policy_id or ""),
        generation=str(device.generation),
        etag=device.etag,
        version=device.version,
        created_at=device.created_at,
        updated_at=device.updated_at,
    )


def described_body(
    described: DescribedDevice, policy_names: dict[str, str]
) -> DescribedDeviceAnswer:
    """A device with what was said of it, as JSON shows it."""
    return DescribedDeviceAnswer(
        **dict(device_body(described.device, policy_names)), **words_of(described.description)
    )
