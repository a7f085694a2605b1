"""MQTT over WebSocket: devices whose network lets only HTTPS out (MQTT 3.1.1 §6).

An ASGI application for the HTTPS port. Each WebSocket is made to look like the TLS transport of the
MQTT port, so the same `DeviceConnection` runs on both. Theory of operation:

- Bytes in: binary messages, one after the other; where packets begin in them means nothing (§6,
  MQTT-6.0.0-2). A connection that pauses reading stops asking ASGI for messages, which pauses the
  TCP transport.
- Bytes out: what is written while one message is being sent becomes the next. ASGI's `send` waits
  for a slow reader; what waits here then is bounded by the connection, which is told to pause.
- The end: `close` sends what waits and a close frame; `abort` drops the connection.

There is one task per WebSocket, and a second one while it sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from fleetroot.gateway.refusals import Refusals
from fleetroot.gateway.tls import TlsInfo
from fleetroot.gateway.tls.http import TLS_INFO
from fleetroot.gateway.tls.websocket import ABORT, VOUCH

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PATH: Final = "/$iothub/websocket"
SUBPROTOCOL: Final = "mqtt"

# RFC 6455 §7.4.1
_NORMAL: Final = 1000
_UNSUPPORTED_DATA: Final = 1003
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """The bounds of one WebSocket; those of messages are in `HttpLimits`.

    Attributes:
        write_buffer_bytes: bytes that wait for a slow reader above which the connection is told to
            pause; it resumes at a quarter.
        close_seconds: for a slow reader to take the rest when its connection is closed.
    """

    write_buffer_bytes: int = 64 * 1024
    close_seconds: float = 5.0


class MqttOverWebSocket:
    """The ASGI application: says which WebSockets are MQTT, and runs them."""

    def __init__(
        self,
        make_connection: Callable[[], asyncio.Protocol],
        refusals: Refusals,
        limits: WebSocketLimits | None = None,
    ) -> None:
        self._make_connection = make_connection
        self._refusals = refusals
        self._limits = limits or WebSocketLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        refused = _judge(scope)
        if refused is not None:
            status, reason = refused
            self._refusals.add("websocket", reason, peer=_peer(scope))
            await _refuse(send, status)
            return
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
        transport = WebSocketTransport(scope, send, self._make_connection(), self._limits)
        if await transport.run(receive) == _UNSUPPORTED_DATA:
            self._refusals.add("websocket", "text message", peer=_peer(scope))


class WebSocketTransport(asyncio.Transport):
    """The transport of `protocol`: an accepted WebSocket."""

    __slots__ = (
        "_abort",
        "_close_code",
        "_close_timer",
        "_info",
        "_is_over",
        "_limits",
        "_loop",
        "_may_read",
        "_paused_writing",
        "_protocol",
        "_send",
        "_sending",
        "_size",
        "_waiting",
    )

    def __init__(
        self, scope: Scope, send: Send, protocol: asyncio.Protocol, limits: WebSocketLimits
    ) -> None:
        # Not `super().__init__()`: it would make a dict per connection that nothing reads.
        self._send = send
        self._protocol = protocol
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._abort: Callable[[], None] = scope["extensions"][ABORT]
        extensions = scope["extensions"]
        tls: TlsInfo | None = extensions.get(TLS_INFO)
        self._info = {
            "peername": scope["client"],
            "peer_chain": () if tls is None else tls.peer_chain,
            "vouch": extensions.get(VOUCH),
        }
        self._waiting: list[bytes] = []
        self._size = 0  # of what waits, and of what is being sent
        self._sending: asyncio.Task[None] | None = None
        self._paused_writing = False
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._close_code: int | None = None  # once it closes
        self._close_timer: asyncio.TimerHandle | None = None
        self._is_over = False

    async def run(self, receive: Receive) -> int | None:
        """Carries messages until the WebSocket is over; the code that this side closed it with."""
        protocol = self._protocol
        protocol.connection_made(self)
        try:
            while True:
                if not self._may_read.is_set():
                    await self._may_read.wait()
                message = await receive()
                if message["type"] != "websocket.receive":
                    break
                data = message.get("bytes")
                if self.is_closing():
                    continue
                if data is None:
                    self._close(_UNSUPPORTED_DATA)
                else:
                    protocol.data_received(data)
        finally:
            self._is_over = True
            self._may_read.set()
            if self._close_timer is not None:
                self._close_timer.cancel()
            protocol.connection_lost(None)
        return self._close_code

    # --- asyncio.Transport

    def get_extra_info(self, name: str, default: object = None) -> Any:
        return self._info.get(name, default)

    def is_closing(self) -> bool:
        return self._is_over or self._close_code is not None

    def is_reading(self) -> bool:
        return self._may_read.is_set() and not self.is_closing()

    def pause_reading(self) -> None:
        if not self.is_closing():
            self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self.is_closing() or not data:
            return
        self._waiting.append(bytes(data))
        self._size += len(data)
        self._start_sending()
        if not self._paused_writing and self._size > self._limits.write_buffer_bytes:
            self._paused_writing = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._size

    def close(self) -> None:
        """Sends what was written, then a close frame."""
        self._close(_NORMAL)

    def abort(self) -> None:
        """Drops the connection at once, with whatever is still waiting to be sent."""
        if self._close_code is None:
            self._close_code = _NORMAL
        self._may_read.set()
        self._abort()

    # --- inside

    def _close(self, code: int) -> None:
        if self.is_closing():
            return
        self._close_code = code
        self._may_read.set()  # to hear the end
        self._close_timer = self._loop.call_later(self._limits.close_seconds, self._abort)
        self._start_sending()

    def _start_sending(self) -> None:
        if self._sending is None:
            self._sending = self._loop.create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
                self._waiting = []
                await self._send({"type": "websocket.send", "bytes": data})
                self._size -= len(data)
                if self._paused_writing and self._size <= self._limits.write_buffer_bytes // 4:
                    self._paused_writing = False
                    self._protocol.resume_writing()
            if self._close_code is not None and not self._is_over:
                await self._send({"type": "websocket.close", "code": self._close_code})
        except OSError:  # the peer is gone (ASGI, "Send - send event"); `receive` says so too
            self._may_read.set()
        finally:
            self._sending = None


def _judge(scope: Scope) -> tuple[int, str] | None:
    """Why a WebSocket is not to be accepted: HTTP status and reason."""
    if scope["path"].rstrip("/").lower() != PATH:
        return 404, "no WebSocket at this path"
    if SUBPROTOCOL not in scope["subprotocols"]:
        return 400, "subprotocol is not mqtt"
    headers = {name: value for name, value in scope["headers"] if name in (b"origin", b"host")}
    if b"origin" in headers and not _is_same_origin(headers, scope["scheme"]):
        return 403, "cross-origin"
    return None


def _is_same_origin(headers: dict[bytes, bytes], scheme: str) -> bool:
    """Whether a browser's page, if it is one, comes from this very host: others would use the
    client certificate of whoever looks at them (RFC 6455 §10.2). SDKs send the host they dial.
    """
    secure = "https" if scheme == "wss" else "http"
    try:
        origin = urlsplit(headers[b"origin"].decode("ascii"))
        host = urlsplit(f"//{headers.get(b'host', b'').decode('ascii')}")
        same_port = (origin.port or _PORTS.get(origin.scheme)) == (host.port or _PORTS[secure])
    except ValueError:
        return False
    same_host = origin.hostname is not None and origin.hostname == host.hostname
    return same_port and origin.scheme == secure and same_host


async def _refuse(send: Send, status: int) -> None:
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b""})


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else "?"
