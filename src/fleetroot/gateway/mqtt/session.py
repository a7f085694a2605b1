"""The state machine of one client's connection, seen from the server.

    EXPECT_CONNECT ──CONNECT──▶ AUTHENTICATING ──accept()──▶ CONNECTED
          │                           │                          │
          └──────────────┬────────────┴──────────────────────────┘
                         ▼   violation, refuse(), DISCONNECT, close()
                       CLOSED

Rule 1: everything about the order of packets lives in this file.

Rule 2: the first packet out is CONNACK [MQTT-3.2.0-1]. A client need not wait for it (§3.1.4), so
what arrives while the owner makes up its mind is held back, undecoded and bounded, and becomes
events in `accept`. An unknown client costs a CONNECT of at most `max_connect_bytes`, and that much.

Rule 3: CLOSED is final. What was queued before may still be drained, nothing is queued after, and
what still arrives is dropped unread.

Rule 4: the session keeps no messages. It knows which QoS 1 messages of this connection lack their
PUBACK, by the owner's tokens and at most `max_inflight` of them. Content, order across connections
and durability are the owner's, who has them in a database anyway; a second queue here would only
be one more place where a message can be lost at a close.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from fleetroot.gateway.mqtt.codec import Decoder, encode, encode_puback, encode_publish
from fleetroot.gateway.mqtt.events import (
    ConnectReceived,
    Disconnected,
    Event,
    PubackReceived,
    PublishReceived,
    SubscribeReceived,
    UnsubscribeReceived,
)
from fleetroot.gateway.mqtt.inflight import Inflight
from fleetroot.gateway.mqtt.packets import (
    Connack,
    ConnackCode,
    Connect,
    Disconnect,
    Packet,
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
from fleetroot.gateway.mqtt.violations import ProtocolViolation, Violation


class State(Enum):
    """Where a session is; see the top of the file."""

    EXPECT_CONNECT = auto()
    AUTHENTICATING = auto()
    CONNECTED = auto()
    CLOSED = auto()


_DECODING: Final = (State.CONNECTED, State.EXPECT_CONNECT)

# What is wrong with a CONNECT that the client is told before the close.
_TOLD: Final = {
    Violation.PROTOCOL_LEVEL: ConnackCode.UNACCEPTABLE_PROTOCOL_VERSION,  # [MQTT-3.1.2-2]
    Violation.CLIENT_ID: ConnackCode.IDENTIFIER_REJECTED,  # [MQTT-3.1.3-8]
}


class SessionViolation(ProtocolViolation):
    """The client broke the protocol, and the session has closed itself. `data_to_send` may hold a
    CONNACK that says so: send it, then close the connection.

    Attributes:
        events: what the client did right in the same data before it did wrong, in order. A network
            that split the data differently would have delivered them, so they count.
    """

    def __init__(self, violation: ProtocolViolation, events: Sequence[Event]) -> None:
        super().__init__(violation.reason, violation.message)
        self.events = tuple(events)


class LocalProtocolError(Exception):
    """The session's owner asked for what its state forbids: a bug on this side."""


class SessionClosed(Exception):
    """The session was closed in the meantime, so what was asked did not happen."""


