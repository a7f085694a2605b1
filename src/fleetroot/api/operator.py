"""The operator API: what the CLI and the console ask of a running server.

Everything is below `/fleetroot/` and asks for the operator's token. Names in JSON are camel case,
times ISO 8601 in UTC, fingerprints and serial numbers lower-case hexadecimal.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from typing import Annotated, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, actor_of, needs
from fleetroot.api.answers import Answer, Hex, Nothing, Page, Time, left_out
from fleetroot.api.description import answers
from fleetroot.api.services import Services, services_of
from fleetroot.hub.model import Event
from fleetroot.pki import KeyType
from fleetroot.registry.model import Authority, AuthorityKind, Certificate, Device, Origin, Policy

router = APIRouter(prefix="/fleetroot", route_class=OperatorRoute)

_Limit = Annotated[int, Query(ge=1, le=1000)]
_RowNumber = Annotated[int | None, Query(ge=0, le=2**63 - 1)]
_MAX_WAIT = 30.0


class RevokeBody(BaseModel):
    """How to revoke a device."""

    model_config = ConfigDict(extra="forbid", strict=True)

    disable: bool = False


class KeyTokenState(Answer):
    """A PKCS#11 token that keys are in; `away` says why it is."""

    name: str
    away: str | None


class HubName(Answer):
    """A hub, and where devices find it."""

    name: str
    host_name: str


class PolicySummary(Answer):
    """A policy in short."""

    name: str
    leaf_validity_days: float
    leaf_key_types: list[KeyType]
    issuing_authority: str | None


class AuthoritySummary(Answer):
    """A CA in short."""

    id: str
    kind: AuthorityKind
    key_type: KeyType
    sha256: Hex
    not_before: Time
    not_after: Time
    revoked_at: Time | None


class ExpiringAnswer(Answer):
    """A certificate that ends soon."""

    what: str
    name: str
    sha256: Hex
    not_after: Time


class StatusAnswer(Answer):
    """What a server is and how it stands."""

    version: str
    started_at: Time
    uptime_seconds: float
    namespace: str
    master_key: str
    database: str
    pki_url: str
    tokens: list[KeyTokenState]
    devices: int
    certificates: int
    connections: int
    hubs: list[HubName]
    policies: list[PolicySummary]
    authorities: list[AuthoritySummary]
    expiring: list[ExpiringAnswer]


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


class CertificateAnswer(Answer):
    """A row of the inventory."""

    id: int
    device_id: str
    serial_number: str
    sha256: Hex
    status: str
    origin: Origin
    issuing_authority: str
    not_before: Time
    not_after: Time
    issued_at: Time
    revoked_at: Time | None


class ConnectionAnswer(Answer):
    """A live connection."""

    hub: str
    since: Time


class DeviceDetails(DeviceAnswer):
    """A device, with its connections and newest certificates."""

    connections: list[ConnectionAnswer]
    certificates: list[CertificateAnswer]


class RevocationAnswer(Answer):
    """A device whose certificates were revoked, and how many these were."""

    device: DeviceAnswer
    certificates_revoked: int


class CertificateDetails(CertificateAnswer):
    """A certificate, with its PEM text."""

    subject: str
    issuer: str
    pem: str


class EventAnswer(Answer):
    """A message of a device: its bytes in base64, and as text where they are UTF-8."""

    sequence_number: int
    device_id: str
    enqueued_at: Time
    properties: dict[str, Any]
    system_properties: dict[str, Any]
    body: str
    text: str | Nothing = left_out()


@router.get("/status")
@needs(Permission.READ)
async def status(request: Request) -> StatusAnswer:
    """What this server is and how it stands."""
    services = services_of(request)
    now = services.clock.now()
    devices, certificates = await services.registry.totals()
    namespace = services.namespace
    authorities = await services.registry.authorities(namespace)
    policies = await services.registry.policies(namespace)
    hubs = await services.hubs.of_namespace(namespace)
    return StatusAnswer(
        version=services.version,
        started_at=services.started_at,
        uptime_seconds=round((now - services.started_at).total_seconds(), 3),
        namespace=namespace.name,
        master_key=services.master_key_where,
        database=services.database,
        pki_url=services.pki_url,
        tokens=[KeyTokenState(name=t.name, away=t.away) for t in services.token_states()],
        devices=devices,
        certificates=certificates,
        connections=len(services.hubs.live),
        hubs=[HubName(name=hub.name, host_name=hub.host_name) for hub in hubs],
        policies=[_policy(policy) for policy in policies],
        authorities=[_authority(authority) for authority in authorities],
        expiring=[
            ExpiringAnswer(
                what=each.what, name=each.name, sha256=each.sha256, not_after=each.not_after
            )
            for each in services.expiry.soon
        ],
    )


@router.get("/devices")
@needs(Permission.READ)
async def devices(
    request: Request, after: str = "", limit: _Limit = 100
) -> Page[DeviceAnswer, str]:
    """A page of devices, by id; `next` is the `after` of the next page."""
    services = services_of(request)
    found = await services.registry.devices(services.namespace, after=after, limit=limit)
    names = await policy_names(services)
    return Page(
        value=[device_body(device, names) for device in found],
        next=found[-1].device_id if len(found) == limit else None,
    )


@router.get("/devices/{device_id}")
@needs(Permission.READ)
async def device(request: Request, device_id: str) -> DeviceDetails:
    """One device, with its newest certificates."""
    services = services_of(request)
    found = await services.registry.device(services.namespace, device_id)
    certificates = await services.registry.certificates(
        services.namespace, device_id=device_id, limit=20
    )
    now = services.clock.now()
    live = services.hubs.live.of(found.namespace_id, found.device_key)
    return DeviceDetails(
        **dict(device_body(found, await policy_names(services))),
        connections=[ConnectionAnswer(hub=s.principal.hub.name, since=s.since) for s in live],
        certificates=[certificate_body(certificate, now) for certificate in certificates],
    )


