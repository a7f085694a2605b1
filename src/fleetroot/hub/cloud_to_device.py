"""Cloud-to-device messages as values: their parts, their limits, and what may become of them.

Source: Azure IoT Hub, "Send cloud-to-device messages from an IoT hub" and "Create and read IoT Hub
messages".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from fleetroot.errors import InvalidArgument, TooLarge
from fleetroot.ids import new_uuid

MAX_BODY_BYTES: Final = 64 * 1024
# So that they pass every wire: as a topic three times as long, and as headers of HTTP clients that
# take 16 KB of them.
MAX_PROPERTIES_BYTES: Final = 8 * 1024
MAX_PROPERTIES: Final = 64
MAX_LIFETIME: Final = timedelta(days=2)
ACK: Final = "iothub-ack"
SYSTEM_PROPERTIES: Final = ("correlationId", "userId", "contentType", "contentEncoding")
"""What a message may have beside its id, by the names that messages from devices have."""

_ID: Final = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,128}", re.ASCII)  # RFC 9110 §5.6.2
_VALUE: Final = re.compile(r"[\x21-\x7e]+(?:[ \t]+[\x21-\x7e]+)*|", re.ASCII)  # as a header carries


class Ack(StrEnum):
    """Of which outcomes the sender wants to hear."""

    NONE = "none"
    POSITIVE = "positive"
    NEGATIVE = "negative"
    FULL = "full"


class Outcome(StrEnum):
    """What became of a message; the words are those of feedback."""

    SUCCESS = "Success"
    EXPIRED = "Expired"
    DELIVERY_COUNT_EXCEEDED = "DeliveryCountExceeded"
    REJECTED = "Rejected"
    PURGED = "Purged"

    def is_wanted(self, ack: Ack) -> bool:
        """Whether a sender who asked for `ack` hears of it."""
        return ack is Ack.FULL or ack is (Ack.POSITIVE if self is Outcome.SUCCESS else Ack.NEGATIVE)


@dataclass(frozen=True, slots=True)
class CloudToDeviceMessage:
    """A message for a device; what is said here keeps its limits.

    Attributes:
        properties: what the application put on it.
        system_properties: those of `SYSTEM_PROPERTIES` that it has.
    """

    message_id: str
    body: bytes
    expires_at: datetime
    ack: Ack = Ack.NONE
    properties: Mapping[str, str] = field(default_factory=dict)
    system_properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message in the queue of its device.

    Attributes:
        seq: its place; what was sent later has a higher one.
        delivery_count: how often its delivery came to nothing before.
    """

    seq: int
    enqueued_at: datetime
    delivery_count: int
    message: CloudToDeviceMessage

    @property
    def size(self) -> int:
        """About what it takes in memory and on the wire, in bytes."""
        return len(self.message.body) + _size(self.message.properties) + 512


@dataclass(frozen=True, slots=True)
class Feedback:
    """What became of one message."""

    message_id: str
    device_id: str
    generation_id: str
    outcome: Outcome
    at: datetime


def make_message(
    body: bytes,
    properties: Mapping[str, str],
    system_properties: Mapping[str, str],
    *,
    now: datetime,
    lifetime: timedelta,
    message_id: str | None = None,
    ack: Ack = Ack.NONE,
    expires_at: datetime | None = None,
) -> CloudToDeviceMessage:
    """A message from what its sender says.

    Args:
        lifetime: of a message that says none.
        message_id: of the sender; without one it gets one.

    Raises:
        InvalidArgument: a part is not of its form, or its time is over, or too far away.
        TooLarge: it is over a limit.
    """
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(f"the body of a cloud-to-device message is at most {MAX_BODY_BYTES} bytes")
    _check_properties(properties)
    if message_id is not None and not _ID.fullmatch(message_id):
        raise InvalidArgument(
            "messageId: 1 to 128 letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '"
        )
    for name, value in system_properties.items():
        if len(value) > 128 or not value or not _VALUE.fullmatch(value):
            raise InvalidArgument(f"{name}: 1 to 128 characters of printable ASCII")
    if expires_at is None:
        expires_at = now + lifetime
    elif expires_at <= now:
        raise InvalidArgument("the message is expired already")
    elif expires_at > now + MAX_LIFETIME:
        raise InvalidArgument(f"a message lives at most {MAX_LIFETIME.days} days")
    return CloudToDeviceMessage(
        message_id or new_uuid(), body, expires_at, ack, properties, system_properties
    )


def _size(properties: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in properties.items())


def _check_properties(properties: Mapping[str, str]) -> None:
    if len(properties) > MAX_PROPERTIES:
        raise InvalidArgument(f"properties: at most {MAX_PROPERTIES}")
    if _size(properties) > MAX_PROPERTIES_BYTES:
        raise TooLarge(f"properties are at most {MAX_PROPERTIES_BYTES} bytes together")
    for name, value in properties.items():
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                "properties: names are 1 to 128 letters, digits and ! # $ % & ' * + - . ^ _ ` | ~"
            )
        if name.startswith("$.") or name.lower() == ACK:
            raise InvalidArgument(f"properties: {name} is the protocol's own")
        if not _VALUE.fullmatch(value):
            raise InvalidArgument(
                f"properties.{name}: printable ASCII, with no space first or last"
            )
