"""HTTP/1.1 and WebSocket for an ASGI application, on our TLS listener and on a plain port.

uvicorn's own protocol classes do the work, inside our transport. They are uvicorn's internal API:
its version is pinned, and tests/gateway/test_uvicorn_contract.py holds what we count on. uvicorn's
server class, signal handling and logging set-up are not used.

The client's certificates travel in the ASGI scope's TLS extension
(https://asgi.readthedocs.io/en/latest/specs/tls.html), and as they are in `TLS_INFO`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any, cast

from cryptography import x509
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fleetroot.gateway.tls.context import CIPHER_SUITES
from fleetroot.gateway.tls.listener import TlsListener, bind
from fleetroot.gateway.tls.peer import TlsInfo
from fleetroot.gateway.tls.websocket import WebSocketProtocol

# In `scope["extensions"]`: the `TlsInfo` of the connection, for code of ours that wants DER.
TLS_INFO = "fleetroot.tls"

_TLS_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of one HTTP server. Bodies are for the application to bound.

    Attributes:
        head_bytes: most bytes of a request's line and headers; more is answered with 431.
        head_timeout: seconds for them to arrive, from the connection's or the request's start.
        body_timeout: seconds for a request's body to arrive, from the end of its head.
        keep_alive: whole seconds that a connection may wait for its next request.
        concurrency: connections, or running requests, at which a further request gets 503.
        plain_connections: most connections on plain ports; TLS ports have `TlsLimits`.
        message_bytes: most bytes of a WebSocket message, in however many frames; more is closed
            with 1009, as soon as the length of the frame is read.
        stranger_bytes: most bytes that a WebSocket's peer may send before the application has sent
            anything.
        close_timeout: seconds for the peer to answer a WebSocket's close frame.
    """

    head_bytes: int = 32 * 1024
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    keep_alive: int = 30
    concurrency: int = 50_000
    plain_connections: int = 4096
    message_bytes: int = 384 * 1024
    stranger_bytes: int = 96 * 1024
    close_timeout: float = 5.0


