"""One device's MQTT connection: the I/O skin of `mqtt.ServerSession`.

It owns the transport and every timer, and hands what the client does to a wire: the translation of
one of the two services. Which one, the user name of CONNECT tells. What a wire needs done in order
(subscriptions, twins, requests) runs one after the other, messages beside it; see `work`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from fleetroot.errors import FleetrootError, InvalidArgument, TokenInvalid, Unavailable
from fleetroot.gateway.mqtt import (
    Busy,
    ConnackCode,
    Connect,
    ConnectReceived,
    Disconnected,
    Event,
    ProtocolViolation,
    PubackReceived,
    PublishReceived,
    ServerSession,
    SessionClosed,
    SessionViolation,
    State,
    SubackCode,
    SubscribeReceived,
    UnsubscribeReceived,
    Will,
)
from fleetroot.gateway.refusal_history import Subject
from fleetroot.gateway.refusals import Refusals, new_trace_id
from fleetroot.gateway.work import Work
from fleetroot.sas import SasToken

_log = structlog.get_logger("fleetroot.gateway")


@dataclass(frozen=True, slots=True)
class MqttLimits:
    """What a device may ask of its connection.

    Attributes:
        connect_seconds: from the end of the handshake to CONNECT.
        keep_alive_seconds: the longest silence, whatever keep-alive was asked for.
        waiting: most messages of a device that are not durable, and requests not answered.
        write_buffer_bytes: most bytes that wait for a slow reader.
        connect_bytes: largest CONNECT, from anybody.
        packet_bytes: largest packet of a device that was let in to a hub.
        failed_attestations: most of one connection to provision.
        unattested_seconds: longest that a connection to provision stands without, or since, an
            attestation.
    """

    connect_seconds: float = 10.0
    keep_alive_seconds: float = 1767.0
    waiting: int = 256
    write_buffer_bytes: int = 1024 * 1024
    connect_bytes: int = 16 * 1024
    packet_bytes: int = 320 * 1024
    failed_attestations: int = 10
    unattested_seconds: float = 60.0


class Wire(Protocol):
    """The translation of one service.

    Attributes:
        max_packet_bytes: largest packet that it takes once the device is let in.
    """

    max_packet_bytes: int

    async def connect(self, connect: Connect) -> bool:
        """Lets the device in, and says whether it resumes a session.

        Raises:
            FleetrootError: it is not let in.
        """
        ...

    def connected(self) -> None:
        """CONNACK was queued."""
        ...

    def published(self, event: PublishReceived) -> None: ...

    def subscribed(self, event: SubscribeReceived) -> None: ...

    def unsubscribed(self, event: UnsubscribeReceived) -> None: ...

    async def lost(self, will: Will | None) -> None:
        """The connection of a device that was let in is over."""
        ...


class DeviceConnection(asyncio.Protocol):
    """The application protocol of a device's TLS connection."""

    def __init__(
        self,
        make_wire: Callable[[DeviceConnection, str], Awaitable[Wire]],
        refusals: Refusals,
        limits: MqttLimits,
    ) -> None:
        self._make_wire = make_wire
        self._refusals = refusals
        self._limits = limits
        self._session = ServerSession(
            max_connect_bytes=limits.connect_bytes,
            max_keep_alive_timeout=limits.keep_alive_seconds,
        )
        self._wire: Wire | None = None
        self._transport: asyncio.Transport
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._work = Work(limits.waiting, changed=self._adapt_reading, failed=self._work_failed)
        self._paused = False
        self._reader_is_slow = False
        self._finishing = False
        self._end_timer: asyncio.TimerHandle | None = None
        self.peer = "?"
        self.peer_chain: tuple[bytes, ...] = ()
        self.about: Subject | None = None  # once CONNECT named it
        self.on_reading: Callable[[], None] | None = None  # when a slow reader has read
        self._trace_id: str | None = None
        self._was_refused = False

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if peer else "?"
        self.peer_chain = transport.get_extra_info("peer_chain", ())
        self._timer = self._loop.call_later(self._limits.connect_seconds, self._no_connect)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            events = self._session.receive_data(data)
        except SessionViolation as violation:
            self._violated(violation)
        else:
            self._handle(events)
        self.flush()

    def eof_received(self) -> bool | None:
        return None  # a half-closed connection is closed

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        if self._end_timer is not None:
            self._end_timer.cancel()
        if self._session.state is State.EXPECT_CONNECT and not self._finishing:
            # A handshake for nothing, which costs more than most of what is refused.
            self.report("protocol", "gone without CONNECT")
        will = None if self._finishing else self._session.will  # the server leaves, not the device
        self._session.close()
        wire, self._wire = self._wire, None
        if wire is not None:
            # After what the device already asked for: its last messages come before its will.
            self.in_order(lambda: wire.lost(will))

    def pause_writing(self) -> None:
        """A slow reader: what it asks for next waits until it has read."""
        self._reader_is_slow = True
        self._adapt_reading()

    def resume_writing(self) -> None:
        self._reader_is_slow = False
        self._adapt_reading()
        if self.on_reading is not None:
            self.on_reading()

    # --- what wires ask for

    @property
    def limits(self) -> MqttLimits:
        """What the device may ask."""
        return self._limits

    @property
    def trace_id(self) -> str:
        """By which what is done and refused on this connection is found."""
        if self._trace_id is None:
            self._trace_id = new_trace_id()
        return self._trace_id

    @property
    def was_refused(self) -> bool:
        """Whether anything was refused on this connection."""
        return self._was_refused

    @property
    def reader_is_slow(self) -> bool:
        """Whether the client does not read as fast as it is sent: what can wait should."""
        return self._reader_is_slow

    def vouch(self) -> None:
        """The device has proved who it is: its connection is no stranger's any more."""
        vouch: Callable[[], None] | None = self._transport.get_extra_info("vouch")
        if vouch is not None:
            vouch()

    def flush(self) -> None:
        """Sends what the session has queued; closes once the session is closed."""
        if self._transport.is_closing():
            return
        data = self._session.data_to_send()
        if data:
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > self._limits.write_buffer_bytes:
                self.report("slow reader", "write buffer over its limit")
                self._transport.abort()
                return
        if self._session.state is State.CLOSED:
            self._transport.close()

    def puback(self, packet_id: int | None) -> None:
        """Acknowledges a message that is durable."""
        if packet_id is not None:
            self._session.puback(packet_id)
            self.flush()

    def suback(self, packet_id: int, granted: list[SubackCode]) -> None:
        """Answers a SUBSCRIBE."""
        self._session.suback(packet_id, granted)
        self.flush()

    def unsuback(self, packet_id: int) -> None:
        """Answers an UNSUBSCRIBE."""
        self._session.unsuback(packet_id)
        self.flush()

    def publish(
        self, topic: str, payload: bytes, qos: int, delivered: Callable[[], None] | None = None
    ) -> bool:
        """Sends a message, and calls `delivered` when the client has it; False if it cannot be
        sent now: the window is full, or the client is gone or not let in yet.
        """
        if self._session.state is not State.CONNECTED:
            return False
        try:
            self._session.publish(topic, payload, qos, delivered)
        except (Busy, SessionClosed):
            return False
        self.flush()
        if qos == 0 and delivered is not None:
            delivered()
        return True

    def close(self) -> None:
        """Closes the connection from this side; there is no DISCONNECT for it in MQTT 3.1.1."""
        self._session.close()
        self.flush()

    async def finish(self) -> None:
        """Reads no more, lets what was accepted be answered, and closes."""
        self._finishing = True
        self._adapt_reading()
        await self.settle()
        self.close()

    async def settle(self) -> None:
        """Waits until nothing is being done for this connection any more."""
        await self._work.settle()

    def refuse(self, what: str, reason: str, *, charge: bool = True) -> None:
        """Closes the connection for something the client must not do; it is not told why. See
        `Refusals.add` for the parameters.
        """
        self.report(what, reason, charge=charge)
        self.close()

    def report(self, what: str, reason: str | FleetrootError, *, charge: bool = True) -> None:
        """Reports that something was refused; see `Refusals.add`."""
        self._was_refused = True
        self._refusals.add(
            what, reason, peer=self.peer, about=self.about, trace_id=self.trace_id, charge=charge
        )

    def end_after(self, seconds: float, end: Callable[[], None]) -> None:
        """Calls `end` after so many seconds, unless the connection is over by then; what was to be
        called before is not.
        """
        if self._end_timer is not None:
            self._end_timer.cancel()
        if self._transport.is_closing():
            return
        self._end_timer = self._loop.call_later(max(seconds, 0.0), end)

    def in_order(self, step: Callable[[], Awaitable[None]]) -> None:
        """Runs `step` after every step that was given before it."""
        self._work.in_order(step)

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` beside everything else."""
        self._work.beside(work)

    # --- inside

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case PublishReceived():
                    if self._wire is not None:
                        self._wire.published(event)
                case PubackReceived(_, token):
                    if callable(token):
                        token()
                case SubscribeReceived():
                    if self._wire is not None:
                        self._wire.subscribed(event)
                case UnsubscribeReceived():
                    if self._wire is not None:
                        self._wire.unsubscribed(event)
                case ConnectReceived(connect):
                    self._cancel_timer()
                    self.in_order(lambda connect=connect: self._connect(connect))  # type: ignore[misc]
                case Disconnected():
                    pass

    async def _connect(self, connect: Connect) -> None:
        """Authenticates the client, and answers its CONNECT."""
        try:
            wire = await self._make_wire(self, connect.username or "")
            present = await wire.connect(connect)
        except FleetrootError as error:
            self.report("connect", error)
            self._session.refuse(_connack(error))
            self.flush()
            return
        if self._transport.is_closing() or self._session.state is State.CLOSED:
            await wire.lost(None)
            return
        self._wire = wire
        self._heard_at = self._loop.time()
        self._keep_alive()
        try:
            events = self._session.accept(present, wire.max_packet_bytes)
        except SessionClosed:
            return
        except SessionViolation as violation:
            wire.connected()
            self._violated(violation)
        else:
            self.flush()
            wire.connected()
            self._handle(events)
        self.flush()

    def _violated(self, violation: SessionViolation) -> None:
        self._handle(list(violation.events))
        self.report("protocol", f"{violation.reason}: {violation.message}")

    def _no_connect(self) -> None:
        self.report("protocol", "no CONNECT in time")
        self._session.close()
        self._transport.abort()

    def _keep_alive(self) -> None:
        """Closes the connection after too long a silence; one timer, moved only when it fires."""
        timeout = self._session.keep_alive_timeout
        if timeout is None or self._transport.is_closing():
            return
        if self._paused:  # it may well be talking: it is we who do not listen
            self._heard_at = self._loop.time()
        silent = self._loop.time() - self._heard_at
        if silent >= timeout:
            self.report("keep-alive", f"silent: {silent:.0f} s", charge=False)
            self.close()
            return
        self._timer = self._loop.call_later(timeout - silent, self._keep_alive)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _work_failed(self, error: Exception) -> None:
        """A failure of one request is this connection's end, never the server's."""
        match error:
            case ProtocolViolation():
                self.refuse("protocol", f"{error.reason}: {error.message}")
            case FleetrootError():
                self.report("request", error)
                self.close()
            case _:
                self._was_refused = True
                device = self.about.id if self.about else None
                _log.error(
                    "unexpected failure",
                    peer=self.peer,
                    device=device,
                    trace_id=self.trace_id,
                    exc_info=error,
                )
                self.close()

    def _adapt_reading(self) -> None:
        """Reads only while there is room for more, and the client reads what it is sent."""
        paused = self._finishing or self._reader_is_slow or self._work.is_full
        if paused == self._paused:
            return
        self._paused = paused
        if self._transport.is_closing():
            return
        if paused:
            self._transport.pause_reading()
        else:
            self._heard_at = self._loop.time()
            self._transport.resume_reading()


def parse_token(password: bytes | None) -> SasToken | None:
    """The token that a password is; None when there is none.

    Raises:
        TokenInvalid: it is not a token.
    """
    if not password:
        return None
    try:
        text = password.decode("ascii")
    except UnicodeDecodeError:
        raise TokenInvalid("password is not a token") from None
    return SasToken.parse(text)


def _connack(error: FleetrootError) -> ConnackCode:
    """SDKs retry after 3 and give up after 4 and 5, so what passes by itself is always 3."""
    if isinstance(error, Unavailable):
        return ConnackCode.SERVER_UNAVAILABLE
    if isinstance(error, TokenInvalid | InvalidArgument):
        return ConnackCode.BAD_USERNAME_OR_PASSWORD
    return ConnackCode.NOT_AUTHORIZED
