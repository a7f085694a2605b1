"""What jobs need of queries: which devices a condition means.

A condition is the part of a query behind WHERE, or `*` for all. The keys come in chunks, each read
by itself, so that a job over a million devices holds up nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from fleetroot.hub.model import Hub


class Targets(Protocol):
    """Finds the devices that conditions mean."""

    def check(self, condition: str) -> None:
        """Lets a condition pass that can be asked.

        Raises:
            InvalidArgument: it cannot; the message says what is wrong, and where.
        """
        ...

    def chunks(self, hub: Hub, condition: str) -> AsyncIterator[list[str]]:
        """The keys of the devices that are meant, some at a time; a key may come twice.

        Raises:
            InvalidArgument: as `check`.
            TimedOut: it takes too long to find them.
            Unavailable: the database cannot answer now.
        """
        ...
