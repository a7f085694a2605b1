"""The audit log over the operator API."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, actor_of, needs
from fleetroot.api.services import services_of

router = APIRouter(prefix="/fleetroot/audit", route_class=OperatorRoute)


@router.get("/entries")
@needs(Permission.READ_AUDIT_LOG)
async def entries(
    request: Request,
    before: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    subject: Annotated[str | None, Query(max_length=256)] = None,
) -> dict[str, Any]:
    """A page of the log, newest first; `next` is the `before` of the next page."""
    found = await services_of(request).audit_log.page(before=before, limit=limit, subject=subject)
    return {
        "value": [orjson.loads(entry.line) for entry in found],
        "next": found[-1].seq if len(found) == limit else None,
    }


@router.post("/export")
@needs(Permission.READ_AUDIT_LOG)
async def export(request: Request) -> StreamingResponse:
    """The whole log as JSON lines, with its checkpoints, the newest written just now; that it was
    exported is its last entry.
    """
    log = services_of(request).audit_log
    await log.note_export(actor_of(request))
    await log.write()
    return StreamingResponse(log.export(), media_type="application/jsonl")


@router.get("/key")
@needs(Permission.READ)
async def key(request: Request) -> Response:
    """The public key that checkpoints are verified with, PEM."""
    found = services_of(request).audit_log.public_key
    pem = found.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Response(pem, media_type="application/x-pem-file")
