"""The room's face: the log is read, exported and verified here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from fleetroot.audit import checkpoints, log
from fleetroot.audit.checkpoints import Checkpoints
from fleetroot.audit.export import checkpoint_line
from fleetroot.audit.model import Action, Actor, Change, Entry, LoggedEntry
from fleetroot.audit.refusals import RefusalJournal
from fleetroot.clock import Clock
from fleetroot.custody import KeyCustody
from fleetroot.storage import Store

_PAGE: Final = 1000
_END: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The log of one installation."""

    _store: Store
    _checkpoints: Checkpoints
    _refusals: RefusalJournal
    _clock: Clock

    @classmethod
    async def open(cls, store: Store, custody: KeyCustody, clock: Clock) -> AuditLog:
        """Opens the log and its key; a first start makes the key.

        Raises:
            Unavailable: the database cannot answer now.
        """
        made = Checkpoints(store, custody, clock)
        await made.start()
        return cls(store, made, RefusalJournal(store, clock), clock)

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """What checkpoints are verified with."""
        return self._checkpoints.public_key

    def note_refusal(self, entry: Entry, label: str) -> None:
        """Takes a refusal, which is written with the next `write`; `label` is its reason as it is
        counted, one of few.
        """
        self._refusals.note(entry, label)

    async def write(self) -> None:
        """Writes the refusals that were gathered, and covers what is new in the log by checkpoints.

        Raises:
            Unavailable: the database cannot answer now.
        """
        await self._refusals.write()
        await self._checkpoints.write()

    async def page(
        self, *, before: int | None = None, limit: int = 100, subject: str | None = None
    ) -> list[LoggedEntry]:
        """Up to `limit` entries before the number `before`, newest first; of one subject, or all.
        A subject is a kind and an id, as `device/dev-1`.
        """
        return await self._store.read(
            lambda tx: log.before(tx, before, min(limit, _PAGE), subject=subject)
        )

    async def change(self, subject: str, trace_id: str) -> Change | None:
        """What the call with that trace id did to the subject, in a namespace; None: nothing."""
        return await self._store.read(lambda tx: log.change(tx, subject, trace_id))

    async def note_export(self, by: Actor) -> None:
        """Adds that somebody takes the log away."""
        entry = Entry(self._clock.now(), by, Action.EXPORT_AUDIT_LOG, "audit-log")
        await self._store.write(lambda tx: log.append(tx, entry))

    async def export(self) -> AsyncIterator[bytes]:
        """The whole log as lines (see `export`), some at a time."""
        seq = number = 0
        while True:
            covered = await self._store.read(
                lambda tx, number=number: checkpoints.after(tx, number, 1)  # type: ignore[misc]
            )
            last = covered[0].last_seq if covered else _END
            while page := await self._store.read(
                lambda tx, seq=seq, last=last: log.between(tx, seq, last, _PAGE)  # type: ignore[misc]
            ):
                yield b"".join(entry.line + b"\n" for entry in page)
                seq = page[-1].seq
            if not covered:
                return
            yield checkpoint_line(covered[0]) + b"\n"
            number = covered[0].number
