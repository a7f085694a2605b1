"""What holds of every session: for any split of a stream, for any bytes, and for any order of what
the client and the owner do.
"""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mqtt_strategies import packets, payloads, splits, subscribes, topics, unhurried, unsubscribes

from fleetroot.gateway.mqtt import (
    Busy,
    Connack,
    ConnackCode,
    Connect,
    ConnectReceived,
    Decoder,
    Disconnect,
    Event,
    Packet,
    Pingreq,
    Puback,
    PubackReceived,
    Publish,
    PublishReceived,
    ServerSession,
    SessionClosed,
    SessionViolation,
    State,
    SubackCode,
    SubscribeReceived,
    UnsubscribeReceived,
    Violation,
    encode,
)

WINDOW = 4

client_messages = st.one_of(
    st.builds(Publish, topics, payloads),
    st.builds(Publish, topics, payloads, st.just(1), packet_id=st.integers(1, 9)),
)
client_packets = st.one_of(
    client_messages,
    subscribes,
    unsubscribes,
    st.just(Pingreq()),
    st.builds(Puback, st.integers(1, 9)),
)


def run(pieces: list[bytes]) -> tuple[list[Event], Violation | None, bytes]:
    """An owner that accepts everybody: all events, how it ended, all that was sent."""
    session = ServerSession()
    events: list[Event] = []
    try:
        for piece in pieces:
            found = session.receive_data(piece)
            events += found
            if any(isinstance(event, ConnectReceived) for event in found):
                events += session.accept(session_present=False)
    except SessionViolation as violation:
        events += violation.events
        return events, violation.reason, session.data_to_send()
    return events, None, session.data_to_send()


@unhurried
@given(st.lists(client_packets, max_size=8), st.data())
def test_any_split_of_a_stream_gives_the_same_events(sent, data):
    stream = b"".join(map(encode, [Connect("d"), *sent, Disconnect()]))
    assert run(data.draw(splits(stream))) == run([stream])


@unhurried
@given(st.lists(packets, max_size=4), st.binary(max_size=30), st.data())
def test_any_split_of_any_stream_ends_the_same_way(sent, garbage, data):
    stream = b"".join(map(encode, [Connect("d"), *sent])) + garbage
    assert run(data.draw(splits(stream))) == run([stream])


@unhurried
@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_raise_nothing_but_violations(data, known):
    run([encode(Connect("d")) + data if known else data])


@unhurried
@given(st.lists(packets, max_size=4), st.binary(max_size=30))
def test_when_the_owner_makes_up_its_mind_makes_no_difference(sent, garbage):
    stream = b"".join(map(encode, sent)) + garbage
    session, events, late = ServerSession(), [], None
    try:
        events += session.receive_data(encode(Connect("d")))
        events += session.receive_data(stream)
        events += session.accept(session_present=False)
    except SessionViolation as violation:
        events += violation.events
        late = violation.reason
    prompt = run([encode(Connect("d")), stream])
    assert (events, late, session.data_to_send()) == prompt


@unhurried
@given(st.lists(packets, max_size=4), st.binary(max_size=30), st.lists(packets, max_size=3))
def test_nothing_happens_after_the_end(sent, garbage, more):
    session = ServerSession()
    session.receive_data(encode(Connect("d")))
    session.accept(session_present=False)
    with contextlib.suppress(SessionViolation):
        session.receive_data(b"".join(map(encode, sent)) + garbage)
    if session.state is not State.CLOSED:
        return
    session.data_to_send()
    for packet in more:
        assert session.receive_data(encode(packet)) == []
    assert session.data_to_send() == b""


