"""The transport that a WebSocket is made to look like, between an ASGI server and a protocol that
the test plays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fleetroot.gateway.tls.websocket import ABORT
from fleetroot.gateway.websocket import WebSocketLimits, WebSocketTransport


class Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.heard = asyncio.Semaphore(0)

    def _note(self, call: Any) -> None:
        self.calls.append(call)
        self.heard.release()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self._note(data)

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("lost")


class Server:
    """The ASGI server's side: what it was sent, and a gate that a slow reader keeps shut."""

    def __init__(self, limits: WebSocketLimits | None = None) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.asked = 0
        self.aborted = False
        self.protocol = Protocol()
        scope = {"client": ("192.0.2.1", 7), "extensions": {ABORT: self.abort}}
        self.transport = WebSocketTransport(
            scope, self.send, self.protocol, limits or WebSocketLimits()
        )
        self.running = asyncio.create_task(self.transport.run(self.receive))

    def message(self, data: bytes) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "bytes": data})

    def disconnect(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    def abort(self) -> None:
        self.aborted = True
        self.reads.set()
        self.disconnect()

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        return await self.incoming.get()

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if self.aborted:
            raise OSError
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

    async def over(self) -> int | None:
        async with asyncio.timeout(5):
            return await self.running


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_messages_are_delivered_and_the_peer_is_known() -> None:
    server = Server()
    server.message(b"one")
    server.message(b"two")
    server.disconnect()
    assert await server.over() is None
    assert server.protocol.calls == ["made", b"one", b"two", "lost"]
    assert server.transport.get_extra_info("peername") == ("192.0.2.1", 7)
    assert server.transport.get_extra_info("peer_chain") == ()


async def test_paused_reading_asks_for_no_further_message() -> None:
    server = Server()
    server.message(b"one")
    await turns()
    server.transport.pause_reading()
    server.message(b"two")  # for which it had asked already
    await turns()
    asked = server.asked
    server.message(b"three")
    await turns()
    assert (server.asked, server.protocol.calls[1:]) == (asked, [b"one", b"two"])
    assert not server.transport.is_reading()
    server.transport.resume_reading()
    await turns()
    assert server.protocol.calls[-1] == b"three"


async def test_what_is_written_meanwhile_becomes_one_message() -> None:
    server = Server()
    await turns()
    server.reads.clear()
    server.transport.write(b"a")
    await turns()
    server.transport.write(b"b")
    server.transport.write(b"c")
    assert server.transport.get_write_buffer_size() == 3
    server.reads.set()
    await turns()
    assert [message["bytes"] for message in server.sent] == [b"a", b"bc"]
    assert server.transport.get_write_buffer_size() == 0


async def test_slow_reader_pauses_the_writer_once_and_resumes_it_once() -> None:
    server = Server(WebSocketLimits(write_buffer_bytes=100))
    await turns()
    server.reads.clear()
    for _ in range(3):
        server.transport.write(bytes(60))
        await turns()
    assert server.protocol.calls == ["made", "pause"]
    server.reads.set()
    await turns()
    assert server.protocol.calls == ["made", "pause", "resume"]


async def test_close_sends_what_waits_and_then_a_close_frame() -> None:
    server = Server()
    await turns()
    server.transport.write(b"last")
    server.transport.close()
    assert server.transport.is_closing()
    server.transport.write(b"too late")
    server.message(b"not heard")
    assert await server.over() == 1000
    assert [message["type"] for message in server.sent] == ["websocket.send", "websocket.close"]
    assert server.protocol.calls == ["made", "lost"]


@pytest.mark.parametrize("end", [WebSocketTransport.close, WebSocketTransport.abort])
async def test_end_is_heard_by_a_connection_that_does_not_read(
    end: Callable[[WebSocketTransport], None],
) -> None:
    server = Server()
    await turns()
    server.transport.pause_reading()
    server.message(b"for which it had asked already")
    await turns()
    end(server.transport)
    await server.over()
    assert server.protocol.calls[-1] == "lost"


async def test_reader_that_does_not_take_the_rest_is_cut() -> None:
    server = Server(WebSocketLimits(close_seconds=0.05))
    await turns()
    server.reads.clear()
    server.transport.write(b"last")
    server.transport.close()
    await server.over()
    assert server.aborted
    assert server.sent == []


async def test_abort_drops_what_waits() -> None:
    server = Server()
    await turns()
    server.reads.clear()
    server.transport.write(b"last")
    server.transport.abort()
    await server.over()
    assert server.aborted
    assert server.sent == []
    assert server.protocol.calls[-1] == "lost"


async def test_text_closes_with_1003() -> None:
    server = Server()
    server.incoming.put_nowait({"type": "websocket.receive", "text": "x"})
    assert await server.over() == 1003
    assert server.protocol.calls == ["made", "lost"]


async def test_peer_that_vanishes_ends_a_connection_that_does_not_read() -> None:
    server = Server()
    await turns()
    server.transport.pause_reading()
    server.aborted = True  # every send fails
    server.transport.write(b"x")
    server.disconnect()
    await server.over()
    assert server.protocol.calls[-1] == "lost"


async def test_connection_is_lost_when_its_protocol_fails() -> None:
    server = Server()

    def fail(_: bytes) -> None:
        raise ZeroDivisionError

    server.protocol.data_received = fail  # type: ignore[method-assign]
    server.message(b"x")
    with pytest.raises(ZeroDivisionError):
        await server.over()
    assert server.protocol.calls[-1] == "lost"
