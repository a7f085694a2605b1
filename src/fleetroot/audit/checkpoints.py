"""Checkpoints: their table, and the duty that writes them.

PostgreSQL numbers an entry before its transaction commits, so a lower number may come after a
higher one. A checkpoint therefore ends before a number that is missing, until everything behind it
is older than any transaction can be.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import bindparam, select

from fleetroot.audit import chain, log
from fleetroot.audit.model import Checkpoint, LoggedEntry
from fleetroot.clock import Clock
from fleetroot.custody import KeyCustody, RecordName
from fleetroot.pki import KeyType, PrivateKey
from fleetroot.storage import Command, Query, Store, Transaction, installation
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import audit_checkpoints

_END: Final = 2**63 - 1
MAX_ENTRIES: Final = 500  # of a checkpoint, so that no reading holds up the loop for long
LONGEST_TRANSACTION: Final = timedelta(minutes=2)
_KEY_NAME: Final = RecordName(kind="audit-key", namespace="", id="audit", version=1)
_SEALED_KEY: Final = "audit-key"

_table: Final = audit_checkpoints
_INSERT: Final = Command(insert_into(_table))
_LAST: Final = Query(select(_table).order_by(_table.c.number.desc()).limit(1), Checkpoint)
_AFTER: Final = Query(
    select(_table)
    .where(_table.c.number > bindparam("number"))
    .order_by(_table.c.number)
    .limit(bindparam("limit")),
    Checkpoint,
)


def sealed_name(row: str) -> RecordName | None:
    """What a row of `installation` is sealed under, if it is the audit key's."""
    return _KEY_NAME if row == _SEALED_KEY else None


def after(tx: Transaction, number: int, limit: int) -> list[Checkpoint]:
    """Up to `limit` checkpoints behind `number`."""
    return tx.all(_AFTER, number=number, limit=limit)


class Checkpoints:
    """Signs checkpoints over what is new in the log."""

    def __init__(self, store: Store, custody: KeyCustody, clock: Clock) -> None:
        self._store = store
        self._custody = custody
        self._clock = clock
        self._key: ec.EllipticCurvePrivateKey | None = None

    async def start(self) -> None:
        """Opens the key; a first start makes it.

        Raises:
            Unavailable: the database cannot answer now.
        """
        sealed = await self._store.read(lambda tx: installation.get(tx, _SEALED_KEY))
        if sealed is None:
            made = self._custody.generate(KeyType.EC_P384, _KEY_NAME).sealed
            await self._store.write(lambda tx: installation.put(tx, _SEALED_KEY, made))
            sealed = made
        self._key = _elliptic(self._custody.load(_KEY_NAME, sealed))

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """What checkpoints are verified with; `start` has been called."""
        return self._signing_key.public_key()

    @property
    def _signing_key(self) -> ec.EllipticCurvePrivateKey:
        if self._key is None:
            raise RuntimeError("not started")
        return self._key

    async def write(self) -> None:
        """Writes checkpoints until all is covered that can be.

        Raises:
            Unavailable: the database cannot answer now.
        """
        while await self._write_one():
            pass

    async def _write_one(self) -> bool:
        now = self._clock.now()

        def read(tx: Transaction) -> tuple[Checkpoint | None, list[LoggedEntry]]:
            last = tx.first(_LAST)
            return last, log.between(tx, last.last_seq if last else 0, _END, MAX_ENTRIES)

        last, entries = await self._store.read(read)
        entries = settled(entries, last.last_seq if last else 0, now)
        if not entries:
            return False
        made = chain.sign(self._signing_key, entries, last, now)

        def unit(tx: Transaction) -> bool:
            if tx.first(_LAST) != last:
                return False  # another call was first, perhaps one that was cancelled meanwhile
            tx.run(
                _INSERT,
                number=made.number,
                first_seq=made.first_seq,
                last_seq=made.last_seq,
                statement=made.statement,
                signature=made.signature,
            )
            return True

        return not await self._store.write(unit) or len(entries) == MAX_ENTRIES


def settled(entries: list[LoggedEntry], last_seq: int, now: datetime) -> list[LoggedEntry]:
    """The entries up to where one may still appear among them."""
    for index, entry in enumerate(entries):
        if entry.seq != last_seq + 1 and now - entry.at < LONGEST_TRANSACTION:
            return entries[:index]
        last_seq = entry.seq
    return entries


def _elliptic(key: PrivateKey) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the audit key is elliptic")
    return key
