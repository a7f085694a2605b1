"""Packets to bytes and back, both directions of MQTT 3.1.1.

A packet is a fixed header (type and flags in one byte, then the remaining length in one to four)
and a body (§2). The decoder judges the fixed header as soon as it can read it, so that a packet
that is too large, or of a type that does not exist, is refused before its body is kept; the body is
parsed, in `bodies`, when all of it is there.

Decoding is linear in the bytes however they are split, and payloads are only ever sliced.
"""

from __future__ import annotations

import struct
from typing import Final

from fleetroot.gateway.mqtt import bodies
from fleetroot.gateway.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from fleetroot.gateway.mqtt.topics import is_topic_filter, is_topic_name
from fleetroot.gateway.mqtt.violations import ProtocolViolation, Violation

MAX_REMAINING_LENGTH: Final = 268_435_455  # four bytes of seven bits, §2.2.3

_PUBLISH: Final = 0x30  # the first byte without its flags
_PUBREC_TO_PUBCOMP: Final = range(5, 8)

_SMALL_HEADER: Final = struct.Struct(">BBH")


class Decoder:
    """Takes bytes as they arrive and gives packets as they complete.

    Attributes:
        max_packet_bytes: the largest remaining length that is accepted (all of a packet but its
            first two to five bytes). It may be changed at any time and counts for every packet
            that is not complete yet, so a stranger can be held to less than a client.
    """

    __slots__ = ("_buffer", "_position", "_wanted", "max_packet_bytes")

    def __init__(self, max_packet_bytes: int) -> None:
        self.max_packet_bytes = max_packet_bytes
        # What has arrived and is not decoded starts at _position. Nearly always it is the very
        # object that was received; only a packet that comes in pieces is copied together.
        self._buffer: bytes | bytearray = b""
        self._position = 0
        self._wanted = 2  # length of _buffer below which looking again is useless

    @property
    def buffered_bytes(self) -> int:
        """How many bytes have arrived and are not decoded yet."""
        return len(self._buffer) - self._position

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """Takes what the peer sent next; `next_packet` gives what it completes."""
        if not self._buffer:
            self._buffer = bytes(data)
            return
        if isinstance(self._buffer, bytes):
            self._buffer = bytearray(memoryview(self._buffer)[self._position :])
        else:
            del self._buffer[: self._position]
        self._wanted -= self._position
        self._position = 0
        self._buffer += data

    def next_packet(self) -> Packet | None:
        """The next packet, or None until more has been received.

        Raises:
            ProtocolViolation: what arrived is not MQTT 3.1.1. There is no way on from there:
                another call finds the same.
        """
        buffer = self._buffer
        size = len(buffer)
        if size < self._wanted:
            return None
        position = self._position
        first = buffer[position]
        length = buffer[position + 1]
        body = position + 2
        if length > 0x7F:
            length &= 0x7F
            shift = 7
            while True:
                if body == size:
                    self._wanted = size + 1
                    return None
                byte = buffer[body]
                body += 1
                length |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift == 28:
                    raise ProtocolViolation(
                        Violation.REMAINING_LENGTH, "the remaining length takes over four bytes"
                    )
        if first & 0xF0 != _PUBLISH:
            _check_first_byte(first)
        if length > self.max_packet_bytes:
            raise ProtocolViolation(
                Violation.TOO_LARGE, f"a packet of {length} bytes is over {self.max_packet_bytes}"
            )
        end = body + length
        if end > size:
            self._wanted = end
            return None
        packet = bodies.PARSERS[first >> 4](first & 0x0F, bytes(memoryview(buffer)[body:end]))
        if end == size:
            self.clear()
        else:
            self._position = end
            self._wanted = end + 2
        return packet

    def feed(self, data: bytes | bytearray | memoryview) -> list[Packet]:
        """`receive`, then every packet there is.

        Raises:
            ProtocolViolation: as `next_packet`; packets that came before it in `data` are lost.
        """
        self.receive(data)
        packets = []
        while (packet := self.next_packet()) is not None:
            packets.append(packet)
        return packets

    def clear(self) -> None:
        """Forgets what has arrived and is not decoded yet."""
        self._buffer = b""
        self._position = 0
        self._wanted = 2


def _check_first_byte(first: int) -> None:
    """Checks type and flags of any packet but PUBLISH, whose flags are its own."""
    kind = first >> 4
    if kind in _PUBREC_TO_PUBCOMP:
        raise ProtocolViolation(Violation.QOS_2, "QoS 2 is not offered")
    if kind not in bodies.PARSERS:
        raise ProtocolViolation(Violation.PACKET_TYPE, f"packet type {kind} is reserved")
    # SUBSCRIBE [MQTT-3.8.1-1] and UNSUBSCRIBE [MQTT-3.10.1-1] have one bit set, for no reason left.
    if first & 0x0F != (0x02 if kind in {8, 10} else 0):
        raise ProtocolViolation(Violation.RESERVED_FLAGS, "reserved flags of the fixed header")


# Encoding


