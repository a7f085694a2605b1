"""The control packets of MQTT 3.1.1 as values, in both directions.

A packet that came out of the decoder is well formed. One that is made by hand is checked when it
is encoded. PUBREC, PUBREL and PUBCOMP have no class: neither service offers QoS 2.

Passwords and payloads stay out of every `repr`, so that a packet in a log or a traceback is not a
secret in a log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias


class ConnackCode(IntEnum):
    """Answers to CONNECT (§3.2.2.3)."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL_VERSION = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_USERNAME_OR_PASSWORD = 4
    NOT_AUTHORIZED = 5


class SubackCode(IntEnum):
    """Answers to one filter of a SUBSCRIBE: the granted QoS, or failure (§3.9.3)."""

    QOS_0 = 0
    QOS_1 = 1
    QOS_2 = 2
    FAILURE = 0x80


@dataclass(frozen=True, slots=True)
class Will:
    """What the client wants published if it goes without saying so (§3.1.2.5). QoS 2 is well formed
    here; that nothing is published at QoS 2 is for the session's owner to apply.
    """

    topic: str
    payload: bytes = field(repr=False)
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """Client to server, first and once (§3.1). `keep_alive` is in seconds, 0 for none. A password
    of zero bytes differs from none.
    """

    client_id: str
    clean_session: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    will: Will | None = None


@dataclass(frozen=True, slots=True)
class Connack:
    """Server to client, the answer to CONNECT (§3.2)."""

    session_present: bool
    code: ConnackCode


@dataclass(frozen=True, slots=True)
class Publish:
    """A message, either way (§3.3). `packet_id` is None exactly if `qos` is 0."""

    topic: str
    payload: bytes = field(repr=False)
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int | None = None


@dataclass(frozen=True, slots=True)
class Puback:
    """Acknowledges a QoS 1 message (§3.4)."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Client to server: pairs of topic filter and requested QoS, in the client's order (§3.8)."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Suback:
    """Server to client: one code for each filter of the SUBSCRIBE, in its order (§3.9)."""

    packet_id: int
    codes: tuple[SubackCode, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Client to server (§3.10)."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsuback:
    """Server to client (§3.11)."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pingreq:
    """Client to server: still here (§3.12)."""


@dataclass(frozen=True, slots=True)
class Pingresp:
    """Server to client: so am I (§3.13)."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Client to server: a goodbye, after which the will is not published (§3.14)."""


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
)
