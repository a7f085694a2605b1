"""What holds of the codec for every packet and for any bytes at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mqtt_strategies import packets, splits, unhurried

from fleetroot.gateway.mqtt import Decoder, Packet, ProtocolViolation, Violation, encode

LIMIT = 300_000


def decode(pieces: list[bytes]) -> tuple[list[Packet], Violation | None]:
    """All the packets that come of `pieces`, and how they end."""
    decoder = Decoder(LIMIT)
    found: list[Packet] = []
    try:
        for piece in pieces:
            decoder.receive(piece)
            while (packet := decoder.next_packet()) is not None:
                found.append(packet)
    except ProtocolViolation as violation:
        return found, violation.reason
    return found, None


@unhurried
@given(packets)
def test_every_packet_survives_the_round_trip(packet):
    assert Decoder(LIMIT).feed(encode(packet)) == [packet]


@unhurried
@given(st.lists(packets, max_size=6), st.data())
def test_any_split_of_a_stream_gives_the_same_packets(sent, data):
    stream = b"".join(map(encode, sent))
    assert decode(data.draw(splits(stream))) == (sent, None)


@unhurried
@given(st.lists(packets, max_size=3), st.binary(max_size=60), st.data())
def test_any_split_of_a_broken_stream_ends_the_same_way(sent, garbage, data):
    stream = b"".join(map(encode, sent)) + garbage
    assert decode(data.draw(splits(stream))) == decode([stream])


@unhurried
@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_violations(data):
    decode([data])


@unhurried
@given(packets, st.data())
def test_damaged_packet_raises_nothing_but_violations(packet, data):
    damaged = bytearray(encode(packet))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    decode([bytes(damaged)])


@unhurried
@given(st.sampled_from(range(1, 15)), st.integers(0, 15), st.binary(max_size=100))
def test_arbitrary_body_of_any_type_is_refused_or_means_what_it_encodes_to(kind, flags, body):
    found, _ = decode([bytes((kind << 4 | flags, len(body))) + body])
    for packet in found:
        assert Decoder(LIMIT).feed(encode(packet)) == [packet]


@unhurried
@given(packets)
def test_packet_is_not_decoded_before_its_last_byte(packet):
    assert Decoder(LIMIT).feed(encode(packet)[:-1]) == []
