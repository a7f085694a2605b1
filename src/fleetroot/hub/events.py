"""The embedded event log: what devices sent and what happened to them, in the order of commits,
until its time is over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import BigInteger, bindparam, delete, func, select

from fleetroot.hub.model import Event, Message, Principal
from fleetroot.ids import canonical, device_of
from fleetroot.registry.announcements import Announced, EventKind
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import events

_ROW_BYTES: Final = 200  # about what a row takes beside its content
_REMOVE_AT_ONCE: Final = 5000  # rows, so that no unit of work holds up the others for long
_NEWEST_SPAN: Final = 100_000  # the same for the newest
_SPAN: Final = 5000  # rows that one look for some kinds goes through at most

_columns: Final = (
    events.c.seq,
    events.c.kind,
    events.c.device_id,
    events.c.enqueued_at,
    events.c.properties,
    events.c.system_properties,
    events.c.body,
)
_newest_end: Final = (
    select(events.c.end_offset).order_by(events.c.seq.desc()).limit(1).scalar_subquery()
)
_APPEND: Final = Command(
    insert_into(events, leave_out=["seq", "end_offset"]).values(
        end_offset=func.coalesce(_newest_end, 0) + bindparam("size", type_=BigInteger)
    )
)
_AFTER: Final = Query(
    select(*_columns)
    .where((events.c.hub_id == bindparam("hub")) & (events.c.seq > bindparam("after")))
    .order_by(events.c.seq)
    .limit(bindparam("limit")),
    Event,
)
_AFTER_OF_DEVICE: Final = Query(
    select(*_columns)
    .where(
        (events.c.hub_id == bindparam("hub"))
        & (events.c.seq > bindparam("after"))
        & (events.c.device_key == bindparam("key"))
    )
    .order_by(events.c.seq)
    .limit(bindparam("limit")),
    Event,
)
_of_kinds: Final = events.c.kind.in_([bindparam(f"kind_{n}") for n in range(len(EventKind))])
_in_span: Final = (events.c.seq > bindparam("after")) & (events.c.seq <= bindparam("until"))
_IN_SPAN: Final = Query(
    select(*_columns)
    .where((events.c.hub_id == bindparam("hub")) & _in_span & _of_kinds)
    .order_by(events.c.seq)
    .limit(bindparam("limit")),
    Event,
)
_IN_SPAN_OF_DEVICE: Final = Query(
    select(*_columns)
    .where(
        (events.c.hub_id == bindparam("hub"))
        & (events.c.device_key == bindparam("key"))
        & _in_span
        & _of_kinds
    )
    .order_by(events.c.seq)
    .limit(bindparam("limit")),
    Event,
)
_NEWEST: Final = Query(
    select(*_columns)
    .where(events.c.hub_id == bindparam("hub"))
    .order_by(events.c.seq.desc())
    .limit(bindparam("limit")),
    Event,
)
_NEWEST_OF_KINDS: Final = Query(
    select(*_columns)
    .where((events.c.hub_id == bindparam("hub")) & (events.c.seq > bindparam("after")) & _of_kinds)
    .order_by(events.c.seq.desc())
    .limit(bindparam("limit")),
    Event,
)
_NEWEST_OF_KINDS_OF_DEVICE: Final = Query(
    select(*_columns)
    .where(
        (events.c.hub_id == bindparam("hub"))
        & (events.c.device_key == bindparam("key"))
        & (events.c.seq > bindparam("after"))
        & _of_kinds
    )
    .order_by(events.c.seq.desc())
    .limit(bindparam("limit")),
    Event,
)
_NEWEST_OF_DEVICE: Final = Query(
    select(*_columns)
    .where((events.c.hub_id == bindparam("hub")) & (events.c.device_key == bindparam("key")))
    .order_by(events.c.seq.desc())
    .limit(bindparam("limit")),
    Event,
)
_LAST: Final = Query(
    select(events.c.seq)
    .where(events.c.hub_id == bindparam("hub"))
    .order_by(events.c.seq.desc())
    .limit(1),
    int,
)
_FIRST: Final = Query(
    select(events.c.seq).where(events.c.hub_id == bindparam("hub")).order_by(events.c.seq).limit(1),
    int,
)
_OLD: Final = Command(
    delete(events).where(
        events.c.seq.in_(
            select(events.c.seq)
            .where(events.c.enqueued_at < bindparam("before"))
            .order_by(events.c.enqueued_at)
            .limit(_REMOVE_AT_ONCE)
        )
    )
)
_newest: Final = select(func.max(events.c.seq)).scalar_subquery()
_EXCESS: Final = Command(
    delete(events).where(
        events.c.seq.in_(
            select(events.c.seq)
            .where(events.c.seq <= _newest - bindparam("keep"))
            .order_by(events.c.seq)
            .limit(_REMOVE_AT_ONCE)
        )
    )
)


_TOO_MUCH: Final = Command(
    delete(events).where(
        events.c.seq.in_(
            select(events.c.seq)
            .where(events.c.end_offset <= _newest_end - bindparam("keep_bytes"))
            .order_by(events.c.end_offset)
            .limit(_REMOVE_AT_ONCE)
        )
    )
)


@dataclass(frozen=True, slots=True)
class Retention:
    """What the event log keeps: what is within all three.

    Attributes:
        age: how old an event may be.
        count: the newest so many events.
        size: the newest so many bytes, of bodies, properties and a row's own.
    """

    age: timedelta = timedelta(hours=24)
    count: int = 1_000_000
    size: int = 1 << 30


def size_of(message: Message) -> int:
    """How many bytes a message counts for."""
    properties = (*message.properties.items(), *message.system_properties.items())
    return len(message.body) + sum(len(k) + len(v or "") for k, v in properties) + _ROW_BYTES


def append(tx: Transaction, sender: Principal, message: Message, now: datetime) -> None:
    """Adds a message; that of a module is its device's."""
    tx.run(
        _APPEND,
        size=size_of(message),
        kind=EventKind.TELEMETRY.value,
        hub_id=sender.hub.id,
        device_key=device_of(sender.device_key),
        device_id=sender.device_id,
        enqueued_at=now,
        properties=_json(message.properties),
        system_properties=_json(message.system_properties),
        body=message.body,
    )


