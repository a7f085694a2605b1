"""How a session begins: CONNECT, its answer, and what CONNECT settles for later."""

from __future__ import annotations

import pytest
from mqtt_sessions import CONNECT, MESSAGE, connected, sent, violation

from fleetroot.gateway.mqtt import (
    Connack,
    ConnackCode,
    Connect,
    ConnectReceived,
    Disconnect,
    Disconnected,
    LocalProtocolError,
    Pingreq,
    Pingresp,
    Publish,
    PublishReceived,
    ServerSession,
    SessionClosed,
    SessionViolation,
    State,
    Subscribe,
    Violation,
    Will,
    encode,
)

WILL = Will("devices/device-1/messages/events/", b"gone", 1)


# Connecting


def test_connect_waits_for_the_owner():
    session = ServerSession()
    assert session.receive_data(encode(CONNECT)) == [ConnectReceived(CONNECT)]
    assert session.state is State.AUTHENTICATING
    assert session.data_to_send() == b""


@pytest.mark.parametrize("present", [True, False])
def test_accepted_client_is_told_whether_its_session_was_kept(present):
    session = ServerSession()
    session.receive_data(encode(CONNECT))
    assert session.accept(session_present=present) == []
    assert session.state is State.CONNECTED
    assert sent(session) == [Connack(present, ConnackCode.ACCEPTED)]


@pytest.mark.parametrize("code", [code for code in ConnackCode if code])
def test_refused_client_is_told_why_and_the_session_closes(code):
    session = ServerSession()
    session.receive_data(encode(CONNECT))
    session.refuse(code)
    assert sent(session) == [Connack(False, code)]
    assert session.state is State.CLOSED


def test_clean_session_is_never_said_to_be_resumed():
    session = ServerSession()
    session.receive_data(encode(Connect("d", clean_session=True)))
    with pytest.raises(LocalProtocolError):
        session.accept(session_present=True)


def test_client_cannot_be_accepted_twice():
    with pytest.raises(LocalProtocolError):
        connected().accept(session_present=False)


def test_client_cannot_be_accepted_before_connect():
    with pytest.raises(LocalProtocolError):
        ServerSession().accept(session_present=False)


def test_accepted_is_no_refusal():
    session = ServerSession()
    session.receive_data(encode(CONNECT))
    with pytest.raises(LocalProtocolError):
        session.refuse(ConnackCode.ACCEPTED)


def test_accepting_a_client_that_went_away_says_so():
    session = ServerSession()
    session.receive_data(encode(CONNECT))
    session.close()
    with pytest.raises(SessionClosed):
        session.accept(session_present=False)
    assert session.data_to_send() == b""


@pytest.mark.parametrize("packet", [Pingreq(), MESSAGE, Disconnect(), Subscribe(1, (("a", 0),))])
def test_first_packet_must_be_connect(packet):
    session = ServerSession()
    assert violation(session, packet).reason is Violation.FIRST_PACKET
    assert session.state is State.CLOSED
    assert session.data_to_send() == b""


def test_second_connect_is_a_violation():
    assert violation(connected(), CONNECT).reason is Violation.SECOND_CONNECT


def test_other_version_of_mqtt_is_told_so():
    session = ServerSession()
    mqtt5 = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01d"
    assert violation(session, mqtt5).reason is Violation.PROTOCOL_LEVEL
    assert sent(session) == [Connack(False, ConnackCode.UNACCEPTABLE_PROTOCOL_VERSION)]


def test_client_without_an_id_cannot_keep_a_session():
    session = ServerSession()
    assert violation(session, Connect("", clean_session=False)).reason is Violation.CLIENT_ID
    assert sent(session) == [Connack(False, ConnackCode.IDENTIFIER_REJECTED)]


def test_client_without_an_id_and_with_a_clean_session_is_for_the_owner_to_judge():
    connect = Connect("", clean_session=True)
    assert ServerSession().receive_data(encode(connect)) == [ConnectReceived(connect)]


def test_connect_over_its_own_limit_is_a_violation():
    session = ServerSession(max_connect_bytes=100)
    big = Connect("d", username="u", password=bytes(100))
    assert violation(session, big).reason is Violation.TOO_LARGE


