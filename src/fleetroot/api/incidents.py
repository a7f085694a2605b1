"""Incidents over the operator API: which certificates, and revoking them at a pace."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from fleetroot.access import Permission
from fleetroot.access.approvals import Guarded
from fleetroot.api.access import NamespaceRoute, actor_of, namespace_of, needs
from fleetroot.api.answers import Answer, Hex, Listed, Nothing, Page, Time, left_out
from fleetroot.api.description import Responses, answers
from fleetroot.api.sent_times import SentTime
from fleetroot.api.services import services_of
from fleetroot.clock import iso8601
from fleetroot.errors import InvalidArgument
from fleetroot.ids import canonical, check_device_id
from fleetroot.provisioning.model import EnrollmentKind
from fleetroot.registry.incidents import MAX_DEVICES, Cursor, Scope
from fleetroot.registry.inventory import RevocationReason
from fleetroot.registry.model import Certificate, Origin
from fleetroot.registry.revocation_jobs import MAX_PACE, Job, State

router = APIRouter(prefix="/fleetroot/namespaces/{namespace}/incidents", route_class=NamespaceRoute)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_Name = Annotated[str, Field(min_length=1, max_length=128)]
_Namespace = Annotated[str, Path(max_length=128)]
_JobId = Annotated[str, Path(max_length=64)]


class Reason(StrEnum):
    """Why certificates are revoked (RFC 5280 §5.3.1)."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"


class Form(StrEnum):
    """What an export is written in."""

    CSV = "csv"
    JSON_LINES = "jsonl"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class ScopeBody(_Body):
    """Certificates for which all is true that is given: issued by this CA, from a time on, before
    a time, to one of these devices, to devices of this enrollment or enrollment group. One of CA,
    devices and enrollment must be.
    """

    authority: _Name | None = None
    since: SentTime | None = Field(default=None, alias="from")
    until: SentTime | None = Field(default=None, alias="to")
    devices: list[_Name] = Field(default_factory=list, max_length=MAX_DEVICES)
    enrollment: _Name | None = None
    enrollment_group: _Name | None = None
    provisioning_service: _Name | None = None


class ListBody(ScopeBody):
    """A page of a scope."""

    after: str | None = Field(default=None, max_length=64)
    limit: int = Field(default=100, ge=1, le=1000)


class RevokeBody(ScopeBody):
    """A revocation: at most `pace` certificates a second."""

    pace: int = Field(default=50, ge=1, le=MAX_PACE)
    reason: Annotated[Reason, Field(strict=False)] = Reason.UNSPECIFIED


class ScopedCertificate(Answer):
    """A certificate of a scope."""

    device_id: str
    serial_number: str
    sha256: Hex
    status: str
    origin: Origin
    issuing_authority: str
    enrollment: str | None
    issued_at: Time
    not_before: Time
    not_after: Time
    revoked_at: Time | None
    revocation_reason: str | None


class SummaryAnswer(Answer):
    """What a scope has: all of it, what a revocation would revoke, and the rest by why not."""

    certificates: int
    to_revoke: int
    revoked: int
    expired: int


class ScopeAnswer(Answer):
    """What the scope of a revocation was given."""

    authority: str | Nothing = left_out()
    since: Time | Nothing = left_out("from")
    until: Time | Nothing = left_out("to")
    devices: list[str] | Nothing = left_out()
    enrollment: str | Nothing = left_out()


class JobAnswer(Answer):
    """A revocation at a pace."""

    id: str
    state: State
    scope: ScopeAnswer
    reason: RevocationReason
    pace: int
    to_revoke: int
    revoked: int
    requested_by: str
    created_at: Time
    ended_at: Time | None


class ExportResponse(StreamingResponse):
    """JSON lines, or CSV."""

    media_type = "application/jsonl"


_EXPORT: Final[Responses] = {200: {"content": {"text/csv": {}}}}


@router.post("/certificates")
@needs(Permission.READ)
async def list_(
    request: Request, namespace: _Namespace, body: ListBody
) -> Page[ScopedCertificate, str]:
    """A page of the certificates of a scope, in the order in which they were issued; `next` is the
    `after` of the next page.
    """
    services = services_of(request)
    after = None if body.after is None else _read_cursor(body.after)
    scope = await _scope(request, namespace, body)
    found, cursor = await services.revocation_jobs.page(scope, after, limit=body.limit)
    now = services.clock.now()
    return Page(
        value=[_certificate(each, now) for each in found],
        next=None if cursor is None else _shown_cursor(cursor),
    )


@router.post("/summary")
@needs(Permission.READ)
async def summary(request: Request, namespace: _Namespace, body: ScopeBody) -> SummaryAnswer:
    """How many certificates a scope has, and how many a revocation would revoke: its dry run."""
    found = await services_of(request).revocation_jobs.summary(
        await _scope(request, namespace, body)
    )
    return SummaryAnswer(
        certificates=found.certificates,
        to_revoke=found.alive,
        revoked=found.revoked,
        expired=found.expired,
    )


@router.post("/export", response_class=ExportResponse, responses=_EXPORT)
@needs(Permission.READ)
async def export(
    request: Request,
    namespace: _Namespace,
    body: ScopeBody,
    form: Annotated[Form, Query(alias="format")] = Form.JSON_LINES,
) -> ExportResponse:
    """Every certificate of a scope, as CSV with a line of names or as JSON lines."""
    services = services_of(request)
    scope = await _scope(request, namespace, body)
    await services.revocation_jobs.page(scope, limit=1)  # whatever is wrong is told before
    pages, now = services.revocation_jobs.pages(scope), services.clock.now()
    if form is Form.CSV:
        return ExportResponse(_lines(pages, now, _csv, head=_HEAD), media_type="text/csv")
    return ExportResponse(_lines(pages, now, _json))