@router.post("/devices/{device_id}/revoke")
@needs(Permission.WRITE_DEVICES)
async def revoke(
    request: Request, device_id: str, body: RevokeBody | None = None
) -> RevocationAnswer:
    """Revokes every certificate of a device and ends its connection."""
    services = services_of(request)
    revocation = await services.registry.revoke(
        services.namespace,
        device_id,
        disable=body.disable if body else False,
        by=actor_of(request),
    )
    return RevocationAnswer(
        device=device_body(revocation.device, await policy_names(services)),
        certificates_revoked=revocation.certificates,
    )


@router.post("/devices/{device_id}/disable")
@needs(Permission.WRITE_DEVICES)
async def disable(request: Request, device_id: str) -> DeviceAnswer:
    """Refuses a device's connections and ends the live one; its certificates stay as they are."""
    services = services_of(request)
    found = await services.registry.set_enabled(
        services.namespace, device_id, False, by=actor_of(request)
    )
    return device_body(found, await policy_names(services))


@router.post("/devices/{device_id}/enable")
@needs(Permission.WRITE_DEVICES)
async def enable(request: Request, device_id: str) -> DeviceAnswer:
    """Lets a device in again."""
    services = services_of(request)
    found = await services.registry.set_enabled(
        services.namespace, device_id, True, by=actor_of(request)
    )
    return device_body(found, await policy_names(services))


@router.get("/certificates")
@needs(Permission.READ)
async def certificates(
    request: Request,
    device: str | None = None,
    before: _RowNumber = None,
    limit: _Limit = 100,
) -> Page[CertificateAnswer, int]:
    """A page of the inventory, newest first; `next` is the `before` of the next page."""
    services = services_of(request)
    found = await services.registry.certificates(
        services.namespace, device_id=device, before=before, limit=limit
    )
    now = services.clock.now()
    return Page(
        value=[certificate_body(certificate, now) for certificate in found],
        next=found[-1].id if len(found) == limit else None,
    )


@router.get("/certificates/{name}")
@needs(Permission.READ)
async def certificate(request: Request, name: str) -> CertificateDetails:
    """One certificate, by serial number or fingerprint, with its PEM text."""
    services = services_of(request)
    found = await services.registry.certificate(services.namespace, name)
    parsed = x509.load_der_x509_certificate(found.certificate)
    return CertificateDetails(
        **dict(certificate_body(found, services.clock.now())),
        subject=parsed.subject.rfc4514_string(),
        issuer=parsed.issuer.rfc4514_string(),
        pem=parsed.public_bytes(Encoding.PEM).decode(),
    )


@router.get("/events", responses=answers(404))
@needs(Permission.READ)
async def events(
    request: Request,
    hub: str = "default",
    after: _RowNumber = None,
    device: str | None = None,
    limit: _Limit = 100,
    last: Annotated[int | None, Query(ge=0, le=1000)] = None,
    wait: Annotated[float, Query(ge=0, le=_MAX_WAIT)] = 0.0,
) -> Page[EventAnswer, int]:
    """Events of a hub behind `after` (left out: from now on), waiting up to `wait` seconds for one;
    or, with `last`, its newest. `next` is the `after` to go on with.
    """
    services = services_of(request)
    of = await services.hubs.by_name(hub)
    if last is not None:
        next_, found = await services.hubs.newest_events(of, device_id=device, limit=last)
        return Page(value=[_event(event) for event in found], next=next_)
    next_, found = await services.hubs.events(
        of,
        after=after,
        device_id=device,
        limit=limit,
        wait=timedelta(seconds=wait),
    )
    return Page(value=[_event(event) for event in found], next=next_)


async def policy_names(services: Services) -> dict[str, str]:
    """The names of the namespace's policies, by their ids."""
    policies = await services.registry.policies(services.namespace)
    return {policy.id: policy.name for policy in policies}


def _policy(policy: Policy) -> PolicySummary:
    return PolicySummary(
        name=policy.name,
        leaf_validity_days=policy.leaf_validity / timedelta(days=1),
        leaf_key_types=sorted(policy.leaf_key_types),
        issuing_authority=policy.authority_id,
    )


def _authority(authority: Authority) -> AuthoritySummary:
    return AuthoritySummary(
        id=authority.id,
        kind=authority.kind,
        key_type=authority.key_type,
        sha256=authority.sha256,
        not_before=authority.not_before,
        not_after=authority.not_after,
        revoked_at=authority.revoked_at,
    )


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


def certificate_body(certificate: Certificate, now: datetime) -> CertificateAnswer:
    """A row of the inventory as JSON shows it."""
    return CertificateAnswer(
        id=certificate.id,
        device_id=certificate.device_id,
        serial_number=certificate.serial,
        sha256=certificate.sha256,
        status=certificate.status(now),
        origin=certificate.origin,
        issuing_authority=certificate.authority_id,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        issued_at=certificate.issued_at,
        revoked_at=certificate.revoked_at,
    )


def _event(event: Event) -> EventAnswer:
    return EventAnswer(
        sequence_number=event.seq,
        device_id=event.device_id,
        enqueued_at=event.enqueued_at,
        properties=json.loads(event.properties),
        system_properties=json.loads(event.system_properties),
        body=base64.b64encode(event.body).decode(),
        text=_text(event.body),
    )


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