# Ahead of the answer


def test_packets_ahead_of_the_answer_become_events_when_it_is_given():
    session = ServerSession()
    stream = encode(CONNECT) + encode(MESSAGE) + encode(Pingreq())
    assert session.receive_data(stream) == [ConnectReceived(CONNECT)]
    assert session.receive_data(encode(Disconnect())) == []
    events = session.accept(session_present=False)
    assert events == [PublishReceived(MESSAGE.topic, b"{}", 1, False, False, 7), Disconnected()]


def test_connack_goes_out_before_the_answer_to_an_early_ping():
    session = ServerSession()
    session.receive_data(encode(CONNECT) + encode(Pingreq()))
    assert session.data_to_send() == b""
    session.accept(session_present=False)
    assert sent(session) == [Connack(False, ConnackCode.ACCEPTED), Pingresp()]


def test_packets_ahead_of_a_refusal_are_dropped():
    session = ServerSession()
    session.receive_data(encode(CONNECT) + encode(MESSAGE))
    session.refuse(ConnackCode.NOT_AUTHORIZED)
    assert session.receive_data(encode(MESSAGE)) == []


@pytest.mark.parametrize("reads", [1, 2])
def test_too_much_ahead_of_the_answer_is_a_violation(reads):
    session = ServerSession(max_held_back_bytes=1000)
    ahead = encode(Publish("t", bytes(2000)))
    if reads == 1:
        found = violation(session, CONNECT, ahead)
        assert found.events == (ConnectReceived(CONNECT),)
    else:
        session.receive_data(encode(CONNECT))
        found = violation(session, ahead)
    assert found.reason is Violation.HELD_BACK
    assert session.state is State.CLOSED


def test_violation_ahead_of_the_answer_surfaces_with_it():
    session = ServerSession()
    session.receive_data(encode(CONNECT) + encode(MESSAGE) + encode(CONNECT))
    with pytest.raises(SessionViolation) as caught:
        session.accept(session_present=False)
    assert caught.value.reason is Violation.SECOND_CONNECT
    assert len(caught.value.events) == 1
    assert session.state is State.CLOSED


def test_accepted_client_may_send_what_a_stranger_may_not():
    session = connected(max_connect_bytes=100, max_packet_bytes=1000)
    [event] = session.receive_data(encode(Publish("t", bytes(900))))
    assert len(event.payload) == 900


def test_packet_over_the_limit_is_a_violation():
    session = connected(max_packet_bytes=1000)
    assert violation(session, Publish("t", bytes(1000))).reason is Violation.TOO_LARGE


# The will


def test_will_is_due_when_the_connection_just_ends():
    session = connected(Connect("d", will=WILL))
    session.close()
    assert session.will == WILL


def test_will_is_due_after_a_violation():
    session = connected(Connect("d", will=WILL))
    violation(session, b"\xf0\x00")
    assert session.will == WILL


def test_will_is_discarded_by_a_goodbye():
    session = connected(Connect("d", will=WILL))
    session.receive_data(encode(Disconnect()))
    assert session.will is None


def test_client_that_was_not_accepted_has_no_will():
    session = ServerSession()
    session.receive_data(encode(Connect("d", will=WILL)))
    assert session.will is None
    session.refuse(ConnackCode.NOT_AUTHORIZED)
    assert session.will is None


# Keep-alive


@pytest.mark.parametrize(
    ("keep_alive", "limit", "seconds"),
    [
        (60, 1767, 90),
        (1177, 1767, 1765.5),
        (1178, 1767, 1767),
        (65_535, 1767, 1767),
        (0, 1767, 1767),
        (0, None, None),
        (65_535, None, 98_302.5),
    ],
)
def test_silence_is_bounded_by_one_and_a_half_keep_alives_and_the_limit(keep_alive, limit, seconds):
    session = connected(Connect("d", keep_alive=keep_alive), max_keep_alive_timeout=limit)
    assert session.keep_alive_timeout == seconds


def test_keep_alive_is_unknown_before_connect():
    assert ServerSession(max_keep_alive_timeout=1767).keep_alive_timeout is None
