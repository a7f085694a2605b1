"""The codec, packet by packet: bytes written out by hand from OASIS MQTT 3.1.1."""

from __future__ import annotations

import time

import pytest

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
    encode_publish,
)

LIMIT = 300_000

# name, packet, its bytes
PACKETS: list[tuple[str, Packet, bytes]] = [
    (
        "connect, the least",
        Connect("d"),
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01d",
    ),
    (
        "connect, everything",
        Connect("d", False, 60, "u", b"p\x00", Will("w/t", b"bye", 1, True)),
        b"\x10\x1e"
        b"\x00\x04MQTT\x04"
        b"\xec"  # user name, password, will retain, will QoS 1, will
        b"\x00\x3c"
        b"\x00\x01d"
        b"\x00\x03w/t"
        b"\x00\x03bye"
        b"\x00\x01u"
        b"\x00\x02p\x00",
    ),
    (
        "connect, password of zero bytes",
        Connect("d", True, 0, "u", b""),
        b"\x10\x12\x00\x04MQTT\x04\xc2\x00\x00\x00\x01d\x00\x01u\x00\x00",
    ),
    ("connack", Connack(True, ConnackCode.ACCEPTED), b"\x20\x02\x01\x00"),
    ("connack, refused", Connack(False, ConnackCode.NOT_AUTHORIZED), b"\x20\x02\x00\x05"),
    ("publish", Publish("a/b", b"hi"), b"\x30\x07\x00\x03a/bhi"),
    ("publish, empty", Publish("a/b", b""), b"\x30\x05\x00\x03a/b"),
    ("publish, retain", Publish("a/b", b"", retain=True), b"\x31\x05\x00\x03a/b"),
    (
        "publish, QoS 1",
        Publish("a/b", b"hi", qos=1, packet_id=10),
        b"\x32\x09\x00\x03a/b\x00\x0ahi",
    ),
    (
        "publish, QoS 1, again",
        Publish("a/b", b"hi", qos=1, dup=True, packet_id=10),
        b"\x3a\x09\x00\x03a/b\x00\x0ahi",
    ),
    (
        "publish, QoS 2",
        Publish("a/b", b"", qos=2, packet_id=0xFFFF),
        b"\x34\x07\x00\x03a/b\xff\xff",
    ),
    ("puback", Puback(0x1234), b"\x40\x02\x12\x34"),
    (
        "subscribe",
        Subscribe(10, (("a/b", 1), ("c/#", 2))),
        b"\x82\x0e\x00\x0a\x00\x03a/b\x01\x00\x03c/#\x02",
    ),
    (
        "suback",
        Suback(10, (SubackCode.QOS_0, SubackCode.QOS_1, SubackCode.FAILURE)),
        b"\x90\x05\x00\x0a\x00\x01\x80",
    ),
    ("unsubscribe", Unsubscribe(10, ("a/b", "c/+")), b"\xa2\x0c\x00\x0a\x00\x03a/b\x00\x03c/+"),
    ("unsuback", Unsuback(10), b"\xb0\x02\x00\x0a"),
    ("pingreq", Pingreq(), b"\xc0\x00"),
    ("pingresp", Pingresp(), b"\xd0\x00"),
    ("disconnect", Disconnect(), b"\xe0\x00"),
]
IDS = [name for name, _, _ in PACKETS]


@pytest.mark.parametrize(("packet", "data"), [case[1:] for case in PACKETS], ids=IDS)
def test_packet_is_encoded_to_the_bytes_of_the_spec(packet, data):
    assert encode(packet) == data


@pytest.mark.parametrize(("packet", "data"), [case[1:] for case in PACKETS], ids=IDS)
def test_bytes_of_the_spec_are_decoded_to_the_packet(packet, data):
    assert Decoder(LIMIT).feed(data) == [packet]


