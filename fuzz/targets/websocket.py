"""MQTT over WebSocket: which WebSockets are let in, and the byte stream that one becomes."""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import Any
from urllib.parse import urlsplit

from fleetroot.clock import SystemClock
from fleetroot.gateway.reasons import ADVICE
from fleetroot.gateway.refusals import Refusals
from fleetroot.gateway.tls.http import TLS_INFO
from fleetroot.gateway.tls.websocket import ABORT, VOUCH
from fleetroot.gateway.websocket import PATH, MqttOverWebSocket, WebSocketLimits

MAX_BYTES = 512
TOKENS = (
    b"/$iothub/websocket",
    b"mqtt",
    b"origin: https://",
    b"host: ",
    b":443",
    b"[::1]",
    b"\n\n",
    b"\x00\x03abc",
    b"\xff",
)
LIMITS = WebSocketLimits(write_buffer_bytes=8)
LOOP = asyncio.new_event_loop()


class Step(IntEnum):
    """What happens next in a life; any other byte is the length of a binary message."""

    TEXT = 0xFB
    PAUSE = 0xFC
    WRITE = 0xFD
    CLOSE = 0xFE
    ABORT = 0xFF


def check(data: bytes) -> None:
    """A WebSocket is refused with 400, 403 or 404, or is a stream: the connection has every byte of
    the binary messages up to its end and none after it, in order; what it writes leaves in order;
    and it hears of the end once.
    """
    head, _, life = data.partition(b"\n\n")
    path, *lines = head.split(b"\n")
    headers = [
        (name.strip().lower(), value.strip())
        for name, _, value in (line.partition(b":") for line in lines)
    ]
    client = Client(path, headers, life)
    LOOP.run_until_complete(client.run())
    client.check()


class Client:
    """A peer that follows a script, and the server's end of it."""

    def __init__(self, path: bytes, headers: list[tuple[bytes, bytes]], life: bytes) -> None:
        self.headers = dict(headers)
        self.scope: dict[str, Any] = {
            "path": path.decode("latin-1"),
            "scheme": "wss",
            "subprotocols": [v.decode("latin-1") for n, v in headers if n == b"subprotocol"],
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "extensions": {ABORT: self._abort, VOUCH: None, TLS_INFO: None},
        }
        self.life, self.at = life, 0
        self.connection = Connection()
        self.counted: list[tuple[str, str]] = []
        self.sent: list[dict[str, Any]] = []
        self.streamed = b""  # what was sent while the connection was open
        self.is_aborted = False
        self.is_connecting = False

    async def run(self) -> None:
        """One WebSocket, from its request to its end."""
        refusals = Refusals(self._count, SystemClock())
        application = MqttOverWebSocket(lambda: self.connection, refusals, LIMITS)
        await application(self.scope, self._receive, self._send)
        await asyncio.sleep(0)

    def _count(self, kind: str, reason: str) -> None:
        self.counted.append((kind, reason))

    def _abort(self) -> None:
        self.is_aborted = True

    async def _send(self, message: Any) -> None:
        if self.is_aborted:
            raise OSError
        if len(message.get("bytes", b"")) % 2:
            await asyncio.sleep(0)  # a reader that is slow now and then
        self.sent.append(message)

    async def _receive(self) -> dict[str, Any]:
        """The script's next message; what else happens until then is done on the way."""
        if not self.is_connecting:
            self.is_connecting = True
            return {"type": "websocket.connect"}
        while self.at < len(self.life) and not self.is_aborted:
            kind = self.life[self.at]
            self.at += 1
            match kind:
                case Step.TEXT:
                    return self._message(text="text")
                case Step.PAUSE:
                    self.connection.transport.pause_reading()
                    LOOP.call_soon(self.connection.transport.resume_reading)
                case Step.WRITE:
                    self.connection.write(bytes([self.at % 251]) * (self.at % 7))
                case Step.CLOSE:
                    self.connection.transport.close()
                case Step.ABORT:
                    self.connection.transport.abort()
                case length:
                    start, self.at = self.at, min(self.at + length, len(self.life))
                    return self._message(data=self.life[start : self.at])
            await asyncio.sleep(0)
        return {"type": "websocket.disconnect", "code": 1000}

    def _message(self, data: bytes | None = None, text: str | None = None) -> dict[str, Any]:
        if data is not None and not self.connection.transport.is_closing():
            self.streamed += data
        return {"type": "websocket.receive", "bytes": data, "text": text}

    def check(self) -> None:
        """What holds of every one."""
        first = self.sent[0]["type"]
        assert all(reason in ADVICE for _, reason in self.counted), self.counted
        if first != "websocket.accept":
            assert self.connection.lost is None, "refused, and yet there was a connection"
            assert self.sent[0]["status"] in (400, 403, 404)
            assert len(self.counted) == 1, "a refusal that is not counted once"
            return
        assert self.scope["path"].lower().rstrip("/") == PATH
        assert "mqtt" in self.scope["subprotocols"]
        if b"origin" in self.headers:
            origin = urlsplit(self.headers[b"origin"].decode())
            host = self.headers.get(b"host", b"").decode().lower().rpartition("@")[2]
            assert origin.hostname, "an origin without a host"
            assert origin.hostname in host, "another host's page"
        assert self.connection.lost == 1, "it heard of the end more or less than once"
        assert self.connection.heard == self.streamed, "bytes were lost, added or out of order"
        written = b"".join(m["bytes"] for m in self.sent if m["type"] == "websocket.send")
        assert self.connection.written.startswith(written), "written in another order"
        closes = [m["type"] for m in self.sent].count("websocket.close")
        assert closes <= 1
        if closes:
            assert written == self.connection.written, "closed before all was sent"
            assert self.sent[-1]["type"] == "websocket.close", "something came after the close"


class Connection(asyncio.Protocol):
    """The device connection's place: notes what it hears, and how it ends."""

    def __init__(self) -> None:
        self.heard = b""
        self.written = b""
        self.lost: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.lost = transport, 0

    def data_received(self, data: bytes) -> None:
        assert self.lost == 0, "bytes after the end"
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        assert self.lost is not None
        self.lost += 1

    def write(self, data: bytes) -> None:
        """Writes, where it may."""
        if not self.transport.is_closing():
            self.written += data
        self.transport.write(data)


def seeds() -> dict[str, bytes]:
    """Requests and lives."""
    head = PATH.encode() + b"\nsubprotocol: mqtt\nhost: hub.example"
    return {
        "sdk": head + b"\norigin: https://hub.example\n\n\x03abc\x00\x05defgh",
        "echo": head + b"\n\n\x02ab\xfd\xfd\xfd\x01c\xfd\xfd\xfe\x01d",
        "text": head + b"\n\n\x02ab\xfd\xfb\x02cd",
        "pause": head + b"\n\n\xfc\x02ab\xfc\x02cd\xfd\xff\x02ef",
        "abort": head + b"\n\n\xfd\xfd\xfd\xff\x01a",
        "cross-origin": head + b"\norigin: https://evil.example\n\n\x01a",
        "null-origin": head + b"\norigin: null\n\n\x01a",
        "port": head + b":8443\norigin: https://hub.example:8443\n\n\x01a",
        "bad-port": head + b":x\norigin: https://hub.example:99999\n\n\x01a",
        "ipv6": PATH.encode() + b"\nsubprotocol: mqtt\nhost: [::1]\norigin: https://[::1]\n\n",
        "path": b"/other\nsubprotocol: mqtt\n\n",
        "no-subprotocol": PATH.encode() + b"/\nsubprotocol: amqp\n\n",
    }
