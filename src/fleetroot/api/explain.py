"""Why a device does not come in: the state that decides, and its last refusals.

Below `/fleetroot/`, like the rest of the operator API. Everything that decides is read from the
rooms, in the words by which they refuse; this only lays it side by side.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, namespace_of, needs, of_namespaces
from fleetroot.api.answers import Answer, Listed, Time
from fleetroot.api.certificates import CertificateAnswer, certificate_body
from fleetroot.api.devices import DeviceAnswer, device_body, policy_names
from fleetroot.api.service_routes import ServiceQueryRoute
from fleetroot.api.services import services_of
from fleetroot.gateway.reasons import ADVICE
from fleetroot.gateway.refusal_history import Record, RefusalHistory, SubjectKind
from fleetroot.hub.model import Pin
from fleetroot.hub.standing import IdentityStanding
from fleetroot.ids import canonical
from fleetroot.provisioning.model import (
    Attestation,
    Enrollment,
    EnrollmentKind,
    Registration,
    Status,
    Substatus,
)

router = APIRouter(prefix="/fleetroot", route_class=OperatorRoute)
namespaced = of_namespaces("")
of_services = APIRouter(prefix="/fleetroot", route_class=ServiceQueryRoute)

_MAX_GROUPS = 20  # of enrollment groups that are listed


class ReasonAnswer(Answer):
    """A reason for which a device is refused, and what to do about it."""

    reason: str
    advice: str


class OccurrenceAnswer(Answer):
    """One refusal."""

    at: Time
    peer: str
    tracking_id: str
    detail: str


class RefusalAnswer(Answer):
    """The refusals of one id for one reason from one source; `last` are the newest, newest first.

    Attributes:
        at: where the id was shown.
    """

    subject: SubjectKind
    id: str
    at: str
    kind: str
    reason: str
    advice: str
    source: str
    count: int
    first_at: Time
    last_at: Time
    last: list[OccurrenceAnswer]


class EnrollmentSummary(Answer):
    """An enrollment in short."""

    kind: EnrollmentKind
    id: str
    enabled: bool
    attestation: Attestation
    policy: str | None


class RegistrationAnswer(Answer):
    """One device's record of having provisioned."""

    status: Status
    substatus: Substatus | None
    device_id: str | None
    hub: str | None
    enrollment: str
    certificate_issued: bool
    created_at: Time
    updated_at: Time


class RegistrationExplanation(Answer):
    """What decides about a registration id. Of `enrollmentCount` enrollments, the first are in
    `enrollments`.
    """

    registration_id: str
    provisioning_service: str
    id_scope: str
    against: list[ReasonAnswer]
    enrollments: list[EnrollmentSummary]
    enrollment_count: int
    registration: RegistrationAnswer | None
    device: DeviceAnswer | None
    refusals: list[RefusalAnswer]


class IdentityAnswer(Answer):
    """A device's identity on one hub."""

    hub: str
    host_name: str
    pinned_to: Pin
    policy: str | None
    enabled: bool
    connected: bool
    connection_changed_at: Time | None
    against: list[ReasonAnswer]


class DeviceExplanation(Answer):
    """What decides about a device."""

    device_id: str
    against: list[ReasonAnswer]
    device: DeviceAnswer | None
    identities: list[IdentityAnswer]
    certificates: list[CertificateAnswer]
    refusals: list[RefusalAnswer]


@of_services.get("/registrations/{registration_id}/explanation")
@needs(Permission.READ)
async def registration(
    request: Request, registration_id: str, service: str | None = None
) -> RegistrationExplanation:
    """Which enrollment would answer for a registration id, what stands against it, and its last
    refusals. An id that nobody knows has an explanation too.
    """
    services = services_of(request)
    found = await services.administration.standing(
        await services.administration.service(service), registration_id
    )
    names = await policy_names(request)
    return RegistrationExplanation(
        registration_id=found.registration_id,
        provisioning_service=found.service.name,
        id_scope=found.service.id_scope,
        against=[_advised(reason) for reason in found.against],
        enrollments=[_enrollment(one, names) for one in found.enrollments[:_MAX_GROUPS]],
        enrollment_count=len(found.enrollments),
        registration=_registration(found.registration, found.hub_host),
        device=device_body(found.device, names) if found.device else None,
        refusals=await _refusals(request, SubjectKind.REGISTRATION, registration_id),
    )


