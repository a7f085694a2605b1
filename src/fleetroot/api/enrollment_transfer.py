"""Import and export of a provisioning service's enrollments, over the operator API.

A row of an import is a body of the service API. It is judged by itself, so that one that cannot be
read refuses itself alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.answers import Answer
from fleetroot.api.description import answers
from fleetroot.api.enrollment_bodies import EnrollmentBody
from fleetroot.api.enrollment_translation import Translation
from fleetroot.api.operator_enrollments import PREFIX, Kind, service_of, translation_of
from fleetroot.api.preconditions import bare
from fleetroot.api.service_routes import ServiceRoute
from fleetroot.api.services import services_of
from fleetroot.errors import FleetrootError, InvalidArgument
from fleetroot.provisioning.administration import EnrollmentWithKeys
from fleetroot.provisioning.exports import Exported
from fleetroot.provisioning.imports import MAX_ROWS, Done, How, Mode, Row
from fleetroot.provisioning.model import EnrollmentKind

router = APIRouter(prefix=PREFIX, route_class=ServiceRoute)

_Etag = Annotated[str, Field(max_length=256)]
_IDS = {EnrollmentKind.INDIVIDUAL: "registrationId", EnrollmentKind.GROUP: "enrollmentGroupId"}


class ImportBody(BaseModel):
    """Rows to import; each is an enrollment as the service API takes it, with its id. To be
    deleted, it needs no more than that.
    """

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)

    mode: Annotated[Mode, Field(strict=False)] = Mode.CREATE
    skip_existing: bool = Field(
        default=False, description="A row that is there as it is sent is left as it is."
    )
    dry_run: bool = False
    enrollments: list[dict[str, Any]] = Field(max_length=MAX_ROWS)


class RefusedRow(Answer):
    """A row that was not taken.

    Attributes:
        row: its place in the request, from 0.
    """

    row: int
    error_code: int
    message: str


class ImportAnswer(Answer):
    """What became of the rows; those that are in `refused` left nothing."""

    created: int
    updated: int
    unchanged: int
    deleted: int
    refused: list[RefusedRow]


class ExportResponse(StreamingResponse):
    """JSON lines."""

    media_type = "application/jsonl"


class _Row(EnrollmentBody):
    etag: _Etag | None = None


class _DeletedRow(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    registration_id: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, alias="registrationId"
    )
    enrollment_group_id: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, alias="enrollmentGroupId"
    )


@router.post("/importEnrollments", responses=answers(409))
@needs(Permission.WRITE_ENROLLMENTS)
async def import_(
    request: Request, body: ImportBody, kind: Kind = EnrollmentKind.INDIVIDUAL
) -> ImportAnswer:
    """Writes up to 1,000 enrollments in one unit of work. A row that cannot be taken is refused,
    and the others are taken.
    """
    administration, service = services_of(request).administration, service_of(request)
    reader = _Reader(await translation_of(request, kind), body.mode)
    read = await asyncio.to_thread(lambda: [reader.read(row) for row in body.enrollments])
    wanted = [row for row in read if isinstance(row, Row)]
    how = How(body.mode, body.skip_existing, body.dry_run)
    taken = iter(await administration.imports.run(service, kind, wanted, how, by=actor_of(request)))
    outcomes = [next(taken) if isinstance(row, Row) else row for row in read]
    return ImportAnswer(
        created=outcomes.count(Done.CREATED),
        updated=outcomes.count(Done.UPDATED),
        unchanged=outcomes.count(Done.UNCHANGED),
        deleted=outcomes.count(Done.DELETED),
        refused=[
            RefusedRow(row=number, error_code=outcome.code.value, message=outcome.message)
            for number, outcome in enumerate(outcomes)
            if isinstance(outcome, FleetrootError)
        ],
    )


@router.post("/exportEnrollments", response_class=ExportResponse)
@needs(Permission.READ)
async def export(request: Request, kind: Kind = EnrollmentKind.INDIVIDUAL) -> ExportResponse:
    """Every enrollment of a kind, by id, as JSON lines; without keys."""
    return ExportResponse(_lines(request, kind, with_keys=False))


@router.post("/exportEnrollmentsWithKeys", response_class=ExportResponse)
@needs(Permission.READ_SECRETS)
async def export_with_keys(
    request: Request, kind: Kind = EnrollmentKind.INDIVIDUAL
) -> ExportResponse:
    """Every enrollment of a kind, by id, as JSON lines, with its keys. It is in the audit log."""
    exports = services_of(request).administration.exports
    await exports.note_keys(service_of(request), kind, by=actor_of(request))
    return ExportResponse(_lines(request, kind, with_keys=True))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads rows of one import; a row that cannot be read gives why."""

    translation: Translation
    mode: Mode

    def read(self, row: dict[str, Any]) -> Row | FleetrootError:
        try:
            if self.mode is Mode.DELETE:
                gone = _DeletedRow.model_validate(row)
                return Row(self._id(gone.registration_id, gone.enrollment_group_id), None)
            body = _Row.model_validate(row)
            id_ = self._id(body.registration_id, body.enrollment_group_id)
            return Row(id_, self.translation.read(body, id_, bare(body.etag)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the row"
            return InvalidArgument(f"{where}: {first['msg']}")
        except FleetrootError as error:
            return error

    def _id(self, registration_id: str | None, group_id: str | None) -> str:
        kind = self.translation.kind
        found = registration_id if kind is EnrollmentKind.INDIVIDUAL else group_id
        if not found:
            raise InvalidArgument(f"{_IDS[kind]}: required")
        return found


async def _lines(
    request: Request, kind: EnrollmentKind, *, with_keys: bool
) -> AsyncIterator[bytes]:
    exports, service = services_of(request).administration.exports, service_of(request)
    translation = await translation_of(request, kind)

    def encoded(page: list[Exported]) -> bytes:
        shown = (translation.show_with_keys(EnrollmentWithKeys(*each)) for each in page)
        return b"".join(each.model_dump_json(by_alias=True).encode() + b"\n" for each in shown)

    async for page in exports.pages(service, kind, with_keys=with_keys):
        yield await asyncio.to_thread(encoded, page)
