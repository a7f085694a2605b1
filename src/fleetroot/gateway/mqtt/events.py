"""What a server session says has happened.

Each asks something of the session's owner; the docstrings say what. A PINGREQ asks nothing, since
the session answers it, so it is not an event.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from fleetroot.gateway.mqtt.packets import Connect


@dataclass(frozen=True, slots=True)
class ConnectReceived:
    """The client wants in. Answer with `accept` or `refuse`, in your own time."""

    connect: Connect


@dataclass(frozen=True, slots=True)
class PublishReceived:
    """A message from the client. If `qos` is 1, call `puback(packet_id)` when it is safe, and not
    before; a client that saw no acknowledgement sends it again with `dup`.
    """

    topic: str
    payload: bytes = field(repr=False)
    qos: int
    retain: bool
    dup: bool
    packet_id: int | None


@dataclass(frozen=True, slots=True)
class SubscribeReceived:
    """The client asks for topics: pairs of filter and QoS (0 to 2). Answer with `suback`."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class UnsubscribeReceived:
    """The client gives topics back. Answer with `unsuback`, also if it never had them
    [MQTT-3.10.4-5].
    """

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PubackReceived:
    """The client has the message that `publish` was given `token` with."""

    packet_id: int
    token: object


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The client said goodbye. The session is closed and its will discarded [MQTT-3.14.4-3]."""


Event: TypeAlias = (
    ConnectReceived
    | PublishReceived
    | SubscribeReceived
    | UnsubscribeReceived
    | PubackReceived
    | Disconnected
)
