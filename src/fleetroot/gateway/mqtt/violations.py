"""How a peer can break the protocol.

A `Violation` is a stable label for logs and metrics. The spec answers nearly all of them in one
way, by closing the network connection [MQTT-4.8.0-1]; the two that are told to the client first
are marked, and the session does the telling.
"""

from __future__ import annotations

from enum import StrEnum


class Violation(StrEnum):
    """What was broken."""

    # The form of one packet; the decoder finds these.
    REMAINING_LENGTH = "remaining_length"
    """The remaining length takes more than four bytes (§2.2.3)."""
    TOO_LARGE = "too_large"
    """The packet is over our limit."""
    PACKET_TYPE = "packet_type"
    """Types 0 and 15 are reserved (§2.2.1)."""
    RESERVED_FLAGS = "reserved_flags"
    """The fixed header's flags are not those of the packet type [MQTT-2.2.2-2]."""
    TRUNCATED = "truncated"
    """A field runs past the end of its packet."""
    TRAILING_BYTES = "trailing_bytes"
    """Bytes are left over after the last field."""
    STRING = "string"
    """Ill-formed UTF-8, a surrogate, or U+0000 [MQTT-1.5.3-1] [MQTT-1.5.3-2]."""
    PACKET_ID = "packet_id"
    """A packet identifier is zero [MQTT-2.3.1-1]."""
    TOPIC_NAME = "topic_name"
    """Empty [MQTT-4.7.3-1], or with a wildcard [MQTT-3.3.2-2]."""
    TOPIC_FILTER = "topic_filter"
    """Empty [MQTT-4.7.3-1], or with a wildcard out of place [MQTT-4.7.1-2] [MQTT-4.7.1-3]."""
    QOS = "qos"
    """QoS 3 [MQTT-3.3.1-4] [MQTT-3.8.3-4], or a QoS 0 message marked duplicate [MQTT-3.3.1-2]."""
    NO_FILTERS = "no_filters"
    """SUBSCRIBE, SUBACK or UNSUBSCRIBE with nothing in it [MQTT-3.8.3-3] [MQTT-3.10.3-2]."""
    TOO_MANY_FILTERS = "too_many_filters"
    """SUBSCRIBE or UNSUBSCRIBE with more filters than there are topics."""
    PROTOCOL_NAME = "protocol_name"
    """CONNECT of another protocol, MQTT 3.1 ("MQIsdp") included [MQTT-3.1.2-1]."""
    PROTOCOL_LEVEL = "protocol_level"
    """CONNECT of another version of MQTT. Answered with CONNACK 1 [MQTT-3.1.2-2]."""
    CONNECT_FLAGS = "connect_flags"
    """CONNECT's flags contradict each other (§3.1.2.3)."""
    RETURN_CODE = "return_code"
    """A CONNACK or SUBACK with a reserved code or flag (§3.2.2, §3.9.3), which a server sent."""

    # Right in form, wrong here; the session finds these.
    FIRST_PACKET = "first_packet"
    """The first packet is not CONNECT [MQTT-3.1.0-1]."""
    SECOND_CONNECT = "second_connect"
    """CONNECT again on one connection [MQTT-3.1.0-2]."""
    CLIENT_ID = "client_id"
    """No client id and no clean session. Answered with CONNACK 2 [MQTT-3.1.3-8]."""
    QOS_2 = "qos_2"
    """A message, or an acknowledgement, of QoS 2, which neither service offers."""
    UNEXPECTED_PACKET = "unexpected_packet"
    """A packet that only servers send (§2.2.1)."""
    HELD_BACK = "held_back"
    """Too much was sent ahead of the answer to CONNECT (§3.1.4)."""


class ProtocolViolation(Exception):
    """The peer broke the protocol; the connection must be closed.

    Attributes:
        reason: what was broken.
        message: the same for people; it never quotes what the peer sent.
    """

    def __init__(self, reason: Violation, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
