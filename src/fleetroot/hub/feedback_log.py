"""Feedback: what became of cloud-to-device messages whose senders wanted to know; its table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, or_, select, update

from fleetroot.hub.cloud_to_device import Feedback, Outcome
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import command_feedback, identities

_AT_ONCE: Final = 64  # records of a batch
_REMOVE_AT_ONCE: Final = 5000


def _feedback(
    message_id: str, device_id: str, generation_id: str, outcome: str, at: datetime
) -> Feedback:
    return Feedback(message_id, device_id, generation_id, Outcome(outcome), at)


_of_hub: Final = command_feedback.c.hub_id == bindparam("hub")
_is_locked: Final = (
    _of_hub
    & (command_feedback.c.lock_token == bindparam("token"))
    & (command_feedback.c.locked_until > bindparam("now"))
)
_WHOSE: Final = Query(
    select(identities.c.device_id, identities.c.generation_id).where(
        (identities.c.hub_id == bindparam("hub")) & (identities.c.device_key == bindparam("key"))
    ),
    lambda device_id, generation_id: (device_id, generation_id),
)
_INSERT: Final = Command(insert_into(command_feedback, leave_out=["seq"]))
_free: Final = _of_hub & or_(
    command_feedback.c.locked_until.is_(None), command_feedback.c.locked_until <= bindparam("now")
)
_FREE: Final = Query(
    select(command_feedback.c.seq).where(_free).order_by(command_feedback.c.seq).limit(1), int
)
_LOCK: Final = Command(
    update(command_feedback)
    .where(
        command_feedback.c.seq.in_(
            select(command_feedback.c.seq)
            .where(_free)
            .order_by(command_feedback.c.seq)
            .limit(_AT_ONCE)
        )
    )
    .values(
        lock_token=bindparam("new_token"),
        locked_until=bindparam("until"),
        delivery_count=command_feedback.c.delivery_count + 1,
    )
)
_LOCKED: Final = Query(
    select(
        command_feedback.c.message_id,
        command_feedback.c.device_id,
        command_feedback.c.generation_id,
        command_feedback.c.outcome,
        command_feedback.c.enqueued_at,
    )
    .where(_is_locked)
    .order_by(command_feedback.c.seq),
    _feedback,
)
_REMOVE: Final = Command(delete(command_feedback).where(_is_locked))
_UNLOCK: Final = Command(
    update(command_feedback).where(_is_locked).values(lock_token=None, locked_until=None)
)
_REMOVE_DEAD: Final = Command(
    delete(command_feedback).where(_free & (command_feedback.c.delivery_count >= bindparam("most")))
)
_REMOVE_OLD: Final = Command(
    delete(command_feedback).where(
        command_feedback.c.seq.in_(
            select(command_feedback.c.seq)
            .where(command_feedback.c.enqueued_at < bindparam("before"))
            .order_by(command_feedback.c.enqueued_at)
            .limit(_REMOVE_AT_ONCE)
        )
    )
)


def append(
    tx: Transaction,
    hub_id: str,
    device_key: str,
    message_ids: Iterable[str],
    outcome: Outcome,
    now: datetime,
) -> None:
    """Adds what became of a device's messages."""
    whose = tx.first(_WHOSE, hub=hub_id, key=device_key)
    assert whose is not None  # noqa: S101 - messages go with their identity
    device_id, generation_id = whose
    tx.run_many(
        _INSERT,
        (
            {
                "hub_id": hub_id,
                "device_id": device_id,
                "generation_id": generation_id,
                "message_id": message_id,
                "outcome": outcome.value,
                "enqueued_at": now,
                "delivery_count": 0,
                "lock_token": None,
                "locked_until": None,
            }
            for message_id in message_ids
        ),
    )


def is_there(tx: Transaction, hub_id: str, now: datetime) -> bool:
    """Whether the hub has feedback that nobody has locked."""
    return tx.first(_FREE, hub=hub_id, now=now) is not None


def lock_some(
    tx: Transaction, hub_id: str, *, token: str, until: datetime, most: int, now: datetime
) -> list[Feedback]:
    """Locks the oldest of the hub's feedback that nobody has locked; what was locked `most` times
    and never taken is removed.
    """
    tx.run(_REMOVE_DEAD, hub=hub_id, now=now, most=most)
    tx.run(_LOCK, hub=hub_id, now=now, new_token=token, until=until)
    return tx.all(_LOCKED, hub=hub_id, token=token, now=now)


def remove(tx: Transaction, hub_id: str, token: str, now: datetime) -> bool:
    """Removes what is locked by this token; False if nothing is."""
    return tx.run(_REMOVE, hub=hub_id, token=token, now=now) > 0


def unlock(tx: Transaction, hub_id: str, token: str, now: datetime) -> bool:
    """Gives back what is locked by this token; False if nothing is."""
    return tx.run(_UNLOCK, hub=hub_id, token=token, now=now) > 0


def remove_old(tx: Transaction, before: datetime) -> bool:
    """Removes some of the feedback of before then; whether there may be more."""
    return tx.run(_REMOVE_OLD, before=before) == _REMOVE_AT_ONCE
