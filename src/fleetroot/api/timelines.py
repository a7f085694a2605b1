"""What became of a device, over the operator API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, namespace_of, needs, of_namespaces
from fleetroot.api.answers import Answer, Page, Time
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument
from fleetroot.hub.timeline import Kind, Moment, Place

router = APIRouter(prefix="/fleetroot", route_class=OperatorRoute)
namespaced = of_namespaces("")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class MomentAnswer(Answer):
    """Something that happened to a device."""

    at: Time
    kind: Kind
    action: str | None
    reason: str | None
    actor: str | None
    peer: str | None
    trace_id: str | None
    hub: str | None
    serial_number: str | None
    sha256: str | None
    issuing_authority: str | None


@router.get("/devices/{device_id}/timeline")
@namespaced.get("/devices/{device_id}/timeline")
@needs(Permission.READ)
async def timeline(
    request: Request,
    device_id: Annotated[str, Path(max_length=128)],
    before: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[MomentAnswer, str]:
    """What became of a device, newest first; `next` is the `before` of the next page."""
    services = services_of(request)
    found, last = await services.hubs.timeline(
        namespace_of(request),
        device_id,
        before=None if before is None else _read(before),
        limit=limit,
    )
    return Page(
        value=[_moment(each) for each in found], next=None if last is None else _shown(last)
    )


def _shown(place: Place) -> str:
    return f"{(place.at - _EPOCH) // _MICROSECOND}.{place.source}.{place.number}"


def _read(text: str) -> Place:
    try:
        at, source, number = map(int, text.split("."))
        place = Place(_EPOCH + at * _MICROSECOND, source, number)
    except (ValueError, OverflowError):
        raise InvalidArgument("before: not the next of a page") from None
    if not (0 <= source < 2**31 and 0 <= number < 2**63):
        raise InvalidArgument("before: not the next of a page")
    return place


def _moment(moment: Moment) -> MomentAnswer:
    return MomentAnswer(
        at=moment.at,
        kind=moment.kind,
        action=moment.action,
        reason=moment.reason,
        actor=moment.actor,
        peer=moment.peer,
        trace_id=moment.trace_id,
        hub=moment.hub,
        serial_number=moment.serial,
        sha256=moment.sha256,
        issuing_authority=moment.authority_id,
    )