@pytest.mark.parametrize(
    ("length", "field"),
    [
        (3, b"\x03"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (2_097_151, b"\xff\xff\x7f"),
        (2_097_152, b"\x80\x80\x80\x01"),
    ],
)
def test_remaining_length_is_as_wide_as_it_need_be(length, field):
    packet = Publish("t", bytes(length - 3))
    data = encode(packet)
    assert data.startswith(b"\x30" + field + b"\x00\x01t")
    assert Decoder(length).feed(data) == [packet]


def test_remaining_length_may_be_longer_than_it_need_be():
    decoder = Decoder(LIMIT)
    assert [decoder.feed(byte) for byte in (b"\xc0", b"\x80", b"\x80")] == [[], [], []]
    assert decoder.feed(b"\x00") == [Pingreq()]


def test_byte_order_mark_in_a_string_is_kept():
    assert Decoder(LIMIT).feed(b"\x30\x05\x00\x03\xef\xbb\xbf") == [Publish("\ufeff", b"")]


def test_many_packets_in_one_read_come_in_order():
    stream = b"".join(data for _, _, data in PACKETS)
    assert Decoder(LIMIT).feed(stream) == [packet for _, packet, _ in PACKETS]


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview])
def test_decoder_takes_any_kind_of_bytes(convert):
    assert Decoder(LIMIT).feed(convert(b"\x30\x07\x00\x03a/bhi")) == [Publish("a/b", b"hi")]


def test_caller_may_reuse_its_buffer_after_feeding_it():
    buffer = bytearray(b"\x30\x07\x00\x03a/")
    decoder = Decoder(LIMIT)
    decoder.feed(buffer)
    buffer[:] = bytes(len(buffer))
    assert decoder.feed(b"bhi") == [Publish("a/b", b"hi")]


def test_decoded_packet_leaves_nothing_in_the_buffer():
    decoder = Decoder(LIMIT)
    decoder.feed(b"\xc0\x00\xc0")
    assert decoder.buffered_bytes == 1
    decoder.feed(b"\x00")
    assert decoder.buffered_bytes == 0


def test_packet_that_comes_byte_by_byte_takes_linear_time():
    stream = encode_publish("t", bytes(1024 * 1024))
    decoder = Decoder(2 * 1024 * 1024)
    started = time.thread_time()
    packets = [packet for byte in stream for packet in decoder.feed(bytes((byte,)))]
    assert len(packets) == 1
    # Half a second; copying what is there for each byte would move 500 GB.
    assert time.thread_time() - started < 10


def connect(body: bytes) -> bytes:
    return bytes((0x10, len(body))) + body


