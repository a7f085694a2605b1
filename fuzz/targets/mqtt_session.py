"""The MQTT session: what a client did, whatever the network and the owner's pace did to it."""

from __future__ import annotations

from dataclasses import dataclass

from fleetroot.gateway.mqtt import (
    Connack,
    Connect,
    ConnectReceived,
    Decoder,
    Disconnect,
    Disconnected,
    Event,
    Packet,
    Pingreq,
    Puback,
    PubackReceived,
    Publish,
    ServerSession,
    SessionClosed,
    SessionViolation,
    State,
    Subscribe,
    Unsubscribe,
    Violation,
    Will,
    encode,
)
from fuzz.reading import splits
from fuzz.targets.mqtt_codec import TOKENS

__all__ = ["MAX_BYTES", "TOKENS", "check", "seeds"]

MAX_BYTES = 256

CONNECT = encode(Connect("d", will=Will("t", b"gone")))
WINDOW = 4


@dataclass(frozen=True)
class Outcome:
    """All that a session said and sent."""

    events: list[Event]
    violation: Violation | None
    state: State
    will: Will | None
    sent: bytes


def check(data: bytes) -> None:
    """Events, violation and answers are the same for every split of the stream and whenever the
    owner makes up its mind, and nothing happens after the end.
    """
    for stream in (data, CONNECT + data):
        prompt = run([stream], late=False)
        assert run([stream], late=True) == prompt, "the owner's pace is seen"
        for pieces in splits(stream):
            assert run(pieces, late=False) == prompt, "another split is another client"
        check_outcome(prompt)
    acknowledged = run_in_flight([data])
    for pieces in splits(data):
        assert run_in_flight(pieces) == acknowledged


def run(pieces: list[bytes], *, late: bool) -> Outcome:
    """An owner that accepts everybody, at once or when all has arrived."""
    session = ServerSession(max_connect_bytes=300, max_packet_bytes=300)
    events: list[Event] = []
    violation = None
    try:
        for piece in pieces:
            events += session.receive_data(piece)
            if session.state is State.AUTHENTICATING and not late:
                events += session.accept(session_present=False)
        if session.state is State.AUTHENTICATING:
            events += session.accept(session_present=False)
    except SessionViolation as caught:
        events += caught.events
        violation = caught.reason
    return end(session, events, violation)


def run_in_flight(pieces: list[bytes]) -> Outcome:
    """A client that is let in and sent messages first, so that its PUBACKs mean something."""
    session = ServerSession(max_packet_bytes=300, max_inflight=WINDOW)
    session.receive_data(CONNECT)
    session.accept(session_present=False)
    for number in range(WINDOW):
        session.publish("t", b"", 1, token=number)
    events: list[Event] = []
    violation = None
    try:
        for piece in pieces:
            events += session.receive_data(piece)
    except SessionViolation as caught:
        events += caught.events
        violation = caught.reason
    tokens = [event.token for event in events if isinstance(event, PubackReceived)]
    assert len(set(tokens)) == len(tokens), "one message was acknowledged twice"
    assert sorted([*tokens, *session.inflight().values()]) == list(range(WINDOW))  # type: ignore[type-var]
    return end(session, events, violation)


def end(session: ServerSession, events: list[Event], violation: Violation | None) -> Outcome:
    """What came of a session; one that is closed stays so."""
    outcome = Outcome(events, violation, session.state, session.will, session.data_to_send())
    if session.state is State.CLOSED:
        assert session.receive_data(CONNECT + b"\xc0\x00\xff") == []
        session.puback(1)
        try:
            session.publish("t", b"", 0)
            raise AssertionError("a closed session took a message")
        except SessionClosed:
            pass
        assert session.data_to_send() == b"", "a closed session had more to say"
    return outcome


def check_outcome(outcome: Outcome) -> None:
    """What holds of every outcome."""
    sent: list[Packet] = Decoder(1 << 20).feed(outcome.sent)
    first = [event for event in outcome.events if isinstance(event, ConnectReceived)]
    assert len(first) <= 1
    assert outcome.events[:1] == first, "something came before CONNECT"
    assert [packet for packet in sent if isinstance(packet, Connack)] == sent[:1]
    goodbye = outcome.events[-1:] == [Disconnected()]
    assert goodbye or Disconnected() not in outcome.events, "an event after goodbye"
    assert (outcome.state is State.CLOSED) == (goodbye or outcome.violation is not None)
    if first:
        assert outcome.will == (None if goodbye else first[0].connect.will)


def seeds() -> dict[str, bytes]:
    """Short lives of clients."""
    connect = encode(
        Connect("d", False, 60, "hub/d/?api-version=2021-04-12", b"k", Will("w", b"x", 1))
    )
    telemetry = encode(Publish("devices/d/messages/events/", b"{}", 1, packet_id=1))
    ping = encode(Pingreq())
    subscribe = encode(Subscribe(2, (("$iothub/credentials/res/#", 1),)))
    unsubscribe = encode(Unsubscribe(3, ("$iothub/credentials/res/#",)))
    goodbye = encode(Disconnect())
    acks = b"".join(encode(Puback(number)) for number in (2, 1, 2, 9))
    return {
        "life": connect + subscribe + telemetry + ping + unsubscribe + goodbye,
        "acknowledgements": acks + goodbye,
        "eager": connect + telemetry + telemetry + ping,
        "after-goodbye": goodbye + telemetry,
        "twice": connect + connect,
        "nobody": encode(Connect("", True)) + ping,
        "nameless": encode(Connect("", True))[:9] + b"\0" + encode(Connect("", True))[10:],
        "qos-2": connect + encode(Publish("t", b"", 2, packet_id=1)),
        "servers-packet": connect + b"\xd0\x00",
        "level-5": connect.replace(b"MQTT\x04", b"MQTT\x05"),
    }