class ServerSession:
    """One connection of one client.

    Args:
        max_packet_bytes: largest remaining length of a packet once the client is accepted. The
            default leaves a message of 256 KB room for the longest topic (64 KB).
        max_connect_bytes: the same for its CONNECT, from anyone.
        max_held_back_bytes: most bytes that may follow CONNECT before `accept`. A skin that stops
            reading while the session is AUTHENTICATING never gets there.
        max_inflight: most QoS 1 messages to send without their PUBACK, 1 to 65,535.
        max_keep_alive_timeout: seconds of silence after which any client counts as gone,
            whatever keep-alive it asked for; None for no such limit.
    """

    __slots__ = (
        "_connect",
        "_decoder",
        "_inflight",
        "_max_held_back_bytes",
        "_max_keep_alive_timeout",
        "_max_packet_bytes",
        "_output",
        "_state",
        "_will",
    )

    def __init__(
        self,
        *,
        max_packet_bytes: int = 320 * 1024,
        max_connect_bytes: int = 16 * 1024,
        max_held_back_bytes: int = 64 * 1024,
        max_inflight: int = 64,
        max_keep_alive_timeout: float | None = None,
    ) -> None:
        self._state = State.EXPECT_CONNECT
        self._decoder = Decoder(max_connect_bytes)
        self._max_packet_bytes = max_packet_bytes
        self._max_held_back_bytes = max_held_back_bytes
        self._max_keep_alive_timeout = max_keep_alive_timeout
        self._connect: Connect | None = None
        self._will: Will | None = None
        self._output: list[bytes] = []
        self._inflight = Inflight(max_inflight)

    # What the owner may ask

    @property
    def state(self) -> State:
        """Where the session is. CLOSED tells the skin to drain the output and hang up."""
        return self._state

    @property
    def will(self) -> Will | None:
        """The message to publish if the connection is over now: that of an accepted CONNECT
        [MQTT-3.1.2-8], until DISCONNECT discards it [MQTT-3.1.2-10].
        """
        return self._will

    @property
    def keep_alive_timeout(self) -> float | None:
        """Seconds without a byte from the client after which the skin is to close: one and a half
        times the client's keep-alive [MQTT-3.1.2-24], at most `max_keep_alive_timeout`, which
        alone counts if keep-alive is off. None before CONNECT and for never.
        """
        if self._connect is None:
            return None
        limit = self._max_keep_alive_timeout
        if not self._connect.keep_alive:
            return limit
        timeout = 1.5 * self._connect.keep_alive
        return timeout if limit is None else min(timeout, limit)

    @property
    def window(self) -> int:
        """How many QoS 1 messages `publish` takes now before it raises `Busy`."""
        return self._inflight.free

    def inflight(self) -> dict[int, object]:
        """The QoS 1 messages that lack their PUBACK, in the order they were sent: packet id to
        token. Ask after the close; to a client that resumes its session they are due again, in
        this order, with these ids and `dup` [MQTT-4.4.0-1] [MQTT-4.6.0-1].
        """
        return self._inflight.tokens()

    def data_to_send(self) -> bytes:
        """Takes what is queued for the client; empty if nothing is."""
        output = self._output
        if not output:
            return b""
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return data

    # What the client did

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Takes what the client sent and says what happened, in order.

        Drain `data_to_send` afterwards: a ping was answered, or a bad CONNECT. After the close
        there are no more events, and no more violations.

        Raises:
            SessionViolation: the client broke the protocol.
        """
        if self._state is State.CLOSED:
            return []
        self._decoder.receive(data)
        return self._advance()

    def close(self) -> None:
        """The connection is over, or is to be, without a DISCONNECT: the will stays due."""
        self._state = State.CLOSED
        self._decoder.clear()

    # What the owner answers

    def accept(self, session_present: bool, max_packet_bytes: int | None = None) -> list[Event]:
        """Lets the client in (CONNACK 0), and says what it did while it waited.

        Args:
            session_present: whether state of an earlier connection is resumed.
            max_packet_bytes: largest packet from now on; None leaves what was said at the start.

        Raises:
            SessionViolation: in what was held back. The client was let in all the same, before.
            SessionClosed: the client went away first.
            LocalProtocolError: no CONNECT is waiting, or a clean session is said to be resumed
                [MQTT-3.2.2-1].
        """
        connect = self._waiting_connect()
        if session_present and connect.clean_session:
            raise LocalProtocolError("a clean session has nothing to resume")
        self._output.append(encode(Connack(session_present, ConnackCode.ACCEPTED)))
        self._state = State.CONNECTED
        self._will = connect.will
        self._decoder.max_packet_bytes = max_packet_bytes or self._max_packet_bytes
        return self._advance()

    def refuse(self, code: ConnackCode) -> None:
        """Turns the client away (CONNACK 1 to 5), and closes [MQTT-3.2.2-5]. Like every answer, it
        does nothing after the close, when there is nobody to tell.

        Raises:
            LocalProtocolError: no CONNECT is waiting, or `code` is ACCEPTED.
        """
        if self._state is State.CLOSED:
            return
        self._waiting_connect()
        if code is ConnackCode.ACCEPTED:
            raise LocalProtocolError("accept() accepts")
        self._output.append(encode(Connack(False, code)))
        self.close()

    def puback(self, packet_id: int) -> None:
        """Tells the client that its message is safe."""
        self._answer(encode_puback(packet_id))

    def suback(self, packet_id: int, granted: Sequence[SubackCode]) -> None:
        """Answers a SUBSCRIBE: one code for each of its filters, in their order [MQTT-3.8.4-5]."""
        self._answer(encode(Suback(packet_id, tuple(granted))))

    def unsuback(self, packet_id: int) -> None:
        """Answers an UNSUBSCRIBE."""
        self._answer(encode(Unsuback(packet_id)))

    # What the owner sends

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        token: object = None,
        *,
        redelivered_id: int | None = None,
    ) -> int | None:
        """Sends a message to the client.

        Args:
            topic: as MQTT writes it, property bag included.
            payload: as it is.
            qos: 0 or 1.
            token: what PubackReceived and `inflight` name the message by, at QoS 1.
            redelivered_id: the packet id that the message had on an earlier connection; it keeps
                it, and is marked a duplicate [MQTT-4.4.0-1] [MQTT-3.3.1-1]. Redeliver before
                anything new is sent, which could take that id.

        Returns:
            The packet id; None at QoS 0.

        Raises:
            Busy: at QoS 1, the window is full. The message was not taken; whoever has it keeps it.
            SessionClosed: the connection is over. The message was not taken.
            LocalProtocolError: the client is not accepted yet, or `redelivered_id` is in use.
            ValueError: the message cannot be encoded.
        """
        if self._state is not State.CONNECTED:
            raise self._wrong_state()
        if qos == 0:
            self._output.append(encode_publish(topic, payload))
            return None
        if qos != 1:
            raise ValueError("QoS is 0 or 1")
        if redelivered_id is not None and redelivered_id in self._inflight:
            raise LocalProtocolError("the packet id is in use")
        packet_id = self._inflight.next_packet_id() if redelivered_id is None else redelivered_id
        dup = redelivered_id is not None
        data = encode_publish(topic, payload, qos=1, packet_id=packet_id, dup=dup)
        self._inflight.hold(packet_id, token)
        self._output.append(data)
        return packet_id

    # The machine

    def _advance(self) -> list[Event]:
        """Decodes and handles packets for as long as the state lets it."""
        events: list[Event] = []
        decoder = self._decoder
        try:
            while self._state in _DECODING:
                packet = decoder.next_packet()
                if packet is None:
                    break
                event = self._handle(packet)
                if event is not None:
                    events.append(event)
            if self._state is State.AUTHENTICATING:
                self._check_held_back()
        except ProtocolViolation as violation:
            if self._state is State.EXPECT_CONNECT and violation.reason in _TOLD:
                self._output.append(encode(Connack(False, _TOLD[violation.reason])))
            self.close()
            raise SessionViolation(violation, events) from violation
        return events

    def _handle_first(self, packet: Packet) -> Event:
        if not isinstance(packet, Connect):
            raise ProtocolViolation(Violation.FIRST_PACKET, "the first packet is not CONNECT")
        if not packet.client_id and not packet.clean_session:
            raise ProtocolViolation(
                Violation.CLIENT_ID, "a session that is to be kept needs a client id"
            )
        self._connect = packet
        self._state = State.AUTHENTICATING
        return ConnectReceived(packet)

    def _handle(self, packet: Packet) -> Event | None:
        if self._state is State.EXPECT_CONNECT:
            return self._handle_first(packet)
        match packet:
            case Publish(topic, payload, qos, retain, dup, packet_id):
                if qos == 2:
                    raise ProtocolViolation(Violation.QOS_2, "QoS 2 is not offered")
                return PublishReceived(topic, payload, qos, retain, dup, packet_id)
            case Puback(packet_id):
                # An unknown id is no violation: the spec names none, and a client that got a
                # message and its redelivery acknowledges both, maybe on its next connection.
                if packet_id not in self._inflight:
                    return None
                return PubackReceived(packet_id, self._inflight.release(packet_id))
            case Pingreq():
                self._output.append(encode(Pingresp()))
                return None
            case Subscribe(packet_id, filters):
                return SubscribeReceived(packet_id, filters)
            case Unsubscribe(packet_id, topic_filters):
                return UnsubscribeReceived(packet_id, topic_filters)
            case Disconnect():
                self._will = None
                self.close()
                return Disconnected()
            case Connect():
                raise ProtocolViolation(Violation.SECOND_CONNECT, "CONNECT on a used connection")
            case _:
                raise ProtocolViolation(
                    Violation.UNEXPECTED_PACKET, "a packet that only servers send"
                )

    def _check_held_back(self) -> None:
        if self._decoder.buffered_bytes > self._max_held_back_bytes:
            raise ProtocolViolation(
                Violation.HELD_BACK, "too much was sent ahead of the answer to CONNECT"
            )

    def _answer(self, data: bytes) -> None:
        if self._state is State.CONNECTED:
            self._output.append(data)
        elif self._state is not State.CLOSED:
            raise self._wrong_state()

    def _waiting_connect(self) -> Connect:
        if self._state is State.AUTHENTICATING and self._connect is not None:
            return self._connect
        raise self._wrong_state()

    def _wrong_state(self) -> Exception:
        if self._state is State.CLOSED:
            return SessionClosed("the session is closed")
        return LocalProtocolError(f"not while {self._state.name}")