class HttpServer:
    """Serves one ASGI application on any number of ports, and stops in order."""

    def __init__(
        self,
        app: ASGIApp,
        limits: HttpLimits | None = None,
        on_refused: Callable[[str, str], None] = lambda _reason, _peer: None,
    ) -> None:
        """`on_refused` is told the reason and the peer of what never becomes a request."""
        self.limits = limits or HttpLimits()
        self.on_refused = on_refused
        self.state = ServerState()
        self.config = Config(
            cast("Any", app),  # uvicorn writes the same protocol with types of its own
            loop="none",
            http="httptools",
            ws="websockets-sansio",
            # Its memory, and a peer's way to have us work, for messages that are small anyway.
            ws_per_message_deflate=False,
            # What runs on WebSockets here has a keep-alive of its own.
            ws_ping_interval=None,
            ws_max_size=self.limits.message_bytes,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,  # uvicorn's server class would keep it current; `_tick` does here
            limit_concurrency=self.limits.concurrency,
            timeout_keep_alive=self.limits.keep_alive,
        )
        self.config.load()
        self.plain_connections = 0
        self.all_lost = asyncio.Event()
        self.all_lost.set()
        self._listeners: list[TlsListener] = []
        self._plain: list[asyncio.Server] = []
        self._clock: asyncio.TimerHandle | None = None

    def protocol_factory(self) -> asyncio.Protocol:
        """The protocol of one connection, for `TlsListener`."""
        return HttpProtocol(self)

    async def serve_tls(self, listener: TlsListener) -> None:
        """Starts a listener that was made with our `protocol_factory`, and owns it from then on.

        Raises:
            OSError: the address cannot be bound.
        """
        await listener.start()
        self._listeners.append(listener)
        self._tick()

    async def serve_plain(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Opens a port without TLS; gives its number, which matters when `port` is 0.

        Raises:
            OSError: the address cannot be bound.
        """
        bound = await bind(host, port, reuse_port=reuse_port)
        server = await asyncio.get_running_loop().create_server(self.protocol_factory, sock=bound)
        self._plain.append(server)
        self._tick()
        port_in_use: int = bound.getsockname()[1]
        return port_in_use

    async def stop(self, grace: float) -> None:
        """Closes the ports, lets running requests finish within `grace` seconds, then cuts them.

        A connection that waits for its next request is closed at once, and any other after the
        response that it is getting. The WebSockets' applications end them within the grace.
        """
        for listener in self._listeners:
            listener.stop_accepting()
        for server in self._plain:
            server.close()
        for protocol in list(self.state.connections):
            protocol.shutdown()
        try:
            async with asyncio.timeout(grace):
                while self.state.tasks:
                    await asyncio.wait(self.state.tasks)
                await self.all_lost.wait()
        except TimeoutError:
            await self._cut()
        for listener in self._listeners:
            await listener.stop(listener.limits.linger)
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def connection_lost(self, *, plain: bool) -> None:
        """A protocol of ours has lost its connection."""
        self.plain_connections -= plain
        if not self.state.connections:
            self.all_lost.set()

    async def _cut(self) -> None:
        for protocol in list(self.state.connections):
            transport = protocol.transport
            if isinstance(transport, asyncio.Transport):
                transport.abort()
        # An application that waits for its client now hears that it is gone; the rest is cancelled.
        await self.all_lost.wait()
        tasks = list(self.state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def _tick(self) -> None:
        """Keeps the Date header (RFC 9110 §6.6.1) current while a port is open."""
        if self._clock is not None:
            self._clock.cancel()
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._clock = asyncio.get_running_loop().call_later(1.0, self._tick)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with TLS facts in the scope and bounds on a request's head.

    httptools puts no bound on headers, and uvicorn none on how long they take.
    """

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server.config, server.state, app_state={})
        self._server = server
        self._extensions: dict[str, Any] | None = None
        self._in_head = True
        self._head_bytes = 0
        self._was_used = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_OneWrite(transport))
        server = self._server
        server.all_lost.clear()
        info = transport.get_extra_info("tls")
        if info is not None:
            self._extensions = {"tls": tls_extension(info), TLS_INFO: info}
        else:
            server.plain_connections += 1
        self.ws_protocol_class = partial(  # type: ignore[assignment]
            WebSocketProtocol, server=server, extensions=self._extensions
        )
        if info is None and server.plain_connections > server.limits.plain_connections:
            self._refused("too many connections")
            transport.abort()
            return
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        server = self._server
        self._stop_head_timer()
        self._stop_body_timer()
        self._unset_keepalive_if_required()
        if not self._was_used and self._extensions is not None:
            self._refused("gone without a request")
        super().connection_lost(exc)
        server.connection_lost(plain=self._extensions is None)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head or not self._head_bytes or self.transport.is_closing():
            return
        if self._head_bytes > self._server.limits.head_bytes:
            if not self._is_responding():
                self.transport.write(_HEAD_TOO_LARGE)
            self._refused("head too large")
            self.transport.close()
        elif self._head_timer is None:
            self._start_head_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._was_used = True
        self._in_head = True
        self._head_bytes = self._head_bytes or 1
        if self._extensions is not None:
            self.scope["extensions"] = dict(self._extensions)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        self._body_timer = self.loop.call_later(
            self._server.limits.body_timeout, self._on_body_timer
        )
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_body_timer()
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0

    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_head_timer(self) -> None:
        timeout = self._server.limits.head_timeout
        self._head_timer = self.loop.call_later(timeout, self._on_head_timer)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timer(self) -> None:
        if self._is_responding():
            self._start_head_timer()  # a pipelined request may wait for its turn
        else:
            self._refused("head too slow")
            self.transport.close()

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _on_body_timer(self) -> None:
        self._refused("body too slow")
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refused("not HTTP")
        super().send_400_response(msg)

    def _refused(self, reason: str) -> None:
        self._was_used = True
        peer = self.client
        self._server.on_refused(reason, f"{peer[0]}:{peer[1]}" if peer else "?")


class _OneWrite(asyncio.Transport):
    """A transport that sends the head of a response together with the first of its body.

    uvicorn writes them one after the other: two records, two system calls and, to a client that
    reads as it comes, two wake-ups, which is a fifth of what a small response costs.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        # Not `super().__init__()`: it would make a dict per connection that nothing reads.
        self._transport = transport
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data[:5] == b"HTTP/":
            self._head = bytes(data)
            asyncio.get_running_loop().call_soon(self._flush)  # where no body follows at once
            return
        self._transport.write(data)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._head = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)


def tls_extension(info: TlsInfo) -> dict[str, Any]:
    """The ASGI TLS extension of a connection.

    `client_cert_error` is always set where there is a client certificate: the handshake proved
    possession of its key only, and an application that goes by the extension alone must not
    take it for more.
    """
    return {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(each) for each in info.peer_chain],
        "client_cert_name": _subject(info.peer_chain),
        "client_cert_error": "not verified" if info.peer_chain else None,
        "tls_version": _TLS_VERSIONS.get(info.version),
        "cipher_suite": CIPHER_SUITES.get(info.cipher),
    }


def _subject(chain: Sequence[bytes]) -> str | None:
    """The leaf's subject (RFC 4514), or None where it cannot be read."""
    if not chain:
        return None
    try:
        return x509.load_der_x509_certificate(chain[0]).subject.rfc4514_string()
    except (ValueError, TypeError, x509.InvalidVersion):  # TypeError: a name that is a BIT STRING
        return None
