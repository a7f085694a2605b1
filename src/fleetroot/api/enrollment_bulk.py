"""Changes of several enrollments in one call, over the provisioning service API.

What is not of its type refuses the call; an item that breaks a rule is told among the errors, and
the others are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Request
from pydantic import Field

from fleetroot.access import Permission
from fleetroot.api.access import actor_of
from fleetroot.api.answers import Answer, Nothing, left_out
from fleetroot.api.description import answers
from fleetroot.api.enrollment_bodies import AttestationBody, EnrollmentBody, Wire
from fleetroot.api.enrollment_translation import Translation
from fleetroot.api.preconditions import MAX_ETAG, bare
from fleetroot.api.provisioning_routes import Addressed, ApiVersion, asks, provisioning_router
from fleetroot.api.services import services_of
from fleetroot.errors import FleetrootError, InvalidArgument
from fleetroot.ids import canonical, check_registration_id
from fleetroot.provisioning.bulk import MAX_ITEMS, BulkMode, NotDone, WantedEnrollment
from fleetroot.provisioning.model import Attestation, EnrollmentKind, Service
from fleetroot.registry.shared_access import Right

router: Final[APIRouter] = provisioning_router()

_Id = Annotated[str, Field(max_length=256)]
_Mode = Annotated[BulkMode, Field(strict=False)]
_Size = Field(min_length=1, max_length=MAX_ITEMS)
_NO_ATTESTATION: Final = AttestationBody(type=Attestation.SYMMETRIC_KEY)


class _Item(EnrollmentBody):
    attestation: AttestationBody = _NO_ATTESTATION
    etag: Annotated[str, Field(max_length=MAX_ETAG)] | None = None


class EnrollmentItem(_Item):
    """An individual enrollment; of one that is to be deleted, the id is enough."""

    registration_id: _Id = Field(alias="registrationId")


class GroupItem(_Item):
    """An enrollment group; of one that is to be deleted, the id is enough."""

    enrollment_group_id: _Id = Field(alias="enrollmentGroupId")


class EnrollmentsBody(Wire):
    """What to do with these individual enrollments."""

    mode: _Mode
    enrollments: Annotated[list[EnrollmentItem], _Size]


class GroupsBody(Wire):
    """What to do with these enrollment groups."""

    mode: _Mode
    groups: Annotated[list[GroupItem], _Size] = Field(alias="enrollmentGroups")


class NotDoneAnswer(Answer):
    """An item that was not made so, and why."""

    registration_id: str | Nothing = left_out()
    enrollment_group_id: str | Nothing = left_out()
    error_code: int
    error_status: str


class BulkAnswer(Answer):
    """Whether all of them were; those that are not among the errors were."""

    is_successful: bool
    errors: list[NotDoneAnswer]


@router.post("/enrollments", responses=answers(409))
@asks(Right.ENROLLMENT_WRITE, Permission.WRITE_ENROLLMENTS)
async def change_enrollments(
    request: Request, service: Addressed, version: ApiVersion, body: EnrollmentsBody
) -> BulkAnswer:
    """Creates, replaces or deletes up to ten individual enrollments."""
    items = [(each.registration_id, each) for each in body.enrollments]
    translation = await Translation.of(request, service, EnrollmentKind.INDIVIDUAL, version)
    return await _change(request, service, translation, body.mode, items)


@router.post("/enrollmentGroups", responses=answers(409))
@asks(Right.ENROLLMENT_WRITE, Permission.WRITE_ENROLLMENTS)
async def change_groups(
    request: Request, service: Addressed, version: ApiVersion, body: GroupsBody
) -> BulkAnswer:
    """Creates, replaces or deletes up to ten enrollment groups."""
    items = [(each.enrollment_group_id, each) for each in body.groups]
    translation = await Translation.of(request, service, EnrollmentKind.GROUP, version)
    return await _change(request, service, translation, body.mode, items)


async def _change(
    request: Request,
    service: Service,
    translation: Translation,
    mode: BulkMode,
    items: Sequence[tuple[str, _Item]],
) -> BulkAnswer:
    if len({canonical(id_) for id_, _ in items}) != len(items):
        raise InvalidArgument("an id comes twice")
    wanted: dict[str, WantedEnrollment | None] = {}
    not_done: list[NotDone] = []
    for id_, item in items:
        try:
            wanted[id_] = _read(translation, mode, id_, item)
        except FleetrootError as error:
            not_done.append(NotDone(id_, error))
    not_done += await services_of(request).administration.change_many(
        service, translation.kind, mode, wanted, by=actor_of(request)
    )
    order = [id_ for id_, _ in items]
    not_done.sort(key=lambda each: order.index(each.id))
    is_group = translation.kind is EnrollmentKind.GROUP
    return BulkAnswer(
        is_successful=not not_done,
        errors=[
            NotDoneAnswer(
                registration_id=None if is_group else each.id,
                enrollment_group_id=each.id if is_group else None,
                error_code=each.error.code.value,
                error_status=each.error.message,
            )
            for each in not_done
        ],
    )


def _read(
    translation: Translation, mode: BulkMode, id_: str, item: _Item
) -> WantedEnrollment | None:
    check_registration_id(id_)
    if mode is BulkMode.DELETE:
        return None
    if "attestation" not in item.model_fields_set:
        raise InvalidArgument("attestation: required")
    return translation.read(item, id_, bare(item.etag))
