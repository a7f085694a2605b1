"""Changing the master key while serving; decision 10.

A change begins with one row, which holds the new key under the old one and the old key under the
new. From then on both open, the new one seals, and whichever of them a start is given leads to the
other: a crash at any point leaves a state that the next start goes on from. Every record is sealed
anew in batches. When none is left under the old key, and the place that the next start reads gives
the new one, the row goes, and with it the way from the old key to anything.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple

import orjson
import structlog

from fleetroot import audit
from fleetroot.audit import SYSTEM, Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.custody import (
    MasterKey,
    MasterKeyKind,
    MasterKeySource,
    MasterKeyUnusable,
    RecordName,
    Sealer,
    WrongMasterKey,
    sealed_under,
)
from fleetroot.errors import AlreadyExists
from fleetroot.storage import Store, Transaction, installation
from fleetroot.upkeep.sealed import SealedColumn

ROW: Final = "master-key-change"
BATCH: Final = 200
# By then, whoever sealed something under the old key has written it.
SETTLE_SECONDS: Final = 10.0

_NEW: Final = RecordName(kind="master-key-new", namespace="", id="", version=1)
_OLD: Final = RecordName(kind="master-key-old", namespace="", id="", version=1)
_log = structlog.get_logger("fleetroot.upkeep")


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is under way.

    Attributes:
        resealed: how many records it has sealed anew since this server's start.
        all_resealed: nothing is under the old key any more.
        kept_here: the server itself puts the new key in its place.
    """

    old_id: bytes
    new_id: bytes
    kept_here: bool
    resealed: int = 0
    all_resealed: bool = False


