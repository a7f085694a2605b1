"""Refusals on their way into the log: gathered, and at a pace.

A refusal changes nothing, so no unit of work waits for its entry, and whoever is refused can be so
a million times. The first of each kind and reason get an entry each, as long as the pace allows;
of the rest, an entry says how many they were. What is gathered is written every few seconds; a
crash loses at most that.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from fleetroot.audit import log
from fleetroot.audit.model import SYSTEM, Entry, Outcome
from fleetroot.clock import Clock
from fleetroot.pace import Pace
from fleetroot.storage import Store

_PER_SECOND: Final = 1.0
_BURST: Final = 1000
_MAX_GATHERED: Final = 4000


class RefusalJournal:
    """Takes refusals from every wire, and writes them as entries."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._gathered: list[Entry] = []
        self._left_out: Counter[tuple[str, str]] = Counter()
        self._pace: Pace[None] = Pace(_PER_SECOND, _BURST, clock.monotonic)

    def note(self, entry: Entry, label: str) -> None:
        """Takes a refusal; `label` is its reason as it is counted, one of few."""
        if len(self._gathered) < _MAX_GATHERED and self._pace.take(None):
            self._gathered.append(entry)
        else:
            self._left_out[entry.action, label] += 1

    async def write(self) -> None:
        """Writes what was gathered, and how many were not.

        Raises:
            Unavailable: the database cannot answer now; the next time writes them.
        """
        gathered, left_out = self._gathered, self._left_out
        if not gathered and not left_out:
            return
        self._gathered, self._left_out = [], Counter()
        now = self._clock.now()
        summaries = [
            Entry(
                now,
                SYSTEM,
                action,
                "refusals",
                outcome=Outcome.REFUSED,
                reason=label,
                details={"count": count},
            )
            for (action, label), count in left_out.items()
        ]
        try:
            await self._store.write(lambda tx: log.append_many(tx, gathered + summaries))
        except BaseException:
            self._gathered = gathered + self._gathered
            self._left_out += left_out
            raise
