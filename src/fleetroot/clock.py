"""Time, passed in.

Every room takes a `Clock` and reads it once for a decision, so that all parts of one decision
agree on what time it is and a test moves time instead of sleeping. Wall-clock time decides about
certificates and tokens; `monotonic` measures durations, and is never compared with a date.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


def iso8601(at: datetime) -> str:
    """The time in UTC as the wires write it: `2026-01-31T12:00:00.000Z`."""
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


class Clock(Protocol):
    """Where a room reads the time."""

    def now(self) -> datetime:
        """The time now, timezone-aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; never goes backward."""
        ...


class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when it is told to, for tests."""

    __slots__ = ("_monotonic", "_now")

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        """Moves both clocks forward by `by`."""
        self._now += by
        self._monotonic += by.total_seconds()

    def set_back(self, by: timedelta) -> None:
        """Moves the wall clock backward, as an operator or a bad time server would."""
        self._now -= by
