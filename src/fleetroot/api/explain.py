"""Why a device does not come in: the state that decides, and its last refusals.

Below `/fleetroot/`, like the rest of the operator API. Everything that decides is read from the
rooms, in the words by which they refuse; this only lays it side by side.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, needs
from fleetroot.api.operator import certificate_body, device_body, policy_names
from fleetroot.api.services import services_of
from fleetroot.clock import iso8601
from fleetroot.gateway.reasons import ADVICE
from fleetroot.gateway.refusal_history import Record, RefusalHistory, SubjectKind
from fleetroot.hub.standing import IdentityStanding
from fleetroot.provisioning.model import Enrollment, Registration

router = APIRouter(prefix="/fleetroot", route_class=OperatorRoute)

_MAX_GROUPS = 20  # of enrollment groups that are listed


@router.get("/registrations/{registration_id}/explanation")
@needs(Permission.READ)
async def registration(
    request: Request, registration_id: str, service: str | None = None
) -> dict[str, Any]:
    """Which enrollment would answer for a registration id, what stands against it, and its last
    refusals. An id that nobody knows has an explanation too.
    """
    services = services_of(request)
    found = await services.administration.standing(
        await services.administration.service(service), registration_id
    )
    names = await policy_names(services)
    return {
        "registrationId": found.registration_id,
        "provisioningService": found.service.name,
        "idScope": found.service.id_scope,
        "against": [_advised(reason) for reason in found.against],
        "enrollments": [_enrollment(one, names) for one in found.enrollments[:_MAX_GROUPS]],
        "enrollmentCount": len(found.enrollments),
        "registration": _registration(found.registration, found.hub_host),
        "device": device_body(found.device, names) if found.device else None,
        "refusals": _refusals(request, SubjectKind.REGISTRATION, registration_id),
    }


@router.get("/devices/{device_id}/explanation")
@needs(Permission.READ)
async def device(request: Request, device_id: str) -> dict[str, Any]:
    """What a hub holds a device against, its certificates, connections and last refusals. An id
    that nobody knows has an explanation too.
    """
    services = services_of(request)
    found = await services.hubs.standing(services.namespace, device_id)
    names = await policy_names(services)
    now = services.clock.now()
    against = [] if found.identities else [_advised("no such device on this hub")]
    return {
        "deviceId": found.device.device_id if found.device else device_id,
        "against": against,
        "device": device_body(found.device, names) if found.device else None,
        "identities": [_identity(one, names) for one in found.identities],
        "certificates": [certificate_body(one, now) for one in found.certificates],
        "refusals": _refusals(request, SubjectKind.DEVICE, device_id),
    }


@router.get("/refusals")
@needs(Permission.READ)
async def refusals(
    request: Request, tracking_id: Annotated[str, Query(alias="trackingId", max_length=64)]
) -> dict[str, Any]:
    """The refusals of the connection or request that had this tracking id."""
    return {"value": [_record(one) for one in _history(request).by_trace_id(tracking_id)]}


def _history(request: Request) -> RefusalHistory:
    history: RefusalHistory = request.app.state.refusals.history
    return history


def _refusals(request: Request, kind: SubjectKind, id_: str) -> list[dict[str, Any]]:
    return [_record(record) for record in _history(request).of(kind, id_)]


def _record(record: Record) -> dict[str, Any]:
    return {
        "subject": record.subject.kind.value,
        "id": record.subject.id,
        "at": record.subject.at,
        "kind": record.kind,
        "reason": record.reason,
        "advice": ADVICE[record.reason],
        "source": record.source,
        "count": record.count,
        "firstAt": iso8601(record.first),
        "lastAt": iso8601(record.last[-1].time),
        "last": [
            {
                "at": iso8601(each.time),
                "peer": each.peer,
                "trackingId": each.trace_id,
                "detail": each.detail,
            }
            for each in reversed(record.last)
        ],
    }


def _advised(reason: str) -> dict[str, str]:
    return {"reason": reason, "advice": ADVICE[reason]}


def _enrollment(enrollment: Enrollment, names: dict[str, str]) -> dict[str, Any]:
    settings = enrollment.settings
    return {
        "kind": enrollment.kind.value,
        "id": enrollment.id,
        "enabled": settings.enabled,
        "attestation": settings.attestation.value,
        "policy": names.get(settings.policy_id or ""),
    }


def _registration(registration: Registration | None, hub_host: str | None) -> Any:
    if registration is None:
        return None
    return {
        "status": registration.status.value,
        "substatus": registration.substatus.value if registration.substatus else None,
        "deviceId": registration.device_id,
        "hub": hub_host,
        "enrollment": registration.enrollment_id,
        "certificateIssued": registration.certificate_sha256 is not None,
        "createdAt": iso8601(registration.created_at),
        "updatedAt": iso8601(registration.updated_at),
    }


def _identity(standing: IdentityStanding, names: dict[str, str]) -> dict[str, Any]:
    identity = standing.identity
    changed = identity.connection_changed_at
    return {
        "hub": standing.hub.name,
        "hostName": standing.hub.host_name,
        "pinnedTo": identity.pin.value,
        "policy": names.get(identity.policy_id or ""),
        "enabled": identity.enabled,
        "connected": identity.connected,
        "connectionChangedAt": iso8601(changed) if changed else None,
        "against": [_advised(reason) for reason in standing.against],
    }
