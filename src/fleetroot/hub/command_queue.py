"""Cloud-to-device messages that wait for their device: their table.

A message leaves the queue in one statement, and who took it out says what became of it; so each
message has one outcome, whoever comes to know of it first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import bindparam, delete, func, select, update

from fleetroot.hub import feedback_log
from fleetroot.hub.cloud_to_device import Ack, CloudToDeviceMessage, Outcome, QueuedMessage
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import commands, identities

_REMOVE_AT_ONCE: Final = 500  # messages, so that no unit of work holds up the others for long


class Place(NamedTuple):
    """Whose message, and which of theirs."""

    hub_id: str
    device_key: str
    seq: int


class _Removed(NamedTuple):
    """What is known of a message that has left the queue."""

    message_id: str
    ack: Ack


class _Head(NamedTuple):
    seq: int
    delivery_count: int
    locked_until: datetime | None


class _Due(NamedTuple):
    hub_id: str
    device_key: str
    seq: int


def _queued(
    seq: int,
    message_id: str,
    ack: str,
    properties: str,
    system_properties: str,
    body: bytes,
    enqueued_at: datetime,
    expires_at: datetime,
    delivery_count: int,
) -> QueuedMessage:
    message = CloudToDeviceMessage(
        message_id,
        body,
        expires_at,
        Ack(ack),
        orjson.loads(properties),
        orjson.loads(system_properties),
    )
    return QueuedMessage(seq, enqueued_at, delivery_count, message)


_columns: Final = (
    commands.c.seq,
    commands.c.message_id,
    commands.c.ack,
    commands.c.properties,
    commands.c.system_properties,
    commands.c.body,
    commands.c.enqueued_at,
    commands.c.expires_at,
    commands.c.delivery_count,
)
_of_device: Final = (commands.c.hub_id == bindparam("hub")) & (
    commands.c.device_key == bindparam("key")
)
_is_message: Final = _of_device & (commands.c.seq == bindparam("at"))
_lives: Final = commands.c.expires_at > bindparam("now")
_is_locked: Final = (
    _of_device
    & (commands.c.lock_token == bindparam("token"))
    & (commands.c.locked_until > bindparam("now"))
)
_removed: Final = (commands.c.message_id, commands.c.ack)


def _removed_row(message_id: str, ack: str) -> _Removed:
    return _Removed(message_id, Ack(ack))


_COUNT: Final = Query(select(func.count()).select_from(commands).where(_of_device & _lives), int)
_COUNTS: Final = Query(
    select(commands.c.device_key, func.count())
    .where((commands.c.hub_id == bindparam("hub")) & _lives)
    .where(commands.c.device_key.between(bindparam("first"), bindparam("last")))
    .group_by(commands.c.device_key),
    lambda key, count: (key, count),
)
_KNOWN: Final = Query(
    select(identities.c.device_id).where(
        (identities.c.hub_id == bindparam("hub")) & (identities.c.device_key == bindparam("key"))
    ),
    str,
)
_INSERT: Final = Query(insert_into(commands, leave_out=["seq"]).returning(commands.c.seq), int)
_AFTER: Final = Query(
    select(*_columns)
    .where(_of_device & _lives & (commands.c.seq > bindparam("after")))
    .order_by(commands.c.seq)
    .limit(bindparam("limit")),
    _queued,
)
_HEADS: Final = Query(
    select(commands.c.seq, commands.c.delivery_count, commands.c.locked_until)
    .where(_of_device & _lives)
    .order_by(commands.c.seq),
    _Head,
)
_LOCK: Final = Query(
    update(commands)
    .where(_is_message)
    .values(
        lock_token=bindparam("new_token"),
        locked_until=bindparam("until"),
        delivery_count=bindparam("count"),
    )
    .returning(*_columns),
    _queued,
)
_UNLOCK: Final = Query(
    update(commands)
    .where(_is_locked)
    .values(lock_token=None, locked_until=None, delivery_count=commands.c.delivery_count + 1)
    .returning(commands.c.seq, commands.c.delivery_count),
    lambda seq, count: (seq, count),
)
_COUNT_DELIVERY: Final = Query(
    update(commands)
    .where(_is_message)
    .values(delivery_count=commands.c.delivery_count + 1)
    .returning(commands.c.delivery_count),
    int,
)
_REMOVE: Final = Command(delete(commands).where(_is_message))
_TAKE: Final = Query(delete(commands).where(_is_message).returning(*_removed), _removed_row)
_TAKE_LOCKED: Final = Query(delete(commands).where(_is_locked).returning(*_removed), _removed_row)
_TAKE_ALL: Final = Query(delete(commands).where(_of_device).returning(*_removed), _removed_row)
_EXPIRED: Final = Query(
    select(commands.c.hub_id, commands.c.device_key, commands.c.seq)
    .where(commands.c.expires_at <= bindparam("now"))
    .order_by(commands.c.expires_at)
    .limit(_REMOVE_AT_ONCE),
    _Due,
)


def device_id(tx: Transaction, hub_id: str, device_key: str) -> str | None:
    """The id of the device as its identity spells it; None if the hub does not know it."""
    return tx.first(_KNOWN, hub=hub_id, key=device_key)


def count(tx: Transaction, hub_id: str, device_key: str, now: datetime) -> int:
    """How many messages wait for the device or module: its `cloudToDeviceMessageCount`."""
    return tx.first(_COUNT, hub=hub_id, key=device_key, now=now) or 0


def counts(tx: Transaction, hub_id: str, first: str, last: str, now: datetime) -> dict[str, int]:
    """The same of all devices from one key to another, those without any left out."""
    return dict(tx.all(_COUNTS, hub=hub_id, first=first, last=last, now=now))


def insert(
    tx: Transaction, hub_id: str, device_key: str, message: CloudToDeviceMessage, now: datetime
) -> QueuedMessage:
    """Adds a message behind those that the device has."""
    seq = tx.first(
        _INSERT,
        hub_id=hub_id,
        device_key=device_key,
        message_id=message.message_id,
        ack=message.ack.value,
        properties=_json(message.properties),
        system_properties=_json(message.system_properties),
        body=message.body,
        enqueued_at=now,
        expires_at=message.expires_at,
        delivery_count=0,
        lock_token=None,
        locked_until=None,
    )
    assert seq is not None  # noqa: S101 - what is inserted is returned
    return QueuedMessage(seq, now, 0, message)


def after(
    tx: Transaction, hub_id: str, device_key: str, seq: int, now: datetime, *, limit: int
) -> list[QueuedMessage]:
    """The device's next messages behind `seq`."""
    return tx.all(_AFTER, hub=hub_id, key=device_key, after=seq, now=now, limit=limit)


