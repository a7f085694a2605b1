"""Devices that wait for approval, over the operator API."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.answers import Answer, Nothing, Page, Time, left_out
from fleetroot.api.service_routes import ServiceRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument
from fleetroot.provisioning.model import EnrollmentKind, Service
from fleetroot.provisioning.pending import PendingRegistration
from fleetroot.provisioning.quarantine import MAX_NAMED, Quarantine
from fleetroot.provisioning.service_administration import DescribedService

router = APIRouter(
    prefix="/fleetroot/provisioning-services/{service}/quarantine",
    route_class=ServiceRoute,
)

_MAX_PAGE: Final = 1000
_Service = Annotated[str, Path(max_length=128)]
_Id = Annotated[str, Field(min_length=1, max_length=128)]
_IdQuery = Annotated[str | None, Query(min_length=1, max_length=128)]


class DecisionBody(BaseModel):
    """Which registrations: these, or all that wait under an enrollment or an enrollment group."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)

    registration_ids: Annotated[list[_Id], Field(max_length=MAX_NAMED)] | None = None
    enrollment: _Id | None = None
    enrollment_group: _Id | None = None


class WaitingAnswer(Answer):
    """A registration that waits, or was rejected."""

    registration_id: str
    enrollment_group: str | Nothing = left_out()
    enrollment: str | Nothing = left_out()
    peer: str | Nothing = left_out()
    created_at: Time
    updated_at: Time


class DecidedAnswer(Answer):
    """How many registrations were decided about."""

    decided: int


@router.get("")
@needs(Permission.READ)
async def list_(
    request: Request,
    service: _Service,
    *,
    enrollment: _IdQuery = None,
    enrollment_group: Annotated[
        str | None, Query(alias="enrollmentGroup", min_length=1, max_length=128)
    ] = None,
    rejected: bool = False,
    after: Annotated[str, Query(max_length=128)] = "",
    limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 100,
) -> Page[WaitingAnswer, str]:
    """The registrations that wait for approval, by id; or those that were rejected."""
    quarantine, found = _of(request)
    page = await quarantine.page(
        found,
        _enrollment(enrollment, enrollment_group),
        rejected=rejected,
        after=after,
        limit=limit,
    )
    return Page(
        value=[_shown(each) for each in page],
        next=page[-1].registration_id if len(page) == limit else None,
    )


@router.post("/approve")
@needs(Permission.WRITE_ENROLLMENTS)
async def approve(request: Request, service: _Service, body: DecisionBody) -> DecidedAnswer:
    """Lets devices in, each with its next call."""
    quarantine, found = _of(request)
    by, named = actor_of(request), _named(body)
    if isinstance(named, list):
        return DecidedAnswer(decided=await quarantine.approve(found, named, by=by))
    return DecidedAnswer(decided=await quarantine.approve_all(found, named, by=by))


@router.post("/reject")
@needs(Permission.WRITE_ENROLLMENTS)
async def reject(request: Request, service: _Service, body: DecisionBody) -> DecidedAnswer:
    """Keeps devices out until they are approved."""
    quarantine, found = _of(request)
    by, named = actor_of(request), _named(body)
    if isinstance(named, list):
        return DecidedAnswer(decided=await quarantine.reject(found, named, by=by))
    return DecidedAnswer(decided=await quarantine.reject_all(found, named, by=by))


def _of(request: Request) -> tuple[Quarantine, Service]:
    found = described_of(request)
    assert isinstance(found, DescribedService)  # noqa: S101 - of this route
    return services_of(request).quarantine, found.service


def _named(body: DecisionBody) -> list[str] | tuple[EnrollmentKind, str]:
    enrollment = _enrollment(body.enrollment, body.enrollment_group)
    if body.registration_ids is not None:
        if enrollment is not None:
            raise InvalidArgument("name registrations or an enrollment, not both")
        return body.registration_ids
    if enrollment is None:
        raise InvalidArgument("name registrations, an enrollment or an enrollment group")
    return enrollment


def _enrollment(individual: str | None, group: str | None) -> tuple[EnrollmentKind, str] | None:
    if individual and group:
        raise InvalidArgument("name an enrollment or an enrollment group, not both")
    if individual:
        return EnrollmentKind.INDIVIDUAL, individual
    return (EnrollmentKind.GROUP, group) if group else None


def _shown(each: PendingRegistration) -> WaitingAnswer:
    of_group = each.enrollment_kind is EnrollmentKind.GROUP
    return WaitingAnswer(
        registration_id=each.registration_id,
        enrollment_group=each.enrollment_id if of_group else None,
        enrollment=None if of_group else each.enrollment_id,
        peer=each.peer,
        created_at=each.created_at,
        updated_at=each.updated_at,
    )