@router.get("/devices/{device_id}/explanation")
@namespaced.get("/devices/{device_id}/explanation")
@needs(Permission.READ)
async def device(request: Request, device_id: str) -> DeviceExplanation:
    """What a hub holds a device against, its certificates, connections and last refusals. An id
    that nobody knows has an explanation too.
    """
    services = services_of(request)
    found = await services.hubs.standing(namespace_of(request), device_id)
    names = await policy_names(request)
    now = services.clock.now()
    against = [] if found.identities else [_advised("no such device on this hub")]
    return DeviceExplanation(
        device_id=found.device.device_id if found.device else device_id,
        against=against,
        device=device_body(found.device, names) if found.device else None,
        identities=[_identity(one, names) for one in found.identities],
        certificates=[certificate_body(one, now) for one in found.certificates],
        refusals=await _refusals(request, SubjectKind.DEVICE, device_id),
    )


@router.get("/refusals")
@needs(Permission.READ)
async def refusals(
    request: Request, tracking_id: Annotated[str, Query(alias="trackingId", max_length=64)]
) -> Listed[RefusalAnswer]:
    """The refusals of the connection or request that had this tracking id."""
    return Listed(value=[_record(one) for one in _history(request).by_trace_id(tracking_id)])


def _history(request: Request) -> RefusalHistory:
    history: RefusalHistory = request.app.state.refusals.history
    return history


async def _refusals(request: Request, kind: SubjectKind, id_: str) -> list[RefusalAnswer]:
    """The last refusals of an id, but for those by what is another namespace's."""
    services, of = services_of(request), namespace_of(request)
    hubs = await services.hub_administration.list_all()
    scopes = await services.provisioning_services.list_all()
    elsewhere = {canonical(each.hub.host_name) for each in hubs if each.hub.namespace_id != of.id}
    elsewhere |= {
        canonical(each.service.id_scope) for each in scopes if each.service.namespace_id != of.id
    }
    return [
        _record(record)
        for record in _history(request).of(kind, id_)
        if canonical(record.subject.at) not in elsewhere
    ]


def _record(record: Record) -> RefusalAnswer:
    return RefusalAnswer(
        subject=record.subject.kind,
        id=record.subject.id,
        at=record.subject.at,
        kind=record.kind,
        reason=record.reason,
        advice=ADVICE[record.reason],
        source=record.source,
        count=record.count,
        first_at=record.first,
        last_at=record.last[-1].time,
        last=[
            OccurrenceAnswer(
                at=each.time, peer=each.peer, tracking_id=each.trace_id, detail=each.detail
            )
            for each in reversed(record.last)
        ],
    )


def _advised(reason: str) -> ReasonAnswer:
    return ReasonAnswer(reason=reason, advice=ADVICE[reason])


def _enrollment(enrollment: Enrollment, names: dict[str, str]) -> EnrollmentSummary:
    settings = enrollment.settings
    return EnrollmentSummary(
        kind=enrollment.kind,
        id=enrollment.id,
        enabled=settings.enabled,
        attestation=settings.attestation,
        policy=names.get(settings.policy_id or ""),
    )


def _registration(
    registration: Registration | None, hub_host: str | None
) -> RegistrationAnswer | None:
    if registration is None:
        return None
    return RegistrationAnswer(
        status=registration.status,
        substatus=registration.substatus,
        device_id=registration.device_id,
        hub=hub_host,
        enrollment=registration.enrollment_id,
        certificate_issued=registration.certificate_sha256 is not None,
        created_at=registration.created_at,
        updated_at=registration.updated_at,
    )


def _identity(standing: IdentityStanding, names: dict[str, str]) -> IdentityAnswer:
    identity = standing.identity
    return IdentityAnswer(
        hub=standing.hub.name,
        host_name=standing.hub.host_name,
        pinned_to=identity.pin,
        policy=names.get(identity.policy_id or ""),
        enabled=identity.enabled,
        connected=identity.connected,
        connection_changed_at=identity.connection_changed_at,
        against=[_advised(reason) for reason in standing.against],
    )
