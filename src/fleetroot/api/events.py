"""What devices sent to hubs, over the operator API."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request

from fleetroot.access import Permission
from fleetroot.api.access import needs
from fleetroot.api.answers import Answer, Limit, Nothing, Page, RowNumber, Time, left_out
from fleetroot.api.description import answers, operation_id
from fleetroot.api.service_routes import HubQueryRoute
from fleetroot.api.services import services_of
from fleetroot.hub.model import Event
from fleetroot.registry.announcements import parse_kinds

_MAX_WAIT: Final = 30.0  # seconds
TELEMETRY: Final = ("telemetry",)

Kinds = Annotated[
    Sequence[str],
    Query(
        min_length=1,
        max_length=20,
        description="Kinds of events, or groups of them: `telemetry`, `lifecycle`, `twin`, "
        "`certificate`, `all`.",
    ),
]

router = APIRouter(
    prefix="/fleetroot",
    route_class=HubQueryRoute,
    generate_unique_id_function=partial(operation_id, area="operator"),
)


class EventAnswer(Answer):
    """A message of a device, or what happened to it, as JSON: its bytes in base64, and as text
    where they are UTF-8.
    """

    sequence_number: int
    kind: str
    device_id: str
    enqueued_at: Time
    properties: dict[str, Any]
    system_properties: dict[str, Any]
    body: str
    text: str | Nothing = left_out()


@router.get("/events", responses=answers(404))
@needs(Permission.READ)
async def events(
    request: Request,
    hub: str = "default",
    after: RowNumber = None,
    device: str | None = None,
    kind: Kinds = TELEMETRY,
    limit: Limit = 100,
    last: Annotated[int | None, Query(ge=0, le=1000)] = None,
    wait: Annotated[float, Query(ge=0, le=_MAX_WAIT)] = 0.0,
) -> Page[EventAnswer, int]:
    """Events of a hub behind `after` (left out: from now on), waiting up to `wait` seconds for one;
    or, with `last`, its newest. `next` is the `after` to go on with.
    """
    services = services_of(request)
    of = await services.hubs.by_name(hub)
    if last is not None:
        next_, found = await services.hubs.newest_events(
            of, device_id=device, kinds=parse_kinds(kind), limit=last
        )
        return Page(value=[shown(event) for event in found], next=next_)
    next_, found = await services.hubs.events(
        of,
        after=after,
        device_id=device,
        kinds=parse_kinds(kind),
        limit=limit,
        wait=timedelta(seconds=wait),
    )
    return Page(value=[shown(event) for event in found], next=next_)


def shown(event: Event) -> EventAnswer:
    """An event as it is answered."""
    return EventAnswer(
        sequence_number=event.seq,
        kind=event.kind,
        device_id=event.device_id,
        enqueued_at=event.enqueued_at,
        properties=json.loads(event.properties),
        system_properties=json.loads(event.system_properties),
        body=base64.b64encode(event.body).decode(),
        text=_text(event.body),
    )


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