MALFORMED = [
    ("remaining length over four bytes", b"\xc0\x80\x80\x80\x80", Violation.REMAINING_LENGTH),
    ("type 0", b"\x00\x00", Violation.PACKET_TYPE),
    ("type 15", b"\xf0\x00", Violation.PACKET_TYPE),
    ("PUBREC", b"\x50\x02\x00\x01", Violation.QOS_2),
    ("PUBREL", b"\x62\x02\x00\x01", Violation.QOS_2),
    ("PUBCOMP", b"\x70\x02\x00\x01", Violation.QOS_2),
    ("flags of CONNECT", b"\x11\x00", Violation.RESERVED_FLAGS),
    ("flags of PUBACK", b"\x42\x02\x00\x01", Violation.RESERVED_FLAGS),
    ("flags of SUBSCRIBE", b"\x80\x06\x00\x01\x00\x01a\x00", Violation.RESERVED_FLAGS),
    ("flags of UNSUBSCRIBE", b"\xa0\x05\x00\x01\x00\x01a", Violation.RESERVED_FLAGS),
    ("flags of PINGREQ", b"\xc1\x00", Violation.RESERVED_FLAGS),
    ("an HTTP request", b"GET / HTTP/1.1\r\n", Violation.RESERVED_FLAGS),
    ("publish without topic length", b"\x30\x01\x00", Violation.TRUNCATED),
    ("publish with half a topic", b"\x30\x03\x00\x02a", Violation.TRUNCATED),
    ("publish without its packet id", b"\x32\x04\x00\x01a\x00", Violation.TRUNCATED),
    ("publish to no topic", b"\x30\x02\x00\x00", Violation.TOPIC_NAME),
    ("publish to +", b"\x30\x05\x00\x03a/+", Violation.TOPIC_NAME),
    ("publish to #", b"\x30\x05\x00\x03a/#", Violation.TOPIC_NAME),
    ("publish with QoS 3", b"\x36\x05\x00\x01a\x00\x01", Violation.QOS),
    ("publish with QoS 0, duplicate", b"\x38\x03\x00\x01a", Violation.QOS),
    ("publish with packet id 0", b"\x32\x05\x00\x01a\x00\x00", Violation.PACKET_ID),
    ("topic not UTF-8", b"\x30\x03\x00\x01\xff", Violation.STRING),
    ("topic overlong UTF-8", b"\x30\x04\x00\x02\xc0\xaf", Violation.STRING),
    ("topic with a surrogate", b"\x30\x05\x00\x03\xed\xa0\x80", Violation.STRING),
    ("topic with U+0000", b"\x30\x05\x00\x03a\x00b", Violation.STRING),
    ("PUBACK, short", b"\x40\x01\x00", Violation.TRUNCATED),
    ("PUBACK, long", b"\x40\x03\x00\x01\x00", Violation.TRAILING_BYTES),
    ("PUBACK of 0", b"\x40\x02\x00\x00", Violation.PACKET_ID),
    ("UNSUBACK of 0", b"\xb0\x02\x00\x00", Violation.PACKET_ID),
    ("subscribe to nothing", b"\x82\x02\x00\x01", Violation.NO_FILTERS),
    ("subscribe without QoS", b"\x82\x05\x00\x01\x00\x01a", Violation.TRUNCATED),
    ("subscribe with QoS 3", b"\x82\x06\x00\x01\x00\x01a\x03", Violation.QOS),
    ("subscribe with reserved bits", b"\x82\x06\x00\x01\x00\x01a\x11", Violation.QOS),
    ("subscribe to an empty filter", b"\x82\x05\x00\x01\x00\x00\x00", Violation.TOPIC_FILTER),
    ("subscribe to a#", b"\x82\x07\x00\x01\x00\x02a#\x00", Violation.TOPIC_FILTER),
    ("subscribe with packet id 0", b"\x82\x06\x00\x00\x00\x01a\x00", Violation.PACKET_ID),
    ("unsubscribe from nothing", b"\xa2\x02\x00\x01", Violation.NO_FILTERS),
    ("unsubscribe with packet id 0", b"\xa2\x05\x00\x00\x00\x01a", Violation.PACKET_ID),
    ("SUBACK of nothing", b"\x90\x02\x00\x01", Violation.NO_FILTERS),
    ("SUBACK with code 3", b"\x90\x03\x00\x01\x03", Violation.RETURN_CODE),
    ("CONNACK with code 6", b"\x20\x02\x00\x06", Violation.RETURN_CODE),
    ("CONNACK with reserved flags", b"\x20\x02\x02\x00", Violation.RETURN_CODE),
    ("CONNACK refused, session present", b"\x20\x02\x01\x05", Violation.RETURN_CODE),
    ("PINGREQ with a body", b"\xc0\x01\x00", Violation.TRAILING_BYTES),
    ("DISCONNECT with a body", b"\xe0\x01\x00", Violation.TRAILING_BYTES),
    ("connect, empty", connect(b""), Violation.PROTOCOL_NAME),
    (
        "connect of MQTT 3.1",
        connect(b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01d"),
        Violation.PROTOCOL_NAME,
    ),
    (
        "connect of MQTT 5",
        connect(b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01d"),
        Violation.PROTOCOL_LEVEL,
    ),
    (
        "connect of a level to come, nothing else known of it",
        connect(b"\x00\x04MQTT\x06\xff\xff"),
        Violation.PROTOCOL_LEVEL,
    ),
    (
        "connect, reserved flag",
        connect(b"\x00\x04MQTT\x04\x03\x00\x00\x00\x01d"),
        Violation.CONNECT_FLAGS,
    ),
    (
        "connect, will QoS without will",
        connect(b"\x00\x04MQTT\x04\x0a\x00\x00\x00\x01d"),
        Violation.CONNECT_FLAGS,
    ),
    (
        "connect, will retain without will",
        connect(b"\x00\x04MQTT\x04\x22\x00\x00\x00\x01d"),
        Violation.CONNECT_FLAGS,
    ),
    (
        "connect, will QoS 3",
        connect(b"\x00\x04MQTT\x04\x1e\x00\x00\x00\x01d\x00\x01w\x00\x00"),
        Violation.CONNECT_FLAGS,
    ),
    (
        "connect, password without user name",
        connect(b"\x00\x04MQTT\x04\x42\x00\x00\x00\x01d\x00\x01p"),
        Violation.CONNECT_FLAGS,
    ),
    (
        "connect, user name announced and absent",
        connect(b"\x00\x04MQTT\x04\x82\x00\x00\x00\x01d"),
        Violation.TRUNCATED,
    ),
    (
        "connect, user name present and not announced",
        connect(b"\x00\x04MQTT\x04\x02\x00\x00\x00\x01d\x00\x01u"),
        Violation.TRAILING_BYTES,
    ),
    (
        "connect, will to a wildcard",
        connect(b"\x00\x04MQTT\x04\x06\x00\x00\x00\x01d\x00\x01#\x00\x00"),
        Violation.TOPIC_NAME,
    ),
    (
        "connect, client id with U+0000",
        connect(b"\x00\x04MQTT\x04\x02\x00\x00\x00\x01\x00"),
        Violation.STRING,
    ),
]


@pytest.mark.parametrize(
    ("data", "reason"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED]
)
def test_malformed_packet_is_a_violation(data, reason):
    with pytest.raises(ProtocolViolation) as caught:
        Decoder(LIMIT).feed(data)
    assert caught.value.reason is reason


def test_packet_at_the_limit_is_decoded():
    data = encode_publish("t", bytes(97))
    assert len(Decoder(100).feed(data)) == 1


def test_packet_over_the_limit_is_refused_before_its_body_arrives():
    decoder = Decoder(100)
    with pytest.raises(ProtocolViolation) as caught:
        decoder.feed(b"\x30\x65")
    assert caught.value.reason is Violation.TOO_LARGE


def test_limit_can_be_raised_between_packets():
    decoder = Decoder(10)
    assert decoder.feed(b"\xc0\x00") == [Pingreq()]
    decoder.max_packet_bytes = 100
    assert len(decoder.feed(encode_publish("t", bytes(90)))) == 1


def test_packets_before_a_violation_can_be_had_one_by_one():
    decoder = Decoder(LIMIT)
    decoder.receive(b"\xc0\x00\xf0\x00")
    assert decoder.next_packet() == Pingreq()
    with pytest.raises(ProtocolViolation):
        decoder.next_packet()


def test_decoder_does_not_get_past_a_violation():
    decoder = Decoder(LIMIT)
    for data in (b"\xf0\x00", b"\xc0\x00"):
        with pytest.raises(ProtocolViolation):
            decoder.feed(data)


def test_violation_does_not_quote_what_the_peer_sent():
    with pytest.raises(ProtocolViolation) as caught:
        Decoder(LIMIT).feed(connect(b"\x00\x04MQTT\x04\x42\x00\x00\x00\x01d\x00\x06secret"))
    assert "secret" not in str(caught.value)


def test_repr_hides_the_password():
    assert "secret" not in repr(Connect("d", username="u", password=b"secret"))


def test_repr_hides_payloads():
    assert "secret" not in repr(Publish("t", b"secret"))
    assert "secret" not in repr(Connect("d", will=Will("t", b"secret")))


@pytest.mark.parametrize(
    "packet",
    [
        Publish("", b""),
        Publish("a/+", b""),
        Publish("a\0", b""),
        Publish("\ud800", b""),
        Publish("t" * 65_536, b""),
        Publish("t", b"", packet_id=1),
        Publish("t", b"", dup=True),
        Publish("t", b"", qos=1),
        Publish("t", b"", qos=1, packet_id=0),
        Publish("t", b"", qos=1, packet_id=65_536),
        Publish("t", b"", qos=3, packet_id=1),
        Puback(0),
        Connect("d", password=b"p"),
        Connect("d", keep_alive=65_536),
        Connect("d\0"),
        Connect("d", will=Will("#", b"")),
        Connect("d", will=Will("w", b"", qos=3)),
        Connack(True, ConnackCode.NOT_AUTHORIZED),
        Subscribe(1, ()),
        Subscribe(1, (("a", 3),)),
        Subscribe(1, (("a#", 0),)),
        Suback(1, ()),
        Unsubscribe(1, ()),
    ],
    ids=repr,
)
def test_impossible_packet_is_not_encoded(packet):
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        encode(packet)


@pytest.mark.parametrize("kind", [8, 10])
@pytest.mark.parametrize(("count", "read"), [(64, True), (65, False)])
def test_packet_holds_so_many_filters_and_no_more(kind: int, count: int, read: bool) -> None:
    packet = Subscribe(1, (("a", 0),) * count) if kind == 8 else Unsubscribe(1, ("a",) * count)
    decoder = Decoder(10_000)
    if read:
        assert decoder.feed(encode(packet)) == [packet]
        return
    with pytest.raises(ProtocolViolation) as refused:
        decoder.feed(encode(packet))
    assert refused.value.reason is Violation.TOO_MANY_FILTERS
