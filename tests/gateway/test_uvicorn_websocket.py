"""What we count on in uvicorn's WebSocket class, and in the sans-I/O core of `websockets` under it.

A new version of either may come in when these pass. Real sockets, real TLS; the client is the
`websockets` library's own, and for what a client must not do, frames by hand.
"""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any

import pytest
import uvloop
from http_service import MEGABYTE, Receive, Running, Scope, Send, answer, serving, trust
from tls.certificates import device
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fleetroot.gateway.tls import HttpLimits, TlsInfo
from fleetroot.gateway.tls.http import TLS_INFO
from fleetroot.gateway.tls.websocket import ABORT

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
)
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await answer(send, b"http")
        return
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "mqtt"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


def talk(running: Running, **options: Any) -> connect:
    options = {"ssl": trust(), "subprotocols": ["mqtt"], "max_size": None} | options
    return connect(f"wss://localhost:{running.listener.port}/ws", **options)


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """A client's frame (RFC 6455 §5.2), masked with zeros."""
    head = bytes([opcode | (0x80 if final else 0)])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    else:
        head += b"\xff" + struct.pack(">Q", len(payload))
    return head + bytes(4) + payload


async def upgraded(running: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection by hand, behind the handshake."""
    reader, writer = await running.dial()
    writer.write(UPGRADE + b"\r\n")
    async with asyncio.timeout(5):
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The opcode and payload of the server's next frame."""
    async with asyncio.timeout(5):
        first, length = await reader.readexactly(2)
        if length == 126:
            (length,) = struct.unpack(">H", await reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await reader.readexactly(8))
        return first & 0x0F, await reader.readexactly(length)


async def close_code(reader: asyncio.StreamReader) -> int:
    """The code of the close frame that comes, behind whatever else."""
    while True:
        opcode, payload = await read_frame(reader)
        if opcode == CLOSE:
            return int.from_bytes(payload[:2])


async def code_that_closes(websocket: ClientConnection) -> int | None:
    async with asyncio.timeout(5):
        await websocket.wait_closed()
    return websocket.close_code


# --- the handshake


async def test_messages_go_both_ways_after_the_subprotocol_is_agreed_on() -> None:
    async with serving(echo) as running, talk(running) as websocket:
        assert websocket.subprotocol == "mqtt"
        for message in (b"one", b"", b"x" * 70_000):
            await websocket.send(message)
            assert await websocket.recv() == message


async def test_connection_that_was_kept_alive_may_become_a_websocket() -> None:
    async with serving(echo) as running:
        reader, writer = await running.dial()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            await reader.readuntil(b"http")
            writer.write(UPGRADE + b"\r\n")
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(BINARY, b"hello"))
        assert await read_frame(reader) == (BINARY, b"hello")


async def test_compression_is_not_agreed_on() -> None:
    async with serving(echo) as running, talk(running, compression="deflate") as websocket:
        assert websocket.protocol.extensions == []


async def test_scope_has_the_clients_chain_and_what_was_offered(tmp_path: Path) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    context = trust()
    context.load_cert_chain(*device().write(tmp_path))
    offered = ["other", "mqtt"]
    async with (
        serving(app) as running,
        talk(running, ssl=context, subprotocols=offered, origin="https://x"),
    ):
        pass
    (scope,) = scopes
    assert (scope["scheme"], scope["path"]) == ("wss", "/ws")
    assert scope["subprotocols"] == offered
    assert dict(scope["headers"])[b"origin"] == b"https://x"
    assert scope["client"][0] == "127.0.0.1"
    assert scope["extensions"]["tls"]["client_cert_name"] == "CN=device-1"
    assert scope["extensions"]["tls"]["client_cert_error"] == "not verified"
    info = scope["extensions"][TLS_INFO]
    assert isinstance(info, TlsInfo)
    assert info.peer_chain == device().chain_der


async def test_application_can_refuse_with_an_http_status() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 404, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})

    async with serving(app) as running:
        with pytest.raises(InvalidStatus) as refused:
            await talk(running)
        assert refused.value.response.status_code == 404
        await running.no_connection()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (UPGRADE.replace(b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n", b""), 400),
        (UPGRADE.replace(b"Version: 13", b"Version: 8"), 400),
        (UPGRADE + b"a: x\r\n" * 200, 431),
        (UPGRADE + b"a: " + b"x" * 9000 + b"\r\n", 431),
        (UPGRADE.replace(b"/ws", b"/" + b"x" * 9000), 414),
    ],
    ids=["no key", "old version", "many headers", "long header", "long path"],
)
async def test_bad_handshake_is_answered_and_closed(head: bytes, status: int) -> None:
    async with serving(echo) as running:
        reader, writer = await running.dial()
        writer.write(head + b"\r\n")
        async with asyncio.timeout(5):
            assert b" %d " % status in await reader.readline()
            await reader.read()
        await running.no_connection()


