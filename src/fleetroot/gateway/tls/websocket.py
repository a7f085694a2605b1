"""A connection of `http` that has become a WebSocket.

uvicorn's protocol class over the sans-I/O core of `websockets`, with TLS facts in the scope, and
bounds where they have none. tests/gateway/test_uvicorn_websocket.py holds what we count on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

if TYPE_CHECKING:
    from fleetroot.gateway.tls.http import HttpServer

# In a WebSocket's `scope["extensions"]`: a function that drops the connection at once, which ASGI
# has no message for.
ABORT = "fleetroot.abort"
# In the same: `vouch` of `TlsTransport`; None on a plain port.
VOUCH = "fleetroot.vouch"

_MAX_FRAGMENTS = 1024  # of a message: empty ones cost a peer next to nothing


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Takes over a connection from `HttpProtocol`, whose last request asked for it."""

    def __init__(
        self, *args: Any, server: HttpServer, extensions: dict[str, Any] | None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._server = server
        self._extensions = extensions
        self._stranger_bytes: int | None = server.limits.stranger_bytes  # left; None: no stranger
        self.close_timeout = server.limits.close_timeout

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._server.connection_lost(plain=self._extensions is None)

    def data_received(self, data: bytes) -> None:
        if self._stranger_bytes is not None:
            self._stranger_bytes -= len(data)
            if self._stranger_bytes < 0:
                self._fail(CloseCode.MESSAGE_TOO_BIG, "too much before the first answer")
                return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            # websockets is stricter about heads than httptools; uvicorn does not look whether it
            # has refused one, and would leave the peer waiting for ever.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: dict[str, Any] = {
                **(self._extensions or {}),
                ABORT: self.transport.abort,
                VOUCH: self.transport.get_extra_info("vouch"),
            }
            cast("dict[str, Any]", self.scope["extensions"]).update(extensions)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= _MAX_FRAGMENTS:
            self._fail(CloseCode.POLICY_VIOLATION, "too many fragments")
        else:
            super().handle_cont(event)

    async def send(self, message: Any) -> None:
        if self.close_sent:  # uvicorn takes what the application could not know for a mistake
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.send":
            self._stranger_bytes = None

    def shutdown(self) -> None:
        """The server stops: the application ends what it is doing, and then the connection."""
        if not self.handshake_complete:
            super().shutdown()

    def _fail(self, code: CloseCode, why: str) -> None:
        self.conn.fail(code, why)
        self.handle_parser_exception()
