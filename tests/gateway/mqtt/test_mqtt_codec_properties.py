"""What holds of the codec for every packet and for any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt_strategies import packets, splits, unhurried

from fleetroot.gateway.mqtt import (
    Connack,
    ConnackCode,
    Connect,
    Decoder,
    Packet,
    Pingreq,
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


@unhurried
@given(st.sampled_from(range(1, 15)), st.integers(0, 15), st.binary(max_size=100))
def test_nothing_of_a_body_is_lost_in_its_packet(kind, flags, body):
    sent = bytes((kind << 4 | flags, len(body))) + body
    found, _ = decode([sent])
    assert [encode(packet) for packet in found] in ([], [sent])


@unhurried
@given(st.integers(1, 8))
def test_a_remaining_length_takes_at_most_four_bytes(octets):
    padded = b"\xc0" + b"\x80" * (octets - 1) + b"\x00"
    expected = ([Pingreq()], None) if octets <= 4 else ([], Violation.REMAINING_LENGTH)
    assert decode([padded]) == expected


@unhurried
@given(st.lists(packets, max_size=3), st.binary(min_size=1, max_size=20), st.lists(packets))
def test_there_is_no_way_on_from_a_violation(sent, garbage, more):
    decoder = Decoder(20)
    decoder.receive(b"".join(map(encode, sent)) + garbage)
    violation = None
    while violation is None:
        try:
            if decoder.next_packet() is None:
                return
        except ProtocolViolation as caught:
            violation = caught.reason
    decoder.receive(b"".join(map(encode, more)))
    with pytest.raises(ProtocolViolation) as again:
        decoder.next_packet()
    assert again.value.reason is violation


# Fields as a careless owner may set them, some of which no packet can have.
odd_texts = st.text(max_size=6) | st.sampled_from(["", "a/+", "#", "a\0", "\ud800"])
odd_numbers = st.integers(-1, 3) | st.integers(65_534, 65_537)
odd_packets = st.one_of(
    st.builds(
        Publish,
        odd_texts,
        st.binary(max_size=5),
        odd_numbers,
        st.booleans(),
        st.booleans(),
        st.none() | odd_numbers,
    ),
    st.builds(
        Connect,
        odd_texts,
        st.booleans(),
        odd_numbers,
        st.none() | odd_texts,
        st.none() | st.binary(max_size=5),
        st.none() | st.builds(Will, odd_texts, st.binary(max_size=5), odd_numbers, st.booleans()),
    ),
    st.builds(Puback, odd_numbers),
    st.builds(Unsuback, odd_numbers),
    st.builds(
        Subscribe,
        odd_numbers,
        st.lists(st.tuples(odd_texts, odd_numbers), max_size=2).map(tuple),
    ),
    st.builds(Unsubscribe, odd_numbers, st.lists(odd_texts, max_size=2).map(tuple)),
    st.builds(Suback, odd_numbers, st.lists(st.sampled_from(SubackCode), max_size=2).map(tuple)),
    st.builds(Connack, st.booleans(), st.sampled_from(ConnackCode)),
)


@unhurried
@given(odd_packets)
def test_a_packet_that_cannot_be_is_never_encoded_as_another(packet):
    try:
        data = encode(packet)
    except ValueError:
        return
    assert Decoder(LIMIT).feed(data) == [packet]