@pytest.mark.parametrize(
    "head", [UPGRADE.replace(b"GET", b"POST"), UPGRADE + b"Content-Length: 5\r\n"]
)
async def test_what_cannot_be_a_handshake_ends_the_connection(head: bytes) -> None:
    async with serving(echo) as running:
        reader, writer = await running.dial()
        writer.write(head + b"\r\n")
        async with asyncio.timeout(5):
            assert b" 101 " not in await reader.read()
        await running.no_connection()


# --- flow


async def test_slow_application_holds_back_the_client() -> None:
    go_on, received = asyncio.Event(), 0
    total, sent = 32 * MEGABYTE, 0

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal received
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"go"})
        await go_on.wait()
        while received < total:
            received += len((await receive())["bytes"])
        await send({"type": "websocket.send", "bytes": b"all"})

    async def flood(websocket: ClientConnection) -> None:
        nonlocal sent
        while sent < total:
            await websocket.send(bytes(64 * 1024))
            sent += 64 * 1024

    async with serving(app) as running, talk(running, subprotocols=None) as websocket:
        assert await websocket.recv() == b"go"
        flooding = asyncio.create_task(flood(websocket))
        stuck_at = -1
        while sent != stuck_at or not sent:
            stuck_at = sent
            await asyncio.sleep(0.1)
        assert stuck_at < total
        go_on.set()
        await flooding
        assert await websocket.recv() == b"all"


async def test_slow_reader_holds_back_the_application() -> None:
    total, sent = 32 * MEGABYTE, 0

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        while sent < total:
            await send({"type": "websocket.send", "bytes": bytes(64 * 1024)})
            sent += 64 * 1024

    async with serving(app) as running:
        reader, _ = await upgraded(running)
        stuck_at = -1
        while sent != stuck_at or not sent:
            stuck_at = sent
            await asyncio.sleep(0.1)
        assert stuck_at < total
        got = 0
        while got < total:
            got += len((await read_frame(reader))[1])


async def test_message_may_come_in_frames_and_frames_in_pieces() -> None:
    async with serving(echo) as running:
        reader, writer = await upgraded(running)
        data = frame(BINARY, b"ab", final=False) + frame(PING) + frame(CONTINUATION, b"cd")
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
        assert await read_frame(reader) == (PONG, b"")
        assert await read_frame(reader) == (BINARY, b"abcd")


async def test_ping_is_answered_and_a_pong_that_nobody_asked_for_is_not() -> None:
    async with serving(echo) as running:
        reader, writer = await upgraded(running)
        writer.write(frame(PONG, b"?") + frame(PING, b"are you there"))
        assert await read_frame(reader) == (PONG, b"are you there")


# --- bounds


async def test_message_is_bounded_by_its_announced_length() -> None:
    async with serving(echo, HttpLimits(message_bytes=1000)) as running:
        reader, writer = await upgraded(running)
        writer.write(frame(BINARY, bytes(1000)))
        assert await read_frame(reader) == (BINARY, bytes(1000))
        writer.write(frame(BINARY, bytes(1001))[:14])  # and not a byte of it
        assert await close_code(reader) == 1009
        await running.no_connection()


async def test_message_in_many_frames_is_bounded_in_all() -> None:
    async with serving(echo, HttpLimits(message_bytes=1000)) as running:
        reader, writer = await upgraded(running)
        writer.write(frame(BINARY, bytes(600), final=False) + frame(CONTINUATION, bytes(600)))
        assert await close_code(reader) == 1009


async def test_frames_of_a_message_are_bounded_in_number() -> None:
    async with serving(echo) as running:
        reader, writer = await upgraded(running)
        writer.write(frame(BINARY, final=False) + frame(CONTINUATION, final=False) * 2000)
        assert await close_code(reader) == 1008
        await running.no_connection()