def is_next(
    tx: Transaction, hub_id: str, device_key: str, skip: Collection[int], now: datetime
) -> bool:
    """Whether `lock_next` would find one, or change what is there."""
    heads = tx.all(_HEADS, hub=hub_id, key=device_key, now=now)
    return any(_is_free(head, skip, now) for head in heads)


def lock_next(
    tx: Transaction,
    hub_id: str,
    device_key: str,
    skip: Collection[int],
    *,
    token: str,
    until: datetime,
    most: int,
    now: datetime,
) -> QueuedMessage | None:
    """Locks the first message that is not locked, and is not one of `skip`. A lock that ran out was
    a delivery that came to nothing; a message with `most` of these is dead, and leaves the queue.
    """
    for head in tx.all(_HEADS, hub=hub_id, key=device_key, now=now):
        if not _is_free(head, skip, now):
            continue
        failed = head.delivery_count + (head.locked_until is not None)
        place = Place(hub_id, device_key, head.seq)
        if failed >= most:
            finish(tx, place, Outcome.DELIVERY_COUNT_EXCEEDED, now)
            continue
        return tx.first(
            _LOCK,
            hub=hub_id,
            key=device_key,
            at=head.seq,
            new_token=token,
            until=until,
            count=failed,
        )
    return None


def unlock(
    tx: Transaction, hub_id: str, device_key: str, token: str, *, most: int, now: datetime
) -> bool:
    """Gives a message back that was locked: a delivery that came to nothing; False if it is not
    locked by this token.
    """
    found = tx.first(_UNLOCK, hub=hub_id, key=device_key, token=token, now=now)
    if found is None:
        return False
    seq, failed = found
    if failed >= most:
        finish(tx, Place(hub_id, device_key, seq), Outcome.DELIVERY_COUNT_EXCEEDED, now)
    return True


def finish_locked(
    tx: Transaction, hub_id: str, device_key: str, token: str, outcome: Outcome, now: datetime
) -> bool:
    """Takes the message out that is locked by this token; False if none is."""
    removed = tx.first(_TAKE_LOCKED, hub=hub_id, key=device_key, token=token, now=now)
    if removed is None:
        return False
    _tell(tx, hub_id, device_key, [removed], outcome, now)
    return True


def finish(tx: Transaction, place: Place, outcome: Outcome, now: datetime) -> None:
    """Takes a message out, if it is still there, and tells its sender."""
    removed = tx.first(_TAKE, hub=place.hub_id, key=place.device_key, at=place.seq)
    if removed is not None:
        _tell(tx, place.hub_id, place.device_key, [removed], outcome, now)


def remove(tx: Transaction, places: Iterable[Place]) -> None:
    """Takes messages out whose senders want to hear nothing."""
    tx.run_many(_REMOVE, ({"hub": p.hub_id, "key": p.device_key, "at": p.seq} for p in places))


def count_failed(tx: Transaction, places: Iterable[Place], *, most: int, now: datetime) -> None:
    """Counts deliveries that came to nothing."""
    for place in places:
        failed = tx.first(_COUNT_DELIVERY, hub=place.hub_id, key=place.device_key, at=place.seq)
        if failed is not None and failed >= most:
            finish(tx, place, Outcome.DELIVERY_COUNT_EXCEEDED, now)


def purge(tx: Transaction, hub_id: str, device_key: str, now: datetime) -> int:
    """Takes all of the device's messages out; how many there were."""
    removed = tx.all(_TAKE_ALL, hub=hub_id, key=device_key)
    _tell(tx, hub_id, device_key, removed, Outcome.PURGED, now)
    return len(removed)


def remove_expired(tx: Transaction, now: datetime) -> bool:
    """Takes some of the messages out whose time is over; whether there may be more."""
    due = tx.all(_EXPIRED, now=now)
    for each in due:
        finish(tx, Place(*each), Outcome.EXPIRED, now)
    return len(due) == _REMOVE_AT_ONCE


def _is_free(head: _Head, skip: Collection[int], now: datetime) -> bool:
    return head.seq not in skip and (head.locked_until is None or head.locked_until <= now)


def _tell(
    tx: Transaction,
    hub_id: str,
    device_key: str,
    removed: Iterable[_Removed],
    outcome: Outcome,
    now: datetime,
) -> None:
    wanted = [each.message_id for each in removed if outcome.is_wanted(each.ack)]
    if wanted:
        feedback_log.append(tx, hub_id, device_key, wanted, outcome, now)


def _json(properties: Any) -> str:
    return orjson.dumps(dict(properties)).decode() if properties else "{}"
