"""What became of a device, over the operator API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, needs
from fleetroot.api.services import services_of
from fleetroot.clock import iso8601
from fleetroot.errors import InvalidArgument
from fleetroot.hub.timeline import Moment, Place

router = APIRouter(prefix="/fleetroot", route_class=OperatorRoute)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class MomentAnswer(BaseModel):
    """Something that happened to a device."""

    model_config = ConfigDict(populate_by_name=True)

    at: str
    kind: str
    action: str | None
    reason: str | None
    actor: str | None
    peer: str | None
    trace_id: str | None = Field(alias="traceId")
    hub: str | None
    serial_number: str | None = Field(alias="serialNumber")
    sha256: str | None
    issuing_authority: str | None = Field(alias="issuingAuthority")


class TimelineAnswer(BaseModel):
    """A page, newest first; `next` is the `before` of the next page."""

    value: list[MomentAnswer]
    next: str | None


@router.get("/devices/{device_id}/timeline")
@needs(Permission.READ)
async def timeline(
    request: Request,
    device_id: Annotated[str, Path(max_length=128)],
    before: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> TimelineAnswer:
    """What became of a device, newest first."""
    services = services_of(request)
    found, last = await services.hubs.timeline(
        services.namespace,
        device_id,
        before=None if before is None else _read(before),
        limit=limit,
    )
    return TimelineAnswer(
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
        at=iso8601(moment.at),
        kind=moment.kind.value,
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