@router.post("/revocations", status_code=201, responses=answers(409))
@needs(Permission.WRITE_CREDENTIALS)
async def revoke(request: Request, namespace: _Namespace, body: RevokeBody) -> JobAnswer:
    """Begins to revoke what the scope has now. It can be set to need a second person."""
    services, reason = services_of(request), RevocationReason(body.reason.value)
    scope = await _scope(request, namespace, body)
    await services.revocation_jobs.page(scope, limit=1)  # what cannot be is not approved
    subject = f"incident/{namespace_of(request).name}/{_told(scope, reason)}"
    await services.access.claim(Guarded.REVOKE_INCIDENT, subject, by=actor_of(request))
    job = await services.revocation_jobs.start(
        scope, pace=body.pace, reason=reason, by=actor_of(request)
    )
    return _job(job)


@router.get("/revocations")
@needs(Permission.READ)
async def revocations(request: Request, namespace: _Namespace) -> Listed[JobAnswer]:
    """The newest revocations, newest first."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return Listed(value=[_job(each) for each in await services.revocation_jobs.all(of)])


@router.get("/revocations/{job_id}")
@needs(Permission.READ)
async def revocation(request: Request, namespace: _Namespace, job_id: _JobId) -> JobAnswer:
    """One revocation, and how far it is."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return _job(await services.revocation_jobs.get(of, job_id))


@router.post("/revocations/{job_id}/cancel")
@needs(Permission.WRITE_CREDENTIALS)
async def cancel(request: Request, namespace: _Namespace, job_id: _JobId) -> JobAnswer:
    """Ends a revocation; what it has revoked stays revoked."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return _job(await services.revocation_jobs.cancel(of, job_id, by=actor_of(request)))


async def _scope(request: Request, namespace: str, body: ScopeBody) -> Scope:
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    if body.enrollment is not None and body.enrollment_group is not None:
        raise InvalidArgument("enrollment: give this or enrollmentGroup, not both")
    enrollment, kind = body.enrollment, EnrollmentKind.INDIVIDUAL
    if body.enrollment_group is not None:
        enrollment, kind = body.enrollment_group, EnrollmentKind.GROUP
    named = None
    if enrollment is not None:
        service = await services.administration.service(body.provisioning_service)
        named = services.administration.enrollment_name(service, kind, enrollment)
    return Scope(
        of.id,
        body.authority,
        body.since,
        body.until,
        tuple(dict.fromkeys(canonical(check_device_id(each)) for each in body.devices)),
        named,
    )


def _told(scope: Scope, reason: RevocationReason) -> str:
    """What a second person approves: the scope in words, and a digest of all of it, by which no
    approval is good for another one.
    """
    devices = len(scope.device_keys)
    words = {
        "authority": scope.authority_id,
        "from": scope.since and iso8601(scope.since),
        "to": scope.until and iso8601(scope.until),
        "enrollment": shown_enrollment(scope.enrollment),
        "devices": scope.device_keys[0] if devices == 1 else devices or None,
        "reason": reason.value,
    }
    digest = hashlib.sha256(f"{reason.value} {scope.to_json()}".encode()).hexdigest()
    said = [f"{name}={value}" for name, value in words.items() if value is not None]
    return " ".join((*said, f"sha256={digest}"))


def _shown_cursor(cursor: Cursor) -> str:
    return f"{(cursor.issued_at - _EPOCH) // _MICROSECOND}.{cursor.id}"


def _read_cursor(text: str) -> Cursor:
    try:
        at, _, id_ = text.partition(".")
        cursor = Cursor(_EPOCH + int(at) * _MICROSECOND, int(id_))
    except (ValueError, OverflowError):
        raise InvalidArgument("after: not the next of a page") from None
    if not 0 <= cursor.id < 2**63:
        raise InvalidArgument("after: not the next of a page")
    return cursor


def shown_enrollment(name: str | None) -> str | None:
    """An enrollment of the inventory as JSON shows it: `group/plant-7` or `individual/dev-1`."""
    return None if name is None else name.partition("/")[2]


def _certificate(certificate: Certificate, now: datetime) -> ScopedCertificate:
    return ScopedCertificate(
        device_id=certificate.device_id,
        serial_number=certificate.serial,
        sha256=certificate.sha256,
        status=certificate.status(now),
        origin=certificate.origin,
        issuing_authority=certificate.authority_id,
        enrollment=shown_enrollment(certificate.enrollment),
        issued_at=certificate.issued_at,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        revoked_at=certificate.revoked_at,
        revocation_reason=certificate.revocation_reason,
    )


_NAMES: Final = [to_camel(name) for name in ScopedCertificate.model_fields]
_HEAD: Final = (",".join(_NAMES) + "\r\n").encode()


async def _lines(
    pages: AsyncIterator[list[Certificate]],
    now: datetime,
    write: Callable[[list[dict[str, Any]]], bytes],
    *,
    head: bytes = b"",
) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for page in pages:
        yield write([_certificate(each, now).model_dump(by_alias=True) for each in page])


def _json(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def _csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, _NAMES).writerows(rows)
    return text.getvalue().encode()


def _job(job: Job) -> JobAnswer:
    scope = job.scope
    return JobAnswer(
        id=job.id,
        state=job.state,
        scope=ScopeAnswer(
            authority=scope.authority_id,
            since=scope.since,
            until=scope.until,
            devices=list(scope.device_keys) or None,
            enrollment=shown_enrollment(scope.enrollment),
        ),
        reason=job.reason,
        pace=job.pace,
        to_revoke=job.found,
        revoked=job.revoked,
        requested_by=job.by.name,
        created_at=job.created_at,
        ended_at=job.ended_at,
    )
