"""Entries: their table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from sqlalchemy import BigInteger, Text, bindparam, func, select, tuple_

from fleetroot.audit.model import Action, Change, Entry, LoggedEntry, Outcome
from fleetroot.clock import iso8601
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import audit_entries
from fleetroot.storage.types import UtcTime

MAX_DETAILS_BYTES: Final = 8 * 1024
_LAST_TIME: Final = datetime(9999, 1, 1, tzinfo=UTC)
_MAX_CHARACTERS: Final = 256  # of what a peer may have made up


def _line(
    seq: int,
    at: datetime,
    namespace_id: str | None,
    actor_kind: str,
    actor: str,
    peer: str | None,
    trace_id: str | None,
    action: str,
    subject: str,
    outcome: str,
    reason: str | None,
    details: str | None,
) -> LoggedEntry:
    fields = {
        "seq": seq,
        "at": iso8601(at),
        "namespace": namespace_id,
        "actorKind": actor_kind,
        "actor": actor,
        "peer": peer,
        "traceId": trace_id,
        "action": action,
        "subject": subject,
        "outcome": outcome,
        "reason": reason,
        "details": orjson.loads(details) if details else None,
    }
    return LoggedEntry(seq, at, orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))


_table: Final = audit_entries
_APPEND: Final = Command(insert_into(_table, leave_out=["seq"]))
_BETWEEN: Final = Query(
    select(_table)
    .where((_table.c.seq > bindparam("after")) & (_table.c.seq <= bindparam("last")))
    .order_by(_table.c.seq)
    .limit(bindparam("limit")),
    _line,
)
_BEFORE: Final = Query(
    select(_table)
    .where(_table.c.seq < bindparam("seq"))
    .order_by(_table.c.seq.desc())
    .limit(bindparam("limit")),
    _line,
)
_AT: Final = Query(select(_table.c.at).where(_table.c.seq == bindparam("seq")), lambda at: at)
_OF_SUBJECT: Final = Query(
    select(_table)
    .where(func.lower(_table.c.subject) == func.lower(bindparam("subject", type_=Text)))
    .where(
        tuple_(_table.c.at, _table.c.seq)
        < tuple_(bindparam("at", type_=UtcTime), bindparam("seq", type_=BigInteger))
    )
    .order_by(_table.c.at.desc(), _table.c.seq.desc())
    .limit(bindparam("limit")),
    _line,
)
_CHANGE: Final = Query(
    select(_table.c.at, _table.c.namespace_id)
    .where(
        (func.lower(_table.c.subject) == func.lower(bindparam("subject", type_=Text)))
        & (_table.c.trace_id == bindparam("trace"))
        & (_table.c.outcome == Outcome.DONE.value)
        & _table.c.namespace_id.is_not(None)
    )
    .order_by(_table.c.seq.desc())
    .limit(1),
    Change,
)
_OF_DEVICE: Final = Query(
    select(_table)
    .where(func.lower(_table.c.subject) == func.lower(bindparam("subject", type_=Text)))
    .where(
        tuple_(_table.c.at, _table.c.seq)
        < tuple_(bindparam("at", type_=UtcTime), bindparam("seq", type_=BigInteger))
    )
    .where(_table.c.action != Action.ISSUE_CERTIFICATE.value)
    .where(_table.c.action != Action.REVOKE_CERTIFICATE.value)
    .order_by(_table.c.at.desc(), _table.c.seq.desc())
    .limit(bindparam("limit")),
    _line,
)


def append(tx: Transaction, entry: Entry) -> None:
    """Appends an entry: in the unit of work that does what it tells."""
    tx.run(_APPEND, **_columns(entry))


def append_many(tx: Transaction, entries: Iterable[Entry]) -> None:
    """Appends entries in their order."""
    tx.run_many(_APPEND, [_columns(entry) for entry in entries])


def between(tx: Transaction, after: int, last: int, limit: int) -> list[LoggedEntry]:
    """Up to `limit` entries behind number `after` and up to `last`, oldest first."""
    return tx.all(_BETWEEN, after=after, last=last, limit=limit)


def before(
    tx: Transaction, seq: int | None, limit: int, *, subject: str | None = None
) -> list[LoggedEntry]:
    """Up to `limit` entries before `seq` (None: the end), newest first; of one subject, in any
    case, or all. Those of a subject are in the order of their times: a refusal is written a little
    later than it was.
    """
    last = 2**63 - 1 if seq is None else seq
    if subject is None:
        return tx.all(_BEFORE, seq=last, limit=limit)
    at = None if seq is None else tx.first(_AT, seq=seq)
    return of_subject(tx, subject, at or _LAST_TIME, last, limit)


def of_subject(
    tx: Transaction, subject: str, at: datetime, seq: int, limit: int
) -> list[LoggedEntry]:
    """Up to `limit` entries of a subject, in any case, before (`at`, `seq`); newest first."""
    return tx.all(_OF_SUBJECT, subject=subject, at=at, seq=seq, limit=limit)


def change(tx: Transaction, subject: str, trace_id: str) -> Change | None:
    """What the call with that trace id did to the subject, in a namespace."""
    return tx.first(_CHANGE, subject=subject, trace=trace_id)


def of_device(
    tx: Transaction, subject: str, at: datetime, seq: int, limit: int
) -> list[LoggedEntry]:
    """Like `of_subject`, without what the inventory tells of each certificate."""
    return tx.all(_OF_DEVICE, subject=subject, at=at, seq=seq, limit=limit)


def _columns(entry: Entry) -> dict[str, Any]:
    at, (kind, name, peer, trace_id), action, subject, namespace_id, outcome, reason, more = entry
    details = orjson.dumps(dict(more)).decode() if more else None
    if details is not None and len(details) > MAX_DETAILS_BYTES:
        raise ValueError(f"the details of {action} are {len(details)} characters")
    return {
        "at": at,
        "namespace_id": namespace_id,
        "actor_kind": kind.value,
        "actor": name[:_MAX_CHARACTERS],
        "peer": peer,
        "trace_id": trace_id,
        "action": action,
        "subject": subject[:_MAX_CHARACTERS],
        "outcome": outcome.value,
        "reason": reason,
        "details": details,
    }