def append_announced(tx: Transaction, hub_id: str, what: Announced) -> None:
    """Adds what was announced."""
    body = what.body.encode()
    tx.run(
        _APPEND,
        size=len(body) + _ROW_BYTES,
        kind=what.kind,
        hub_id=hub_id,
        device_key=device_of(what.device_key),
        device_id=what.device_id,
        enqueued_at=what.at,
        properties="{}",
        system_properties="{}",
        body=body,
    )


def after_of_kinds(
    tx: Transaction,
    hub_id: str,
    seq: int,
    kinds: Collection[EventKind],
    *,
    device_id: str | None = None,
    limit: int,
) -> tuple[int, list[Event]]:
    """Up to `limit` events of those kinds behind `seq`, and the number to go on from. It looks at
    a part of the log only: when nothing was found, there is more if that number is below the last.
    """
    start = max(seq, first_seq(tx, hub_id) - 1)
    until = min(start + _SPAN, last_seq(tx, hub_id))
    parameters: dict[str, Any] = {"hub": hub_id, "after": start, "until": until, "limit": limit}
    parameters |= _kinds(kinds)
    if device_id is None:
        found = tx.all(_IN_SPAN, **parameters)
    else:
        found = tx.all(_IN_SPAN_OF_DEVICE, key=canonical(device_id), **parameters)
    return (found[-1].seq if len(found) == limit else max(seq, until)), found


def after(
    tx: Transaction, hub_id: str, seq: int, *, device_id: str | None = None, limit: int
) -> list[Event]:
    """Up to `limit` events behind `seq`, of one device or of all."""
    if device_id is None:
        return tx.all(_AFTER, hub=hub_id, after=seq, limit=limit)
    return tx.all(_AFTER_OF_DEVICE, hub=hub_id, after=seq, key=canonical(device_id), limit=limit)


def newest(
    tx: Transaction, hub_id: str, *, device_id: str | None = None, limit: int
) -> list[Event]:
    """The newest events, at most `limit`, oldest first; of one device or of all."""
    if device_id is None:
        found = tx.all(_NEWEST, hub=hub_id, limit=limit)
    else:
        found = tx.all(_NEWEST_OF_DEVICE, hub=hub_id, key=canonical(device_id), limit=limit)
    return found[::-1]


def newest_of_kinds(
    tx: Transaction,
    hub_id: str,
    kinds: Collection[EventKind],
    *,
    device_id: str | None = None,
    limit: int,
) -> list[Event]:
    """The newest events of those kinds, at most `limit`, oldest first, among the newest of all."""
    parameters: dict[str, Any] = {
        "hub": hub_id,
        "after": last_seq(tx, hub_id) - _NEWEST_SPAN,
        "limit": limit,
    }
    parameters |= _kinds(kinds)
    if device_id is None:
        found = tx.all(_NEWEST_OF_KINDS, **parameters)
    else:
        key = canonical(device_id)
        found = tx.all(_NEWEST_OF_KINDS_OF_DEVICE, key=key, **parameters)
    return found[::-1]


def _kinds(kinds: Collection[EventKind]) -> dict[str, Any]:
    """The parameters of `_of_kinds`: each kind, and the first one again and again."""
    wanted = [kind.value for kind in kinds]
    wanted += wanted[:1] * (len(EventKind) - len(wanted))
    return {f"kind_{n}": kind for n, kind in enumerate(wanted)}


def last_seq(tx: Transaction, hub_id: str) -> int:
    """The sequence number of the newest event; 0 when there is none."""
    return tx.first(_LAST, hub=hub_id) or 0


def first_seq(tx: Transaction, hub_id: str) -> int:
    """The sequence number of the oldest event; 0 when there is none."""
    return tx.first(_FIRST, hub=hub_id) or 0


def remove_some(tx: Transaction, retention: Retention, now: datetime) -> bool:
    """Removes some of the events that are not to be kept; whether there may be more."""
    removed = max(
        tx.run(_OLD, before=now - retention.age),
        tx.run(_EXCESS, keep=retention.count),
        tx.run(_TOO_MUCH, keep_bytes=retention.size),
    )
    return removed == _REMOVE_AT_ONCE


def _json(properties: Mapping[str, str | None]) -> str:
    return orjson.dumps(dict(properties)).decode() if properties else "{}"
