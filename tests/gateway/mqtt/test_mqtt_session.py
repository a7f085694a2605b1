"""A connected session, one rule at a time: messages both ways, and the end."""

from __future__ import annotations

import pytest
from mqtt_sessions import CONNECT, MESSAGE, connected, sent, violation

from fleetroot.gateway.mqtt import (
    Busy,
    Connack,
    ConnackCode,
    Disconnect,
    Disconnected,
    LocalProtocolError,
    Pingreq,
    Pingresp,
    ProtocolViolation,
    Puback,
    PubackReceived,
    Publish,
    PublishReceived,
    ServerSession,
    SessionClosed,
    State,
    Suback,
    SubackCode,
    Subscribe,
    SubscribeReceived,
    Unsuback,
    Unsubscribe,
    UnsubscribeReceived,
    Violation,
    encode,
)

# From the client


def test_message_of_qos_0_is_an_event_that_asks_nothing():
    session = connected()
    assert session.receive_data(encode(Publish("t", b"x", retain=True))) == [
        PublishReceived("t", b"x", 0, True, False, None)
    ]
    assert session.data_to_send() == b""


def test_message_of_qos_1_is_acknowledged_only_when_the_owner_says_so():
    session = connected()
    session.receive_data(encode(MESSAGE))
    assert session.data_to_send() == b""
    session.puback(7)
    assert sent(session) == [Puback(7)]


def test_message_that_is_sent_again_is_an_event_again():
    session = connected()
    again = Publish("t", b"x", 1, dup=True, packet_id=7)
    [event] = session.receive_data(encode(again))
    assert event.dup


def test_message_of_qos_2_is_a_violation():
    message = Publish("t", b"x", 2, packet_id=1)
    assert violation(connected(), message).reason is Violation.QOS_2


def test_subscription_is_answered_by_the_owner():
    session = connected()
    filters = (("$iothub/twin/res/#", 0), ("nonsense", 2))
    assert session.receive_data(encode(Subscribe(3, filters))) == [SubscribeReceived(3, filters)]
    session.suback(3, [SubackCode.QOS_0, SubackCode.FAILURE])
    assert sent(session) == [Suback(3, (SubackCode.QOS_0, SubackCode.FAILURE))]


def test_unsubscription_is_answered_by_the_owner():
    session = connected()
    assert session.receive_data(encode(Unsubscribe(4, ("a", "b")))) == [
        UnsubscribeReceived(4, ("a", "b"))
    ]
    session.unsuback(4)
    assert sent(session) == [Unsuback(4)]


def test_ping_is_answered_without_the_owner():
    session = connected()
    assert session.receive_data(encode(Pingreq())) == []
    assert sent(session) == [Pingresp()]


@pytest.mark.parametrize(
    "packet",
    [Connack(False, ConnackCode.ACCEPTED), Suback(1, (SubackCode.QOS_0,)), Unsuback(1), Pingresp()],
    ids=lambda packet: type(packet).__name__,
)
def test_packet_that_only_servers_send_is_a_violation(packet):
    assert violation(connected(), packet).reason is Violation.UNEXPECTED_PACKET


def test_session_violation_is_a_protocol_violation():
    with pytest.raises(ProtocolViolation):
        connected().receive_data(b"\xf0\x00")


def test_what_came_before_a_violation_is_not_lost():
    found = violation(connected(), MESSAGE, Subscribe(1, (("a", 0),)), CONNECT)
    assert [type(event) for event in found.events] == [PublishReceived, SubscribeReceived]


# To the client


def test_message_of_qos_0_is_sent_and_forgotten():
    session = connected()
    assert session.publish("t", b"x", 0, "token") is None
    assert sent(session) == [Publish("t", b"x")]
    assert session.inflight() == {}


def test_message_of_qos_1_is_in_flight_until_the_client_has_it():
    session = connected()
    packet_id = session.publish("t", b"x", 1, "token")
    assert sent(session) == [Publish("t", b"x", 1, packet_id=packet_id)]
    assert session.inflight() == {packet_id: "token"}
    assert session.receive_data(encode(Puback(packet_id))) == [PubackReceived(packet_id, "token")]
    assert session.inflight() == {}


def test_acknowledgement_of_an_unknown_message_is_ignored():
    session = connected()
    assert session.receive_data(encode(Puback(9))) == []
    assert session.state is State.CONNECTED


def test_second_acknowledgement_of_a_message_is_ignored():
    session = connected()
    packet_id = session.publish("t", b"x", 1)
    session.receive_data(encode(Puback(packet_id)))
    assert session.receive_data(encode(Puback(packet_id))) == []


def test_client_and_server_number_their_messages_apart():
    session = connected()
    packet_id = session.publish("t", b"x", 1, "ours")
    session.receive_data(encode(Publish("t", b"x", 1, packet_id=packet_id)))
    session.puback(packet_id)
    assert session.inflight() == {packet_id: "ours"}


