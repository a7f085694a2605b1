"""What an agent tells of its life: one event at a time, for a log or a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from fleetroot.clock import Clock, iso8601

Value: TypeAlias = str | int | float


class Happening(StrEnum):
    """What an event is about. Programs read these: add, never change."""

    PROVISIONING = "provisioning"
    PROVISIONED = "provisioned"
    CONNECTED = "connected"
    REPORTED = "reported"
    SENT = "sent"
    RENEWING = "renewing"
    RENEWED = "renewed"
    REFUSED = "refused"
    FAILED = "failed"
    LOST = "lost"
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: in words for people, in fields for programs."""

    at: datetime
    happening: Happening
    message: str
    fields: Mapping[str, Value] = field(default_factory=dict)

    def as_line(self) -> str:
        """The event as a line of a log."""
        return f"{self.at:%Y-%m-%d %H:%M:%SZ}  {self.happening:<12}  {self.message}"

    def as_object(self) -> dict[str, Value]:
        """The event as a JSON object."""
        return {
            "at": iso8601(self.at),
            "event": self.happening.value,
            "message": self.message,
            **self.fields,
        }


class Reporter:
    """Dates events, and hands them to whoever shows them."""

    def __init__(self, clock: Clock, show: Callable[[Event], None]) -> None:
        self._clock = clock
        self._show = show

    def tell(self, happening: Happening, message: str, **fields: Value) -> None:
        """Something happened. `fields` hold no secret: they are shown."""
        self._show(Event(self._clock.now(), happening, message, fields))