def encode(packet: Packet) -> bytes:
    """The bytes of any packet.

    Raises:
        ValueError: the packet breaks a rule that its type cannot express (a packet id out of
            range, a wildcard in a topic name, a string over 65,535 bytes, …): a bug of the caller.
    """
    match packet:
        case Publish(topic, payload, qos, retain, dup, packet_id):
            return encode_publish(
                topic, payload, qos=qos, packet_id=packet_id, dup=dup, retain=retain
            )
        case Puback(packet_id):
            return encode_puback(packet_id)
        case Connect():
            return _frame(0x10, _connect_body(packet))
        case Connack(session_present, code):
            if session_present and code:  # [MQTT-3.2.2-4]
                raise ValueError("a refusal has no session")
            return _frame(0x20, bytes((session_present, code)))
        case Subscribe(packet_id, filters):
            return _frame(0x82, _packet_id(packet_id) + _requests(filters))
        case Suback(packet_id, codes):
            return _frame(0x90, _packet_id(packet_id) + _non_empty(bytes(codes)))
        case Unsubscribe(packet_id, topic_filters):
            names = b"".join(map(_topic_filter, topic_filters))
            return _frame(0xA2, _packet_id(packet_id) + _non_empty(names))
        case Unsuback(packet_id):
            return _frame(0xB0, _packet_id(packet_id))
        case Pingreq():
            return b"\xc0\x00"
        case Pingresp():
            return b"\xd0\x00"
        case Disconnect():
            return b"\xe0\x00"


def encode_publish(
    topic: str,
    payload: bytes,
    *,
    qos: int = 0,
    packet_id: int | None = None,
    dup: bool = False,
    retain: bool = False,
) -> bytes:
    """The bytes of a PUBLISH, without a packet made for it.

    Raises:
        ValueError: as `encode`; also if there is a packet id at QoS 0 or none above it
            [MQTT-2.3.1-5], or `dup` at QoS 0 [MQTT-3.3.1-2].
    """
    if not is_topic_name(topic):
        raise ValueError("not a topic name")
    name = topic.encode()
    if qos == 0:
        if packet_id is not None or dup:
            raise ValueError("a QoS 0 message has no packet id and no duplicates")
        number = b""
    elif packet_id is None or not 0 < qos < 3:
        raise ValueError("a QoS 1 or 2 message has a packet id")
    else:
        number = _packet_id(packet_id)
    first = _PUBLISH | dup << 3 | qos << 1 | retain
    length = 2 + len(name) + len(number) + len(payload)
    if length < 0x80:
        header = _SMALL_HEADER.pack(first, length, len(name))
    else:
        header = _fixed_header(first, length) + _length(name)
    return b"".join((header, name, number, payload))


def encode_puback(packet_id: int) -> bytes:
    """The bytes of a PUBACK.

    Raises:
        ValueError: `packet_id` is not in 1 to 65,535.
    """
    return b"\x40\x02" + _packet_id(packet_id)


def _connect_body(connect: Connect) -> bytes:
    flags = bodies.CLEAN_SESSION if connect.clean_session else 0
    fields = [_text(connect.client_id)]
    if (will := connect.will) is not None:
        if not is_topic_name(will.topic) or will.qos not in {0, 1, 2}:
            raise ValueError("the will is not a message")
        flags |= bodies.WILL | will.qos << 3 | (bodies.WILL_RETAIN if will.retain else 0)
        fields += [_text(will.topic), _binary(will.payload)]
    if connect.username is not None:
        flags |= bodies.USERNAME
        fields.append(_text(connect.username))
    if connect.password is not None:
        if connect.username is None:  # [MQTT-3.1.2-22]
            raise ValueError("a password needs a user name")
        flags |= bodies.PASSWORD
        fields.append(_binary(connect.password))
    if not 0 <= connect.keep_alive <= 0xFFFF:
        raise ValueError("keep-alive is 0 to 65,535 seconds")
    fixed = bodies.PROTOCOL + bytes((bodies.PROTOCOL_LEVEL, flags))
    return b"".join((fixed, connect.keep_alive.to_bytes(2, "big"), *fields))


def _requests(filters: tuple[tuple[str, int], ...]) -> bytes:
    if any(qos not in {0, 1, 2} for _, qos in filters):
        raise ValueError("a subscription asks for QoS 0 to 2")
    return _non_empty(b"".join(_topic_filter(name) + bytes((qos,)) for name, qos in filters))


def _non_empty(content: bytes) -> bytes:
    if not content:  # [MQTT-3.8.3-3] [MQTT-3.10.3-2]
        raise ValueError("a subscription packet needs a filter")
    return content


def _topic_filter(text: str) -> bytes:
    if not is_topic_filter(text):
        raise ValueError("not a topic filter")
    return _text(text)


def _text(text: str) -> bytes:
    if "\0" in text:  # [MQTT-1.5.3-2]
        raise ValueError("a string contains U+0000")
    return _binary(text.encode())


def _binary(content: bytes) -> bytes:
    return _length(content) + content


def _length(content: bytes) -> bytes:
    if len(content) > 0xFFFF:
        raise ValueError("a field is over 65,535 bytes")
    return len(content).to_bytes(2, "big")


def _packet_id(packet_id: int) -> bytes:
    if not 0 < packet_id <= 0xFFFF:  # [MQTT-2.3.1-1]
        raise ValueError("a packet id is 1 to 65,535")
    return packet_id.to_bytes(2, "big")


def _frame(first: int, body: bytes) -> bytes:
    return _fixed_header(first, len(body)) + body


def _fixed_header(first: int, length: int) -> bytes:
    if length > MAX_REMAINING_LENGTH:
        raise ValueError("a packet is over 268,435,455 bytes")
    header = bytearray((first,))
    while length > 0x7F:
        header.append(length & 0x7F | 0x80)
        length >>= 7
    header.append(length)
    return bytes(header)
