"""What hypothesis draws MQTT from: every packet, well formed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st

from fleetroot.gateway.mqtt import (
    Connack,
    ConnackCode,
    Connect,
    Disconnect,
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

# A busy machine is not a bug.
unhurried = settings(deadline=None)

packet_ids = st.integers(1, 65_535)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
topics = st.text(
    st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=40
)
payloads = st.binary(max_size=300)
# Short levels from a small alphabet, so that filters and topics meet.
levels = st.text("ab$é", max_size=2)
filters = st.builds(
    lambda parents, last: "/".join([*parents, last]),
    st.lists(st.one_of(levels, st.just("+")), max_size=3),
    st.one_of(levels, st.just("+"), st.just("#")),
).filter(bool)

wills = st.builds(Will, topics, payloads, st.integers(0, 2), st.booleans())
usernames_and_passwords = st.one_of(
    st.just((None, None)), st.tuples(texts, st.none() | st.binary(max_size=100))
)
connects = st.builds(
    lambda client_id, clean, keep_alive, both, will: Connect(
        client_id, clean, keep_alive, both[0], both[1], will
    ),
    texts,
    st.booleans(),
    st.integers(0, 65_535),
    usernames_and_passwords,
    st.none() | wills,
)
publishes = st.one_of(
    st.builds(Publish, topics, payloads, st.just(0), st.booleans()),
    st.builds(
        Publish, topics, payloads, st.integers(1, 2), st.booleans(), st.booleans(), packet_ids
    ),
)
connacks = st.one_of(
    st.builds(Connack, st.booleans(), st.just(ConnackCode.ACCEPTED)),
    st.builds(Connack, st.just(False), st.sampled_from(ConnackCode)),
)
subscribes = st.builds(
    Subscribe,
    packet_ids,
    st.lists(st.tuples(filters, st.integers(0, 2)), min_size=1, max_size=5).map(tuple),
)
unsubscribes = st.builds(
    Unsubscribe, packet_ids, st.lists(filters, min_size=1, max_size=5).map(tuple)
)
subacks = st.builds(
    Suback, packet_ids, st.lists(st.sampled_from(SubackCode), min_size=1, max_size=5).map(tuple)
)
packets = st.one_of(
    connects,
    connacks,
    publishes,
    st.builds(Puback, packet_ids),
    subscribes,
    subacks,
    unsubscribes,
    st.builds(Unsuback, packet_ids),
    st.sampled_from([Pingreq(), Pingresp(), Disconnect()]),
)


@st.composite
def splits(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """`stream` in pieces, as a network may deliver it; pieces may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