class _Row(NamedTuple):
    """What is stored of a change, as JSON with base64."""

    new_under_old: bytes
    old_under_new: bytes
    kept_here: bool

    def to_bytes(self) -> bytes:
        return orjson.dumps(
            {
                "newUnderOld": base64.b64encode(self.new_under_old).decode(),
                "oldUnderNew": base64.b64encode(self.old_under_new).decode(),
                "keptHere": self.kept_here,
            }
        )

    @classmethod
    def parse(cls, text: bytes) -> _Row:
        """Raises:
        WrongMasterKey: it is not what `to_bytes` gives.
        """
        try:
            fields = orjson.loads(text)
            return cls(
                base64.b64decode(fields["newUnderOld"], validate=True),
                base64.b64decode(fields["oldUnderNew"], validate=True),
                bool(fields["keptHere"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise WrongMasterKey("the row of a change of the master key is broken") from error


async def open_sealer(store: Store, master: MasterKey) -> Sealer:
    """The sealer of a start, which knows both keys while a change is under way.

    Raises:
        WrongMasterKey: a change is under way, between two other keys.
    """
    row = await store.read(lambda tx: installation.get(tx, ROW))
    if row is None:
        return Sealer(master)
    change = _Row.parse(row)
    alone = Sealer(master)
    if alone.is_current(change.old_under_new):
        return Sealer(master, _out_of_row(alone.open(_OLD, change.old_under_new)))
    return Sealer(_out_of_row(alone.open(_NEW, change.new_under_old)), master)


class Rotation:
    """Changes the master key. One per server."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        clock: Clock,
        columns: Sequence[SealedColumn],
        *,
        present: Callable[[], MasterKey],
        keep: Callable[[MasterKey], None],
        forget: Callable[[MasterKey], None],
    ) -> None:
        """Args:
        present: the master key that a start would be given now.
        keep: puts a new key where the server itself keeps it.
        forget: removes an old key from there.
        """
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._columns = columns
        self._present = present
        self._keep = keep
        self._forget = forget
        self._change: Change | None = None
        self._began = asyncio.Event()
        self._settled_at = 0.0

    @property
    def change(self) -> Change | None:
        """The change that is under way."""
        return self._change

    @property
    def key_id(self) -> bytes:
        """Of the master key that is sealed with."""
        return self._sealer.master.id

    async def start(self) -> None:
        """Takes up a change that an earlier server began."""
        row = await self._store.read(lambda tx: installation.get(tx, ROW))
        if row is not None:
            self._begin(_Row.parse(row))
            _log.warning("the change of the master key goes on")

    async def begin(self, new: MasterKey, *, by: Actor) -> None:
        """Begins to change to `new`; `run` does the work.

        Raises:
            AlreadyExists: a change is under way, or this is the key already.
        """
        old = self._sealer.master
        if self._change is not None:
            raise AlreadyExists("a change of the master key is under way")
        if new.id == old.id:
            raise AlreadyExists("this is the master key already")
        row = _Row(
            Sealer(old).seal(_NEW, new.key),
            Sealer(new).seal(_OLD, old.key),
            new.source.kind is MasterKeyKind.DATA_FOLDER,
        )
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            installation.put(tx, ROW, row.to_bytes())
            subject = f"master-key/{new.id.hex()}"
            audit.append(tx, Entry(now, by, Action.CHANGE_MASTER_KEY, subject))

        await self._store.write(unit)
        # Only now: what is sealed under the new key before the row is durable would be lost.
        self._sealer.change_to(new)
        self._settled_at = self._clock.monotonic() + SETTLE_SECONDS
        self._begin(row)

    def _begin(self, row: _Row) -> None:
        self._change = Change(
            sealed_under(row.new_under_old), sealed_under(row.old_under_new), row.kept_here
        )
        self._began.set()

    async def run(self) -> None:
        """Does the work of every change that begins, until it is cancelled."""
        while True:
            await self._began.wait()
            await self.reseal()
            self._began.clear()

    async def reseal(self) -> None:
        """Seals every record anew that is under the old key.

        Raises:
            Unavailable: the database cannot answer now; to be called again.
        """
        while self._change is not None and not self._change.all_resealed:
            found = sum([await self._reseal_column(column) for column in self._columns])
            wait = self._settled_at - self._clock.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            elif not found:
                self._note(all_resealed=True)
        await self.finish()

    async def _reseal_column(self, column: SealedColumn) -> int:
        found, after = 0, None
        while True:
            page = await self._store.read(partial(column.page, after=after, limit=BATCH))
            if not page:
                return found
            after = page[-1].key
            anew = [
                (
                    record,
                    self._sealer.seal(record.name, self._sealer.open(record.name, record.blob)),
                )
                for record in page
                if record.name is not None
                and record.blob is not None
                and not self._sealer.is_current(record.blob)
            ]
            if anew:
                found += len(anew)
                await self._write(column, anew)

    async def _write(self, column: SealedColumn, anew: list[tuple[Any, bytes]]) -> None:
        done = await self._store.write(lambda tx: column.replace(tx, anew))
        self._note(resealed=done)

    def _note(self, *, resealed: int = 0, all_resealed: bool = False) -> None:
        change = self._change
        if change is not None:
            self._change = replace(
                change, resealed=change.resealed + resealed, all_resealed=all_resealed
            )

    async def is_in_place(self) -> bool:
        """Whether a start would be given the new key now."""
        change = self._change
        try:
            present = await asyncio.to_thread(self._present)
        except (MasterKeyUnusable, OSError) as error:
            _log.error("the place of the master key cannot be read", error=str(error))
            return False
        return change is not None and present.id == change.new_id

    async def finish(self) -> bool:
        """Ends the change, if every record is sealed anew and the new key is in its place; whether
        it is over.

        Raises:
            Unavailable: the database cannot answer now.
            OSError: the data folder cannot be written.
        """
        change = self._change
        if change is None:
            return True
        if not change.all_resealed:
            return False
        if not await self.is_in_place():
            if not change.kept_here:
                return False
            await asyncio.to_thread(self._keep, self._sealer.master)
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            installation.remove(tx, ROW)
            subject = f"master-key/{change.new_id.hex()}"
            audit.append(tx, Entry(now, SYSTEM, Action.FORGET_MASTER_KEY, subject))

        await self._store.write(unit)
        self._sealer.end_change()
        self._change = None
        await asyncio.to_thread(self._forget, self._sealer.master)
        _log.warning("the master key was changed", id=change.new_id.hex())
        return True


def _out_of_row(key: bytes) -> MasterKey:
    """Where the operator has it is not known."""
    return MasterKey(key, MasterKeySource(MasterKeyKind.ENVIRONMENT))
