"""The bodies of control packets, parsed: what stands behind the fixed header (§3).

One function for each packet type. It is given the fixed header's flags and the whole body, and
either accounts for every byte or raises `ProtocolViolation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from fleetroot.gateway.mqtt.packets import (
    Connack,
    ConnackCode,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    SubackCode,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from fleetroot.gateway.mqtt.topics import is_topic_filter, is_topic_name
from fleetroot.gateway.mqtt.violations import ProtocolViolation, Violation

PROTOCOL: Final = b"\x00\x04MQTT"
PROTOCOL_LEVEL: Final = 4
MAX_FILTERS: Final = 64  # of one packet: far more than there are topics

# CONNECT's flags, §3.1.2.3
CLEAN_SESSION: Final = 0x02
WILL: Final = 0x04
WILL_QOS: Final = 0x18
WILL_RETAIN: Final = 0x20
PASSWORD: Final = 0x40
USERNAME: Final = 0x80


def _parse_publish(flags: int, body: bytes) -> Publish:
    # The hot path of a server: straight-line, without the reader below.
    size = len(body)
    if size < 2:
        raise _truncated()
    end = 2 + (body[0] << 8 | body[1])
    qos = flags >> 1 & 3
    payload = end + 2 if qos else end
    if payload > size:
        raise _truncated()
    topic = _decode_text(body[2:end])
    if "+" in topic or "#" in topic or not topic:
        raise ProtocolViolation(
            Violation.TOPIC_NAME, "the topic of a message is empty or has a wildcard"
        )
    if not qos:
        if flags & 0x08:
            raise ProtocolViolation(Violation.QOS, "a QoS 0 message is marked as a duplicate")
        return Publish(topic, body[end:], 0, bool(flags & 1))
    if qos == 3:
        raise ProtocolViolation(Violation.QOS, "a message has QoS 3")
    packet_id = body[end] << 8 | body[end + 1] or _refuse_zero_packet_id()
    return Publish(topic, body[payload:], qos, bool(flags & 1), bool(flags & 8), packet_id)


def _parse_connect(_: int, body: bytes) -> Connect:
    if not body.startswith(PROTOCOL):
        raise ProtocolViolation(Violation.PROTOCOL_NAME, "the protocol's name is not MQTT")
    reader = _Reader(body, len(PROTOCOL))
    # First of all, because what stands behind another level is another protocol.
    if (level := reader.byte()) != PROTOCOL_LEVEL:
        raise ProtocolViolation(Violation.PROTOCOL_LEVEL, f"protocol level {level} is not 4")
    flags = reader.byte()
    _check_connect_flags(flags)
    keep_alive = reader.integer()
    client_id = reader.text()
    will = None
    if flags & WILL:
        topic = reader.text()
        if not is_topic_name(topic):
            raise ProtocolViolation(
                Violation.TOPIC_NAME, "the topic of the will is empty or has a wildcard"
            )
        will = Will(topic, reader.binary(), (flags & WILL_QOS) >> 3, bool(flags & WILL_RETAIN))
    username = reader.text() if flags & USERNAME else None
    password = reader.binary() if flags & PASSWORD else None
    reader.finish()
    return Connect(client_id, bool(flags & CLEAN_SESSION), keep_alive, username, password, will)


def _check_connect_flags(flags: int) -> None:
    if flags & 0x01:  # [MQTT-3.1.2-3]
        wrong = "the reserved flag of CONNECT is set"
    elif flags & WILL_QOS == WILL_QOS:  # [MQTT-3.1.2-14]
        wrong = "the will has QoS 3"
    elif not flags & WILL and flags & (WILL_QOS | WILL_RETAIN):  # [MQTT-3.1.2-13] [MQTT-3.1.2-15]
        wrong = "there is no will, but a QoS or retain flag for it"
    elif flags & PASSWORD and not flags & USERNAME:  # [MQTT-3.1.2-22]
        wrong = "there is a password without a user name"
    else:
        return
    raise ProtocolViolation(Violation.CONNECT_FLAGS, wrong)


def _parse_connack(_: int, body: bytes) -> Connack:
    reader = _Reader(body)
    flags = reader.byte()
    code = reader.byte()
    reader.finish()
    if flags > 1 or code > 5 or (flags and code):  # [MQTT-3.2.2-4]
        raise ProtocolViolation(Violation.RETURN_CODE, "CONNACK with reserved flags or code")
    return Connack(bool(flags), ConnackCode(code))


def _parse_subscribe(_: int, body: bytes) -> Subscribe:
    reader = _Reader(body)
    packet_id = reader.packet_id()
    filters = []
    while reader.more():
        topic_filter = reader.topic_filter()
        qos = reader.byte()
        if qos > 2:
            raise ProtocolViolation(Violation.QOS, "a subscription asks for QoS 3 or reserved bits")
        filters.append((topic_filter, qos))
        _check_count(filters)
    if not filters:
        raise _no_filters()
    return Subscribe(packet_id, tuple(filters))


def _parse_suback(_: int, body: bytes) -> Suback:
    reader = _Reader(body)
    packet_id = reader.packet_id()
    codes = body[2:]
    if not codes:
        raise _no_filters()
    try:
        return Suback(packet_id, tuple(map(SubackCode, codes)))
    except ValueError:
        raise ProtocolViolation(Violation.RETURN_CODE, "SUBACK with a reserved code") from None


def _parse_unsubscribe(_: int, body: bytes) -> Unsubscribe:
    reader = _Reader(body)
    packet_id = reader.packet_id()
    filters = []
    while reader.more():
        filters.append(reader.topic_filter())
        _check_count(filters)
    if not filters:
        raise _no_filters()
    return Unsubscribe(packet_id, tuple(filters))


def _parse_puback(_: int, body: bytes) -> Puback:
    return Puback(_only_packet_id(body))


def _parse_unsuback(_: int, body: bytes) -> Unsuback:
    return Unsuback(_only_packet_id(body))


def _parse_pingreq(_: int, body: bytes) -> Pingreq:
    _Reader(body).finish()
    return Pingreq()


def _parse_pingresp(_: int, body: bytes) -> Pingresp:
    _Reader(body).finish()
    return Pingresp()


def _parse_disconnect(_: int, body: bytes) -> Disconnect:
    _Reader(body).finish()
    return Disconnect()


PARSERS: Final[dict[int, Callable[[int, bytes], Packet]]] = {
    1: _parse_connect,
    2: _parse_connack,
    3: _parse_publish,
    4: _parse_puback,
    8: _parse_subscribe,
    9: _parse_suback,
    10: _parse_unsubscribe,
    11: _parse_unsuback,
    12: _parse_pingreq,
    13: _parse_pingresp,
    14: _parse_disconnect,
}


class _Reader:
    """Reads the fields of one body in order (§1.5); nothing outside it is ever read."""

    __slots__ = ("_body", "_position")

    def __init__(self, body: bytes, position: int = 0) -> None:
        self._body = body
        self._position = position

    def byte(self) -> int:
        return self._take(1)[0]

    def integer(self) -> int:
        return int.from_bytes(self._take(2), "big")

    def binary(self) -> bytes:
        return self._take(self.integer())

    def text(self) -> str:
        return _decode_text(self.binary())

    def packet_id(self) -> int:
        return self.integer() or _refuse_zero_packet_id()

    def topic_filter(self) -> str:
        topic_filter = self.text()
        if not is_topic_filter(topic_filter):
            raise ProtocolViolation(
                Violation.TOPIC_FILTER, "a topic filter is empty or has a wildcard out of place"
            )
        return topic_filter

    def more(self) -> bool:
        return self._position < len(self._body)

    def finish(self) -> None:
        if self.more():
            raise ProtocolViolation(Violation.TRAILING_BYTES, "bytes behind the last field")

    def _take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._body):
            raise _truncated()
        taken = self._body[self._position : end]
        self._position = end
        return taken


def _decode_text(encoded: bytes) -> str:
    # Strict UTF-8 refuses surrogates [MQTT-1.5.3-1], and keeps U+FEFF [MQTT-1.5.3-3].
    try:
        text = encoded.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(Violation.STRING, "a string is not UTF-8") from None
    if "\0" in text:  # [MQTT-1.5.3-2]
        raise ProtocolViolation(Violation.STRING, "a string contains U+0000")
    return text


def _only_packet_id(body: bytes) -> int:
    if len(body) != 2:
        reason = Violation.TRUNCATED if len(body) < 2 else Violation.TRAILING_BYTES
        raise ProtocolViolation(reason, "an acknowledgement is two bytes")
    return body[0] << 8 | body[1] or _refuse_zero_packet_id()


def _refuse_zero_packet_id() -> NoReturn:
    raise ProtocolViolation(Violation.PACKET_ID, "a packet identifier is zero")


def _truncated() -> ProtocolViolation:
    return ProtocolViolation(Violation.TRUNCATED, "a field runs past the end of its packet")


def _check_count(filters: Sequence[object]) -> None:
    if len(filters) > MAX_FILTERS:
        raise ProtocolViolation(
            Violation.TOO_MANY_FILTERS, f"more than {MAX_FILTERS} filters in one packet"
        )


def _no_filters() -> ProtocolViolation:
    return ProtocolViolation(Violation.NO_FILTERS, "a subscription packet without a filter")
