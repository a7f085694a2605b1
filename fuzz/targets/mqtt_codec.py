"""The MQTT decoder: what a client's bytes are, however they are split."""

from __future__ import annotations

from collections.abc import Iterator

from fleetroot.gateway.mqtt import (
    Connack,
    ConnackCode,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    ProtocolViolation,
    Puback,
    Publish,
    Suback,
    SubackCode,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Violation,
    Will,
    encode,
)
from fuzz.reading import splits

LIMIT = 300  # of a packet, within reach of an input
TOKENS = (b"\x00\x04MQTT\x04", b"\x10", b"\x30", b"\x32", b"\x82", b"\xa2", b"\x80\x80\x01")


def check(data: bytes) -> None:
    """Every split gives the same packets and the same end, every packet is what its bytes say, and
    there is no way on from a violation.
    """
    packets, violation = decode([data])
    for pieces in splits(data):
        assert decode(pieces) == (packets, violation), "another split is another stream"
    framed = list(frames(data))
    assert len(packets) <= len(framed), "a packet out of nothing"
    for packet, (first, body) in zip(packets, framed, strict=False):
        again = encode(packet)
        assert next(frames(again)) == (first, body), "something was lost on the way in"
        assert Decoder(LIMIT).feed(again) == [packet]
    if violation is None:
        assert len(packets) == len(framed), "a packet went missing"


def decode(pieces: list[bytes]) -> tuple[list[Packet], Violation | None]:
    """All the packets that come of a stream, and how it ends."""
    decoder = Decoder(LIMIT)
    found: list[Packet] = []
    try:
        for piece in pieces:
            decoder.receive(piece)
            while (packet := decoder.next_packet()) is not None:
                found.append(packet)
    except ProtocolViolation as violation:
        decoder.receive(b"\xc0\x00")
        try:
            decoder.next_packet()
        except ProtocolViolation as again:
            assert again.reason is violation.reason
            return found, violation.reason
        raise AssertionError("there is a way on from a violation") from violation
    return found, None


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """First byte and body of every whole packet, by §2.2 alone."""
    while len(data) >= 2:
        length = used = 0
        for used, octet in enumerate(data[1:5]):
            length += (octet & 0x7F) * 128**used
            if octet < 0x80:
                break
        else:
            return
        start = 2 + used
        if len(data) < start + length:
            return
        yield data[0], data[start : start + length]
        data = data[start + length :]


def seeds() -> dict[str, bytes]:
    """A packet of every type, a conversation, and what is just not MQTT 3.1.1."""
    will = Will("devices/d/messages/events/", b"gone", 1, True)
    connect = Connect("d", False, 60, "hub/d/?api-version=2019-10-01", b"secret", will)
    publish = Publish("$iothub/twin/GET/?$rid=1", b"", 1, False, True, 7)
    packets: dict[str, Packet] = {
        "connect": connect,
        "connect-clean": Connect("d"),
        "connack": Connack(True, ConnackCode.ACCEPTED),
        "publish-0": Publish("devices/d/messages/events/%24.ct=a", b"{}", retain=True),
        "publish-1": publish,
        "publish-1-retained": Publish("t", b"", 1, True, False, 7),
        "puback": Puback(7),
        "subscribe": Subscribe(8, (("$iothub/twin/res/#", 0), ("a/+/b", 1))),
        "suback": Suback(8, (SubackCode.QOS_1, SubackCode.FAILURE)),
        "unsubscribe": Unsubscribe(9, ("$iothub/twin/res/#",)),
        "unsuback": Unsuback(9),
        "pingreq": Pingreq(),
        "pingresp": Pingresp(),
        "disconnect": Disconnect(),
    }
    found = {name: encode(packet) for name, packet in packets.items()}
    return found | {
        "conversation": b"".join(found.values()),
        "long-length": b"\xc0\x80\x80\x00",
        "five-byte-length": b"\xc0\x80\x80\x80\x80\x00",
        "endless-length": b"\x30\xff\xff\xff\xff\xff",
        "too-many-filters": encode(Unsubscribe(1, ("a",) * 65)),
        "too-large": b"\x30\xff\x7f",
        "two-byte-length": encode(Publish("t", bytes(200))),
        "mqtt-3.1": b"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02d1",
        "mqtt-5": b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02d1",
        "pubrel": b"\x62\x02\x00\x01",
    }
