"""One device's MQTT connection: the I/O skin of `mqtt.ServerSession`.

It owns the transport and every timer, and hands what the client does to a wire: the translation of
one of the two services. Which one, the user name of CONNECT tells. What a wire needs done in order
(subscriptions, twins, requests) runs one after the other; messages run beside it, and reading stops
while too many of them are not durable yet, so that a fast device waits and no memory grows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

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
from fleetroot.gateway.refusals import Refusals
from fleetroot.gateway.tls import TlsInfo
from fleetroot.sas import SasToken

_LONG_TIMER: Final = 86_400.0
_log = structlog.get_logger("fleetroot.gateway")


@dataclass(frozen=True, slots=True)
class MqttLimits:
    """What a device may ask of its connection.

    Attributes:
        connect_seconds: from the end of the handshake to CONNECT.
        keep_alive_seconds: the longest silence, whatever keep-alive was asked for.
        waiting: most messages of a device that are not durable, and requests not answered.
        write_buffer_bytes: most bytes that wait for a slow reader.
    """

    connect_seconds: float = 10.0
    keep_alive_seconds: float = 1767.0
    waiting: int = 256
    write_buffer_bytes: int = 1024 * 1024


class Wire(Protocol):
    """The translation of one service."""

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
        self._session = ServerSession(max_keep_alive_timeout=limits.keep_alive_seconds)
        self._wire: Wire | None = None
        self._transport: asyncio.Transport
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._in_order: deque[Callable[[], Awaitable[None]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ordering = False
        self._waiting = 0
        self._paused = False
        self._reader_is_slow = False
        self._finishing = False
        self._end_timer: asyncio.TimerHandle | None = None
        self.peer = "?"
        self.peer_chain: tuple[bytes, ...] = ()
        self.device: str | None = None  # for logs, once CONNECT named it

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if peer else "?"
        info: TlsInfo | None = transport.get_extra_info("tls")
        if info is not None:
            self.peer_chain = info.peer_chain
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
        will = None if self._finishing else self._session.will  # the server leaves, not the device
        self._session.close()
        wire, self._wire = self._wire, None
        if wire is not None:
            # After what the device already asked for: its last messages come before its will.
            self.in_order(lambda: wire.lost(will))

    def pause_writing(self) -> None:
        """A slow reader: what it asks for next waits until it has read."""
        self._reader_is_slow = True
        self._pause()

    def resume_writing(self) -> None:
        self._reader_is_slow = False
        self._resume_if_ready()

    # --- what wires ask for

    def flush(self) -> None:
        """Sends what the session has queued; closes once the session is closed."""
        if self._transport.is_closing():
            return
        data = self._session.data_to_send()
        if data:
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > self._limits.write_buffer_bytes:
                self._refused("slow reader", "write buffer over its limit")
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
        self._pause()
        await self.settle()
        self.close()

    async def settle(self) -> None:
        """Waits until nothing is being done for this connection any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def refuse(self, reason: str, detail: str) -> None:
        """Closes the connection for something the client must not do; it is not told why."""
        self._refused(reason, detail)
        self.close()

    def end_after(self, seconds: float, end: Callable[[], None]) -> None:
        """Calls `end` after so many seconds, unless the connection is over by then; what was to be
        called before is not.
        """
        if self._end_timer is not None:
            self._end_timer.cancel()
        if self._transport.is_closing():
            return
        # A timer of more than a day is set again, so that it need not be exact over months.
        if seconds > _LONG_TIMER:
            self._end_timer = self._loop.call_later(
                _LONG_TIMER, lambda: self.end_after(seconds - _LONG_TIMER, end)
            )
        else:
            self._end_timer = self._loop.call_later(max(seconds, 0.0), end)

    def in_order(self, step: Callable[[], Awaitable[None]]) -> None:
        """Runs `step` after every step that was given before it."""
        self._in_order.append(step)
        self._wait_for_one()
        if not self._ordering:
            self._ordering = True
            self._start(self._run_in_order())

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` beside everything else."""
        self._wait_for_one()
        self._start(self._run_beside(work))

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
            self._refused("connect", error.reason)
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
            events = self._session.accept(present)
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
        self._refused("protocol", f"{violation.reason}: {violation.message}")

    def _refused(self, what: str, reason: str) -> None:
        self._refusals.add(what, reason, peer=self.peer, device=self.device)

    def _no_connect(self) -> None:
        self._refused("protocol", "no CONNECT in time")
        self._transport.abort()

    def _keep_alive(self) -> None:
        """Closes the connection after too long a silence; one timer, moved only when it fires."""
        timeout = self._session.keep_alive_timeout
        if timeout is None or self._transport.is_closing():
            return
        silent = self._loop.time() - self._heard_at
        if silent >= timeout:
            self._refused("keep-alive", f"silent: {silent:.0f} s")
            self.close()
            return
        self._timer = self._loop.call_later(timeout - silent, self._keep_alive)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _run_in_order(self) -> None:
        while self._in_order:
            step = self._in_order.popleft()
            # A step may never wait for anything: let other connections have their turn.
            await asyncio.sleep(0)
            try:
                await self._guarded(step())
            finally:
                self._done_with_one()
        self._ordering = False

    async def _run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await self._guarded(work)
        finally:
            self._done_with_one()

    async def _guarded(self, work: Awaitable[None]) -> None:
        """A failure of one request is this connection's end, never the server's."""
        try:
            await work
        except ProtocolViolation as violation:
            self.refuse("protocol", violation.message)
        except FleetrootError as error:
            self.refuse("request", error.reason)
        except Exception:  # noqa: BLE001
            _log.exception("unexpected failure", peer=self.peer, device=self.device)
            self.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wait_for_one(self) -> None:
        self._waiting += 1
        if self._waiting >= self._limits.waiting:
            self._pause()

    def _done_with_one(self) -> None:
        self._waiting -= 1
        self._resume_if_ready()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            if not self._transport.is_closing():
                self._transport.pause_reading()

    def _resume_if_ready(self) -> None:
        few = self._waiting <= self._limits.waiting // 2
        if self._paused and few and not self._reader_is_slow and not self._finishing:
            self._paused = False
            if not self._transport.is_closing():
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
