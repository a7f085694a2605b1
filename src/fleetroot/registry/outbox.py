"""The outbox: what happened that live connections must answer to.

Whoever changes what a device may do writes a row here in the same transaction, and hints on the
bus after the commit. A node reads the outbox at every hint and at least once a second, so a lost
hint costs a second and never a hole. A node that cannot read it for its lease time can no longer
know who was revoked, and says so to its listeners, which drop their sessions. A listener that fails
is told again: a notice is over when everybody took it.

PostgreSQL gives a row its number before the row's transaction commits, so a lower number may appear
after a higher one. Numbers that a reader went past are therefore looked for again until every
transaction that was under way at that time is over; one that is not there then never will be.
SQLite's writer runs one transaction after the other, and leaves out no number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

import structlog
from sqlalchemy import BigInteger, Text, bindparam, delete, func, literal, select
from sqlalchemy.sql.expression import Executable

from fleetroot.bus import OUTBOX, Bus
from fleetroot.clock import Clock
from fleetroot.storage import Command, Query, Store, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import outbox

_log = structlog.get_logger("fleetroot.outbox")
_BATCH: Final = 1000
_KEEP: Final = timedelta(hours=1)


class Kind(StrEnum):
    """What a row tells."""

    DEVICE_REVOKED = "device.revoked"
    DEVICE_DISABLED = "device.disabled"
    IDENTITY_CHANGED = "identity.changed"
    ISSUER_DISTRUSTED = "issuer.distrusted"  # a CA was revoked, or taken from a hub
    # A CA certificate that was uploaded to a hub counts no more, or somebody's list came.
    UPLOADED_DISTRUSTED = "uploaded.distrusted"
    CERTIFICATE_UNKNOWN = "certificate.notInInventory"  # shown for a device; an alert


@dataclass(frozen=True, slots=True)
class Notice:
    """A row of the outbox.

    `subject` is a device key; an authority's id where an issuer is distrusted; the id of a hub or
    of a list where what was uploaded is. Listeners take a kind that they do not know for one about
    a device: it may be about a revocation.
    """

    seq: int
    at: datetime
    kind: str  # a `Kind`, or one of a newer program
    namespace_id: str
    subject: str


_APPEND: Final = Command(insert_into(outbox, leave_out=["seq"]))
_AFTER: Final = Query(
    select(outbox.c.seq, outbox.c.at, outbox.c.kind, outbox.c.namespace_id, outbox.c.subject)
    .where(outbox.c.seq > bindparam("seq"))
    .order_by(outbox.c.seq)
    .limit(_BATCH),
    Notice,
)
_BETWEEN: Final = Query(
    select(outbox.c.seq, outbox.c.at, outbox.c.kind, outbox.c.namespace_id, outbox.c.subject)
    .where(outbox.c.seq.between(bindparam("low"), bindparam("high")))
    .order_by(outbox.c.seq),
    Notice,
)
_NEWEST: Final = Query(select(outbox.c.seq).order_by(outbox.c.seq.desc()).limit(_BATCH), int)
_PRUNE: Final = Command(
    delete(outbox).where((outbox.c.at < bindparam("before")) & (outbox.c.seq <= bindparam("read")))
)


def _transactions(dialect: str) -> Executable:
    """The number of this reading transaction, which is above those of all that were under way when
    it began, and the lowest of one that still is.
    """
    if dialect != "postgresql":
        return select(literal(0), literal(0))  # nobody writes beside the one writer
    number = func.pg_current_xact_id().cast(Text).cast(BigInteger)
    lowest = func.pg_snapshot_xmin(func.pg_current_snapshot()).cast(Text).cast(BigInteger)
    return select(number, lowest)


_TRANSACTIONS: Final = Query(_transactions, lambda number, lowest: (number, lowest))


class _Reading(NamedTuple):
    """What one reading found: rows that come late, rows that are new, and, where numbers are
    missing, the transactions of its time.
    """

    late: list[Notice]
    new: list[Notice]
    number: int
    lowest: int


def append(tx: Transaction, kind: Kind, *, namespace_id: str, subject: str, now: datetime) -> None:
    """Adds a row; the caller hints `bus.OUTBOX` after its commit."""
    tx.run(_APPEND, at=now, kind=kind.value, namespace_id=namespace_id, subject=subject)


class OutboxReader:
    """Reads the outbox for one node and tells its listeners."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        *,
        lease: timedelta = timedelta(seconds=10),
        interval: timedelta = timedelta(seconds=1),
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._lease = lease.total_seconds()
        self._interval = interval.total_seconds()
        self._listeners: list[Callable[[Notice], Awaitable[None]]] = []
        self._lease_lost: list[Callable[[], None]] = []
        self._hinted = asyncio.Event()
        self._seq = 0
        # Numbers below that were not there, and the transaction before whose end they may come.
        self._missing: dict[int, int] = {}
        self._has_lease = True

    def listen(
        self,
        notice: Callable[[Notice], Awaitable[None]],
        lease_lost: Callable[[], None] | None = None,
    ) -> None:
        """Calls `notice` for every row from now on, in order, and `lease_lost` when this node has
        not been able to read for its lease time.
        """
        self._listeners.append(notice)
        if lease_lost is not None:
            self._lease_lost.append(lease_lost)

    async def start(self) -> None:
        """Marks where this node begins: live connections made after this read the truth itself."""

        def unit(tx: Transaction) -> None:
            there = tx.all(_NEWEST)
            number, _ = tx.first(_TRANSACTIONS) or (0, 0)
            self._seq = there[0] if there else 0
            absent = set(range(max(1, self._seq - _BATCH), self._seq)) - set(there)
            self._missing = dict.fromkeys(absent, number)

        await self._store.read(unit)

    async def run(self) -> None:
        """Reads until cancelled."""
        unsubscribe = self._bus.subscribe(OUTBOX, self._hinted.set)
        last_read = self._clock.monotonic()
        try:
            while True:
                try:
                    await self.drain()
                except Exception as error:  # noqa: BLE001 - whatever it is, this must not end
                    _log.error("cannot read the outbox", error=repr(error))
                    if self._clock.monotonic() - last_read > self._lease:
                        self._lose_lease()
                else:
                    last_read = self._clock.monotonic()
                    self._has_lease = True
                try:
                    # Not wait_for, which on 3.11 loses a cancellation that meets the hint.
                    async with asyncio.timeout(self._interval):
                        await self._hinted.wait()
                except TimeoutError:
                    continue
                self._hinted.clear()
        finally:
            unsubscribe()

    def hint(self) -> None:
        """Has every node read at once; for who has written a row and committed it."""
        self._bus.hint(OUTBOX)

    @property
    def has_lease(self) -> bool:
        """Whether this node knows who was revoked; while it does not, it lets nobody in."""
        return self._has_lease

    def _lose_lease(self) -> None:
        if self._has_lease:
            self._has_lease = False
            _log.error("lease lost, dropping sessions")
            for tell in self._lease_lost:
                tell()

    async def drain(self) -> None:
        """Reads every row that is new and tells the listeners.

        Raises:
            Unavailable: the database cannot answer now.
        """
        while True:
            # So that a database that does not answer at all costs the lease as one that refuses.
            async with asyncio.timeout(self._lease / 2):
                found = await self._store.read(self._look)
            for notice in found.late:
                await self._tell(notice)
                del self._missing[notice.seq]
            for seq in [s for s, until in self._missing.items() if until <= found.lowest]:
                del self._missing[seq]
            for notice in found.new:
                await self._tell(notice)
                self._go_on(notice.seq, found)
            if not found.new:
                return

    def _look(self, tx: Transaction) -> _Reading:
        new = tx.all(_AFTER, seq=self._seq)
        missing = self._missing
        late: list[Notice] = []
        if missing:
            between = tx.all(_BETWEEN, low=min(missing), high=max(missing))
            late = [notice for notice in between if notice.seq in missing]
        if not missing and (not new or new[-1].seq == self._seq + len(new)):
            return _Reading([], new, 0, 0)
        number, lowest = tx.first(_TRANSACTIONS) or (0, 0)
        return _Reading(late, new, number, lowest)

    def _go_on(self, seq: int, found: _Reading) -> None:
        """Moves past a row that was told; numbers that it leaves behind may still come."""
        for absent in range(max(self._seq + 1, seq - _BATCH), seq):
            self._missing[absent] = found.number
        self._seq = seq

    async def _tell(self, notice: Notice) -> None:
        async with asyncio.timeout(self._lease / 2):
            for tell in self._listeners:
                await tell(notice)

    async def prune(self) -> None:
        """Removes rows that every node has long read, and this one for certain: rows are old at
        once for a clock that was set forward.
        """
        before = self._clock.now() - _KEEP
        read = min(self._missing, default=self._seq + 1) - 1
        await self._store.write(lambda tx: tx.run(_PRUNE, before=before, read=read))