class AnySession(RuleBasedStateMachine):
    """A client and an owner, each doing what it may in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.session = ServerSession(max_inflight=WINDOW, max_held_back_bytes=500)
        self.client = Decoder(1 << 20)
        self.received: list[Packet] = []  # by the client
        self.unacknowledged: dict[int, str] = {}  # by the client, packet id to payload
        self.tokens_back: list[object] = []
        self.sent_by_close: int | None = None
        self.published = 0

    def act(self, events: list[Event] | tuple[Event, ...]) -> None:
        for event in events:
            match event:
                case PublishReceived(packet_id=int(packet_id)):
                    self.session.puback(packet_id)
                case SubscribeReceived(packet_id, filters):
                    self.session.suback(packet_id, [SubackCode.QOS_0] * len(filters))
                case UnsubscribeReceived(packet_id):
                    self.session.unsuback(packet_id)
                case PubackReceived(_, token):
                    self.tokens_back.append(token)

    def receive(self, data: bytes) -> None:
        try:
            self.act(self.session.receive_data(data))
        except SessionViolation as violation:
            self.act(violation.events)

    @rule()
    def client_connects(self):
        self.receive(encode(Connect("d")))

    @rule(packet=client_packets)
    def client_sends(self, packet):
        if not isinstance(packet, Puback):
            self.receive(encode(packet))

    @precondition(lambda self: self.unacknowledged)
    @rule(data=st.data())
    def client_acknowledges(self, data):
        packet_id = data.draw(st.sampled_from(sorted(self.unacknowledged)))
        del self.unacknowledged[packet_id]
        self.receive(encode(Puback(packet_id)))

    @rule()
    def client_says_goodbye(self):
        self.receive(encode(Disconnect()))

    @precondition(lambda self: self.session.state is State.CONNECTED)
    @rule(garbage=st.binary(max_size=4))
    def client_sends_garbage(self, garbage):
        self.receive(b"\xf0" + garbage)

    @precondition(lambda self: self.session.state is State.AUTHENTICATING)
    @rule()
    def owner_accepts(self):
        try:
            self.act(self.session.accept(session_present=False))
        except SessionViolation as violation:
            self.act(violation.events)

    @precondition(lambda self: self.session.state is State.AUTHENTICATING)
    @rule()
    def owner_refuses(self):
        self.session.refuse(ConnackCode.NOT_AUTHORIZED)

    @precondition(lambda self: self.session.state in {State.CONNECTED, State.CLOSED})
    @rule(qos=st.integers(0, 1))
    def owner_publishes(self, qos):
        token = f"m{self.published}"
        room = self.session.window
        try:
            self.session.publish("t", token.encode(), qos, token)
        except SessionClosed:
            assert self.session.state is State.CLOSED
        except Busy:
            assert room == 0
        else:
            self.published += 1

    @rule()
    def owner_closes(self):
        self.session.close()

    @rule()
    def network_delivers(self):
        packets = self.client.feed(self.session.data_to_send())
        for packet in packets:
            if isinstance(packet, Publish) and packet.qos == 1:
                # Unique among what the client has not acknowledged.
                assert packet.packet_id not in self.unacknowledged
                self.unacknowledged[packet.packet_id] = packet.payload.decode()
        self.received += packets
        if self.session.state is State.CLOSED and self.sent_by_close is None:
            self.sent_by_close = len(self.received)

    @invariant()
    def nothing_but_connack_comes_first(self):
        if self.received:
            assert isinstance(self.received[0], Connack)
            assert not any(isinstance(packet, Connack) for packet in self.received[1:])

    @invariant()
    def nothing_is_sent_after_the_close(self):
        if self.sent_by_close is not None:
            assert len(self.received) == self.sent_by_close

    @invariant()
    def window_is_never_exceeded(self):
        assert 0 <= self.session.window <= WINDOW
        assert len(self.session.inflight()) + self.session.window == WINDOW

    @invariant()
    def no_message_is_in_flight_and_acknowledged(self):
        in_flight = list(self.session.inflight().values())
        assert not set(in_flight) & set(self.tokens_back)
        assert len(set(self.tokens_back)) == len(self.tokens_back)
        if self.session.state is not State.CLOSED:
            assert set(self.unacknowledged.values()) <= set(in_flight)

    def teardown(self):
        self.network_delivers()
        self.nothing_but_connack_comes_first()


TestAnySession = AnySession.TestCase
TestAnySession.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