def test_full_window_leaves_the_message_with_the_owner():
    session = connected(max_inflight=2)
    first = session.publish("t", b"1", 1)
    session.publish("t", b"2", 1)
    session.data_to_send()
    assert session.window == 0
    with pytest.raises(Busy):
        session.publish("t", b"3", 1)
    assert session.data_to_send() == b""
    session.receive_data(encode(Puback(first)))
    assert session.window == 1
    session.publish("t", b"3", 1)


def test_full_window_takes_no_redelivery_either():
    session = connected(max_inflight=1)
    session.publish("t", b"1", 1)
    session.data_to_send()
    with pytest.raises(Busy):
        session.publish("t", b"2", 1, redelivered_id=9)
    assert session.data_to_send() == b""


def test_full_window_does_not_stop_qos_0():
    session = connected(max_inflight=1)
    session.publish("t", b"1", 1)
    session.publish("t", b"2", 0)
    assert len(sent(session)) == 2


def test_packet_ids_go_round_and_skip_what_is_in_flight():
    session = connected(max_inflight=2)
    stuck = session.publish("t", b"", 1, "stuck")
    used = set()
    for _ in range(65_534):
        packet_id = session.publish("t", b"", 1)
        session.receive_data(b"\x40\x02" + packet_id.to_bytes(2, "big"))
        used.add(packet_id)
    assert used == set(range(1, 65_536)) - {stuck}
    assert session.publish("t", b"", 1) not in {0, stuck, 65_536}


def test_redelivery_keeps_its_id_and_is_marked():
    session = connected()
    assert session.publish("t", b"x", 1, "token", redelivered_id=500) == 500
    assert sent(session) == [Publish("t", b"x", 1, dup=True, packet_id=500)]
    assert session.inflight() == {500: "token"}


def test_two_messages_in_flight_cannot_share_an_id():
    session = connected()
    session.publish("t", b"x", 1, redelivered_id=500)
    with pytest.raises(LocalProtocolError):
        session.publish("t", b"y", 1, redelivered_id=500)


def test_what_is_in_flight_is_listed_in_the_order_it_was_sent_after_the_close():
    session = connected()
    for packet_id, token in [(9, "a"), (3, "b"), (5, "c")]:
        session.publish("t", b"x", 1, token, redelivered_id=packet_id)
    session.close()
    assert list(session.inflight().items()) == [(9, "a"), (3, "b"), (5, "c")]


@pytest.mark.parametrize(("topic", "qos"), [("a/#", 1), ("", 0), ("t", 2), ("t", -1)])
def test_message_that_cannot_be_encoded_takes_no_place(topic, qos):
    session = connected()
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        session.publish(topic, b"", qos)
    assert session.inflight() == {}
    assert session.data_to_send() == b""


def test_nothing_is_published_before_the_client_is_accepted():
    session = ServerSession()
    session.receive_data(encode(CONNECT))
    with pytest.raises(LocalProtocolError):
        session.publish("t", b"", 0)


def test_nothing_is_answered_before_the_client_is_accepted():
    session = ServerSession()
    session.receive_data(encode(CONNECT))
    with pytest.raises(LocalProtocolError):
        session.puback(1)


# The end


def test_goodbye_closes_the_session():
    session = connected()
    assert session.receive_data(encode(Disconnect())) == [Disconnected()]
    assert session.state is State.CLOSED


def test_what_follows_a_goodbye_is_not_read():
    session = connected()
    assert session.receive_data(encode(Disconnect()) + b"\xff\xff") == [Disconnected()]
    assert session.receive_data(b"\xff\xff") == []


def test_publishing_after_the_close_says_so():
    session = connected()
    session.close()
    with pytest.raises(SessionClosed):
        session.publish("t", b"", 1)


def test_late_answers_after_the_close_go_nowhere():
    session = connected()
    session.close()
    session.puback(1)
    session.suback(1, [SubackCode.QOS_0])
    session.unsuback(1)
    session.refuse(ConnackCode.NOT_AUTHORIZED)
    assert session.data_to_send() == b""


def test_what_was_queued_before_the_close_is_still_sent():
    session = connected()
    session.puback(7)
    session.close()
    assert sent(session) == [Puback(7)]
    assert session.data_to_send() == b""


def test_closed_session_keeps_nothing_of_what_it_received():
    session = connected()
    session.receive_data(encode(MESSAGE)[:-1])
    session.close()
    session.receive_data(encode(MESSAGE))
    assert session._decoder.buffered_bytes == 0


def test_close_twice_is_close():
    session = connected()
    session.close()
    session.close()
    assert session.state is State.CLOSED


@pytest.mark.parametrize("size", [0, 65_536])
def test_window_must_be_a_number_of_packet_ids(size):
    with pytest.raises(ValueError, match="window"):
        ServerSession(max_inflight=size)
