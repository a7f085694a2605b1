"""The operator API: what the CLI and the console ask of a running server.

Everything is below `/fleetroot/` and asks for the operator's token. Names in JSON are camel case,
times ISO 8601 in UTC, fingerprints and serial numbers lower-case hexadecimal.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, actor_of, needs
from fleetroot.api.services import Services, services_of
from fleetroot.clock import iso8601
from fleetroot.hub.model import Event
from fleetroot.registry.model import Authority, Certificate, Device

router = APIRouter(prefix="/fleetroot", route_class=OperatorRoute)

_Limit = Annotated[int, Query(ge=1, le=1000)]
_RowNumber = Annotated[int | None, Query(ge=0, le=2**63 - 1)]
_MAX_WAIT = 30.0


class RevokeBody(BaseModel):
    """How to revoke a device."""

    model_config = ConfigDict(extra="forbid", strict=True)

    disable: bool = False


@router.get("/status")
@needs(Permission.READ)
async def status(request: Request) -> dict[str, Any]:
    """What this server is and how it stands."""
    services = services_of(request)
    now = services.clock.now()
    devices, certificates = await services.registry.totals()
    namespace = services.namespace
    authorities = await services.registry.authorities(namespace)
    policies = await services.registry.policies(namespace)
    hubs = await services.hubs.of_namespace(namespace)
    return {
        "version": services.version,
        "startedAt": iso8601(services.started_at),
        "uptimeSeconds": round((now - services.started_at).total_seconds(), 3),
        "namespace": namespace.name,
        "masterKey": services.master_key_where,
        "database": services.database,
        "pkiUrl": services.pki_url,
        "tokens": [{"name": token.name, "away": token.away} for token in services.token_states()],
        "devices": devices,
        "certificates": certificates,
        "connections": len(services.hubs.live),
        "hubs": [{"name": hub.name, "hostName": hub.host_name} for hub in hubs],
        "policies": [
            {
                "name": policy.name,
                "leafValidityDays": policy.leaf_validity / timedelta(days=1),
                "leafKeyTypes": sorted(policy.leaf_key_types),
                "issuingAuthority": policy.authority_id,
            }
            for policy in policies
        ],
        "authorities": [_authority(authority) for authority in authorities],
        "expiring": [
            {
                "what": each.what,
                "name": each.name,
                "sha256": each.sha256.hex(),
                "notAfter": iso8601(each.not_after),
            }
            for each in services.expiry.soon
        ],
    }


@router.get("/devices")
@needs(Permission.READ)
async def devices(request: Request, after: str = "", limit: _Limit = 100) -> dict[str, Any]:
    """A page of devices, by id; `next` is the `after` of the next page."""
    services = services_of(request)
    found = await services.registry.devices(services.namespace, after=after, limit=limit)
    names = await policy_names(services)
    return {
        "value": [device_body(device, names) for device in found],
        "next": found[-1].device_id if len(found) == limit else None,
    }


@router.get("/devices/{device_id}")
@needs(Permission.READ)
async def device(request: Request, device_id: str) -> dict[str, Any]:
    """One device, with its newest certificates."""
    services = services_of(request)
    found = await services.registry.device(services.namespace, device_id)
    certificates = await services.registry.certificates(
        services.namespace, device_id=device_id, limit=20
    )
    now = services.clock.now()
    live = [
        {"hub": s.principal.hub.name, "since": iso8601(s.since)}
        for s in services.hubs.live.of(found.namespace_id, found.device_key)
    ]
    return device_body(found, await policy_names(services)) | {
        "connections": live,
        "certificates": [certificate_body(certificate, now) for certificate in certificates],
    }


@router.post("/devices/{device_id}/revoke")
@needs(Permission.WRITE_DEVICES)
async def revoke(
    request: Request, device_id: str, body: RevokeBody | None = None
) -> dict[str, Any]:
    """Revokes every certificate of a device and ends its connection."""
    services = services_of(request)
    revocation = await services.registry.revoke(
        services.namespace,
        device_id,
        disable=body.disable if body else False,
        by=actor_of(request),
    )
    return {
        "device": device_body(revocation.device, await policy_names(services)),
        "certificatesRevoked": revocation.certificates,
    }


@router.post("/devices/{device_id}/disable")
@needs(Permission.WRITE_DEVICES)
async def disable(request: Request, device_id: str) -> dict[str, Any]:
    """Refuses a device's connections and ends the live one; its certificates stay as they are."""
    services = services_of(request)
    found = await services.registry.set_enabled(
        services.namespace, device_id, False, by=actor_of(request)
    )
    return device_body(found, await policy_names(services))


