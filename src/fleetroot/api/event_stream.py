"""Events of a hub as a stream of server-sent events.

Source: HTML Living Standard, "Server-sent events".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

from fleetroot.access import Permission
from fleetroot.api.access import authenticate, needs
from fleetroot.api.answers import RowNumber
from fleetroot.api.description import answers, operation_id
from fleetroot.api.events import TELEMETRY, Kinds, shown
from fleetroot.api.service_routes import HubQueryRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.errors import FleetrootError
from fleetroot.hub.model import Hub
from fleetroot.registry.announcements import EventKind, parse_kinds

_PAGE: Final = 100
_HEARTBEAT: Final = timedelta(seconds=15)  # and how often the caller's right is looked at again
_READER_SECONDS: Final = 30.0  # that a reader may take for a page
router = APIRouter(
    prefix="/fleetroot",
    route_class=HubQueryRoute,
    generate_unique_id_function=partial(operation_id, area="operator"),
)


class EventStreamResponse(StreamingResponse):
    """Server-sent events; a reader that does not read is left."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        async def bounded(message: Message) -> None:
            async with asyncio.timeout(_READER_SECONDS):
                await send(message)

        await super().stream_response(bounded)


@router.get("/events/stream", response_class=EventStreamResponse, responses=answers(404))
@needs(Permission.READ)
async def event_stream(
    request: Request,
    hub: str = "default",
    after: RowNumber = None,
    device: str | None = None,
    kind: Kinds = TELEMETRY,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**63 - 1)] = None,
) -> EventStreamResponse:
    """Events of a hub behind `after`, or behind the header `Last-Event-ID`, or from now on, until
    either side ends it. Each is of the type that its kind names, and `id` is its number.
    """
    of, kinds = await services_of(request).hubs.by_name(hub), parse_kinds(kind)
    start = after if last_event_id is None else last_event_id
    return EventStreamResponse(
        _events(request, of, start, device, kinds), headers={"cache-control": "no-store"}
    )


async def _events(
    request: Request, of: Hub, after: int | None, device: str | None, kinds: frozenset[EventKind]
) -> AsyncIterator[bytes]:
    hubs = services_of(request).hubs
    namespace_id = described_of(request).owner.namespace_id
    yield b": fleetroot\n\n"  # so that the reader knows at once that it is listened to
    wait = timedelta(0)
    while not hubs.is_stopping:
        try:
            after, found = await hubs.events(
                of, after=after, device_id=device, kinds=kinds, limit=_PAGE, wait=wait
            )
            (await authenticate(request)).require(Permission.READ, namespace_id)
        except FleetrootError:
            return  # a reader that comes again is told why
        for event in found:
            data = json.dumps(shown(event).model_dump(mode="json", by_alias=True))
            yield f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n".encode()
        if not found:
            yield f": nothing\nid: {after}\n\n".encode()
        wait = _HEARTBEAT
