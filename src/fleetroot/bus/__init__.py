"""The bus: how the parts of a node, and later nodes, tell each other that something changed.

A hint carries no truth. Whoever hears one reads the database; whoever misses one reads it a second
later anyway. In one process a hint is a call. This room imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

OUTBOX = "outbox"  # the outbox has a new row


class Bus(Protocol):
    """Hints, by topic."""

    def hint(self, topic: str) -> None:
        """Tells everyone who subscribed to `topic`. Never blocks, never fails."""
        ...

    def subscribe(self, topic: str, heard: Callable[[], None]) -> Callable[[], None]:
        """Calls `heard` at every hint; the returned function ends that."""
        ...


class LocalBus:
    """The bus of a single process; use it from one event loop."""

    def __init__(self) -> None:
        self._subscribers: dict[str, list[Callable[[], None]]] = {}

    def hint(self, topic: str) -> None:
        for heard in tuple(self._subscribers.get(topic, ())):
            heard()

    def subscribe(self, topic: str, heard: Callable[[], None]) -> Callable[[], None]:
        subscribers = self._subscribers.setdefault(topic, [])
        subscribers.append(heard)
        return lambda: subscribers.remove(heard)