@router.post("/devices/{device_id}/enable")
@needs(Permission.WRITE_DEVICES)
async def enable(request: Request, device_id: str) -> dict[str, Any]:
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
) -> dict[str, Any]:
    """A page of the inventory, newest first; `next` is the `before` of the next page."""
    services = services_of(request)
    found = await services.registry.certificates(
        services.namespace, device_id=device, before=before, limit=limit
    )
    now = services.clock.now()
    return {
        "value": [certificate_body(certificate, now) for certificate in found],
        "next": found[-1].id if len(found) == limit else None,
    }


@router.get("/certificates/{name}")
@needs(Permission.READ)
async def certificate(request: Request, name: str) -> dict[str, Any]:
    """One certificate, by serial number or fingerprint, with its PEM text."""
    services = services_of(request)
    found = await services.registry.certificate(services.namespace, name)
    parsed = x509.load_der_x509_certificate(found.certificate)
    return certificate_body(found, services.clock.now()) | {
        "subject": parsed.subject.rfc4514_string(),
        "issuer": parsed.issuer.rfc4514_string(),
        "pem": parsed.public_bytes(Encoding.PEM).decode(),
    }


@router.get("/events")
@needs(Permission.READ)
async def events(
    request: Request,
    hub: str = "default",
    after: _RowNumber = None,
    device: str | None = None,
    limit: _Limit = 100,
    last: Annotated[int | None, Query(ge=0, le=1000)] = None,
    wait: Annotated[float, Query(ge=0, le=_MAX_WAIT)] = 0.0,
) -> dict[str, Any]:
    """Events of a hub behind `after` (left out: from now on), waiting up to `wait` seconds for one;
    or, with `last`, its newest. `next` is the `after` to go on with.
    """
    services = services_of(request)
    of = await services.hubs.by_name(hub)
    if last is not None:
        next_, found = await services.hubs.newest_events(of, device_id=device, limit=last)
        return {"value": [_event(event) for event in found], "next": next_}
    next_, found = await services.hubs.events(
        of,
        after=after,
        device_id=device,
        limit=limit,
        wait=timedelta(seconds=wait),
    )
    return {"value": [_event(event) for event in found], "next": next_}


async def policy_names(services: Services) -> dict[str, str]:
    """The names of the namespace's policies, by their ids."""
    policies = await services.registry.policies(services.namespace)
    return {policy.id: policy.name for policy in policies}


def _authority(authority: Authority) -> dict[str, Any]:
    return {
        "id": authority.id,
        "kind": authority.kind.value,
        "keyType": authority.key_type.value,
        "sha256": authority.sha256.hex(),
        "notBefore": iso8601(authority.not_before),
        "notAfter": iso8601(authority.not_after),
        "revokedAt": iso8601(authority.revoked_at) if authority.revoked_at else None,
    }


def device_body(device: Device, policy_names: dict[str, str]) -> dict[str, Any]:
    """A device as JSON shows it."""
    return {
        "deviceId": device.device_id,
        "uuid": device.uuid,
        "enabled": device.enabled,
        "policy": policy_names.get(device.policy_id or ""),
        "generation": str(device.generation),
        "etag": device.etag,
        "version": device.version,
        "createdAt": iso8601(device.created_at),
        "updatedAt": iso8601(device.updated_at),
    }


def certificate_body(certificate: Certificate, now: datetime) -> dict[str, Any]:
    """A row of the inventory as JSON shows it."""
    return {
        "id": certificate.id,
        "deviceId": certificate.device_id,
        "serialNumber": certificate.serial,
        "sha256": certificate.sha256.hex(),
        "status": certificate.status(now),
        "origin": certificate.origin.value,
        "issuingAuthority": certificate.authority_id,
        "notBefore": iso8601(certificate.not_before),
        "notAfter": iso8601(certificate.not_after),
        "issuedAt": iso8601(certificate.issued_at),
        "revokedAt": iso8601(certificate.revoked_at) if certificate.revoked_at else None,
    }


def _event(event: Event) -> dict[str, Any]:
    """Bodies are bytes; `text` is there as well where they are UTF-8."""
    shown: dict[str, Any] = {
        "sequenceNumber": event.seq,
        "deviceId": event.device_id,
        "enqueuedAt": iso8601(event.enqueued_at),
        "properties": json.loads(event.properties),
        "systemProperties": json.loads(event.system_properties),
        "body": base64.b64encode(event.body).decode(),
    }
    with suppress(UnicodeDecodeError):
        shown["text"] = event.body.decode()
    return shown