async def test_stranger_may_send_little_before_the_first_answer() -> None:
    async def silent(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass

    async with serving(silent, HttpLimits(stranger_bytes=5000)) as running:
        reader, writer = await upgraded(running)
        writer.write(frame(BINARY, bytes(1000)) * 5)
        assert await close_code(reader) == 1009
        await running.no_connection()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"x").replace(b"\x81", b"\x01", 1), 1002),  # not masked
        (frame(3, b"x"), 1002),
        (frame(BINARY | 0x40, b"x"), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(PING, bytes(200)), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(TEXT, b"\xff\xff"), 1007),
    ],
    ids=[
        "mask",
        "opcode",
        "reserved bit",
        "continues nothing",
        "long ping",
        "short close",
        "UTF-8",
    ],
)
async def test_broken_frame_closes_with_its_code(data: bytes, code: int) -> None:
    async with serving(echo) as running:
        reader, writer = await upgraded(running)
        writer.write(data)
        assert await close_code(reader) == code
        await running.no_connection()


# --- the end


@pytest.mark.parametrize("code", [1000, 1001, 3999])
async def test_clients_close_is_answered_and_told_to_the_application(code: int) -> None:
    told: asyncio.Queue[Any] = asyncio.Queue()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        told.put_nowait(await receive())

    async with serving(app) as running:
        reader, writer = await upgraded(running)
        writer.write(frame(CLOSE, code.to_bytes(2)))
        assert await close_code(reader) == code
        async with asyncio.timeout(5):
            message = await told.get()
        assert (message["type"], message["code"]) == ("websocket.disconnect", code)
        await running.no_connection()


async def test_applications_close_reaches_the_client_behind_what_was_sent() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"last"})
        await send({"type": "websocket.close", "code": 4001})

    async with serving(app) as running, talk(running, subprotocols=None) as websocket:
        assert await websocket.recv() == b"last"
        assert await code_that_closes(websocket) == 4001
        await running.no_connection()


async def test_client_that_does_not_answer_a_close_is_not_waited_for() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})

    async with serving(app, HttpLimits(close_timeout=0.05)) as running:
        reader, _ = await upgraded(running)
        assert await close_code(reader) == 1000
        await running.no_connection()


async def test_client_that_vanishes_is_noticed() -> None:
    noticed = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await echo(scope, receive, send)
        noticed.set()

    async with serving(app) as running:
        _, writer = await upgraded(running)
        writer.transport.abort()
        async with asyncio.timeout(5):
            await noticed.wait()
        await running.no_connection()


async def test_application_can_drop_the_connection_while_its_client_reads_nothing() -> None:
    dropped = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        asyncio.get_running_loop().call_later(0.1, scope["extensions"][ABORT])
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(64 * 1024)})
        except OSError:
            dropped.set()

    async with serving(app) as running:
        await upgraded(running)
        async with asyncio.timeout(5):
            await dropped.wait()
        await running.no_connection()


async def test_sending_after_the_end_is_an_os_error() -> None:
    ended = asyncio.Semaphore(0)

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        try:
            await send({"type": "websocket.send", "bytes": b"x"})
        except OSError:
            ended.release()

    async with serving(app) as running:
        for data in (frame(CLOSE, b"\x03\xe8"), frame(3, b"")):
            _, writer = await upgraded(running)
            writer.write(data)
            async with asyncio.timeout(5):
                await ended.acquire()


async def test_stopping_leaves_the_end_to_the_application_within_the_grace() -> None:
    go_on, entered = asyncio.Event(), asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        entered.set()
        await go_on.wait()
        await send({"type": "websocket.send", "bytes": b"last words"})
        await send({"type": "websocket.close", "code": 1001})

    async with serving(app) as running, talk(running, subprotocols=None) as websocket:
        await entered.wait()
        stopping = asyncio.create_task(running.http.stop(5.0))
        await asyncio.sleep(0)
        go_on.set()
        assert await websocket.recv() == b"last words"
        assert await code_that_closes(websocket) == 1001
        async with asyncio.timeout(5):
            await stopping


async def test_stopping_cuts_what_outlives_the_grace() -> None:
    async with serving(echo) as running, talk(running) as websocket:
        async with asyncio.timeout(5):
            await running.http.stop(0.05)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert running.listener.stats().connections == 0


def test_on_uvloop() -> None:
    async def scenario() -> None:
        async with serving(echo) as running, talk(running) as websocket:
            await websocket.send(b"uv")
            assert await websocket.recv() == b"uv"

    uvloop.run(scenario())
