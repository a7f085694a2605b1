"""The audit log over the operator API."""

from __future__ import annotations

from typing import Annotated, Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from fleetroot.access import Permission
from fleetroot.api.access import EverywhereRoute, actor_of, needs
from fleetroot.api.answers import Answer, Page
from fleetroot.api.services import services_of
from fleetroot.audit import ActorKind
from fleetroot.audit.model import Outcome

router = APIRouter(prefix="/fleetroot/audit", route_class=EverywhereRoute)


class AuditEntryAnswer(Answer):
    """An entry: who did what, when, from where. `action` is a word of this API, or of a newer or
    older server's.
    """

    model_config = ConfigDict(alias_generator=to_camel)

    action: str
    actor: str
    actor_kind: ActorKind
    at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    details: dict[str, Any] | None
    namespace: str | None
    outcome: Outcome
    peer: str | None
    reason: str | None
    seq: int
    subject: str
    trace_id: str | None


class ExportResponse(StreamingResponse):
    """JSON lines."""

    media_type = "application/jsonl"


class KeyResponse(Response):
    """A public key, PEM."""

    media_type = "application/x-pem-file"


@router.get("/entries")
@needs(Permission.READ_AUDIT_LOG)
async def entries(
    request: Request,
    before: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    subject: Annotated[str | None, Query(max_length=256)] = None,
) -> Page[AuditEntryAnswer, int]:
    """A page of the log, newest first; `next` is the `before` of the next page."""
    found = await services_of(request).audit_log.page(before=before, limit=limit, subject=subject)
    return Page(
        value=[AuditEntryAnswer.model_validate_json(entry.line) for entry in found],
        next=found[-1].seq if len(found) == limit else None,
    )


@router.post("/export", response_class=ExportResponse)
@needs(Permission.READ_AUDIT_LOG)
async def export(request: Request) -> ExportResponse:
    """The whole log as JSON lines, with its checkpoints, the newest written just now; that it was
    exported is its last entry.
    """
    log = services_of(request).audit_log
    await log.note_export(actor_of(request))
    await log.write()
    return ExportResponse(log.export())


@router.get("/key", response_class=KeyResponse)
@needs(Permission.READ)
async def key(request: Request) -> KeyResponse:
    """The public key that checkpoints are verified with, PEM."""
    found = services_of(request).audit_log.public_key
    pem = found.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return KeyResponse(pem)
