"""What we count on in uvicorn's HTTP protocol class, which is its internal API; what we count on in
its WebSocket class is in the file beside this one.

A new uvicorn may come in when these pass. Real sockets, real TLS, both ways of flow control.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from http_service import MEGABYTE, App, Receive, Scope, Send, answer, serving, trust
from tls.certificates import device

from fleetroot.gateway.tls import HttpLimits, HttpServer, TlsInfo
from fleetroot.gateway.tls.http import TLS_INFO


def noting(scopes: list[Scope]) -> App:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await answer(send)

    return app


async def hello(scope: Scope, _receive: Receive, send: Send) -> None:
    await answer(send, scope["path"].encode())


async def test_several_requests_on_one_connection() -> None:
    async with serving(hello) as running, httpx.AsyncClient(verify=trust()) as client:
        for path in ("/one", "/two", "/three"):
            response = await client.get(running.url + path)
            assert response.text == path
            assert response.headers["date"].endswith("GMT")
            assert "server" not in response.headers
        assert running.listener.stats().completed == 1


async def test_scope_says_https_and_who_connects() -> None:
    scopes: list[Scope] = []
    async with serving(noting(scopes)) as running, httpx.AsyncClient(verify=trust()) as client:
        forged = {"x-forwarded-for": "203.0.113.1", "x-forwarded-proto": "http"}
        await client.get(running.url, headers=forged)
        (scope,) = scopes
        assert scope["scheme"] == "https"
        assert scope["client"][0] == "127.0.0.1"
        assert scope["server"] == ("127.0.0.1", running.listener.port)


async def test_application_sees_the_client_chain_in_the_tls_extension(tmp_path: Path) -> None:
    scopes: list[Scope] = []
    with_certificate = trust()
    with_certificate.load_cert_chain(*device().write(tmp_path))
    async with serving(noting(scopes)) as running:
        for context in (with_certificate, trust()):
            async with httpx.AsyncClient(verify=context) as client:
                await client.get(running.url)
    shown, none = (scope["extensions"]["tls"] for scope in scopes)
    pems = shown["client_cert_chain"]
    assert tuple(map(ssl.PEM_cert_to_DER_cert, pems)) == device().chain_der
    assert shown["client_cert_name"] == "CN=device-1"
    assert shown["client_cert_error"] == "not verified"
    assert shown["tls_version"] == 0x0304
    assert shown["cipher_suite"] in (0x1301, 0x1302, 0x1303)
    assert none["client_cert_chain"] == []
    assert none["client_cert_name"] is None
    assert none["client_cert_error"] is None
    info = scopes[0]["extensions"][TLS_INFO]
    assert isinstance(info, TlsInfo)
    assert info.peer_chain == device().chain_der
    assert info.alpn == "http/1.1"


async def test_client_whose_name_cannot_be_read_is_served_without_one(tmp_path: Path) -> None:
    scopes: list[Scope] = []
    named = device().certificate.public_bytes(Encoding.DER)
    bits = named.replace(b"\x0c\x08device-1", b"\x03\x08\0evice-1")
    context = trust()
    context.load_cert_chain(
        *replace(device(), certificate=x509.load_der_x509_certificate(bits)).write(tmp_path)
    )
    async with serving(noting(scopes)) as running, httpx.AsyncClient(verify=context) as client:
        await client.get(running.url)
    (scope,) = scopes
    assert scope["extensions"]["tls"]["client_cert_name"] is None
    assert len(scope["extensions"]["tls"]["client_cert_chain"]) == len(device().chain_der)


async def test_slow_application_holds_back_a_large_body() -> None:
    go_on, sizes = asyncio.Event(), []
    total = 32 * MEGABYTE
    sent = 0

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        while True:
            message = await receive()
            sizes.append(len(message["body"]))
            if not message["more_body"]:
                break
        await answer(send, str(sum(sizes)).encode())

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < total:
            yield bytes(MEGABYTE)
            sent += MEGABYTE

    async with serving(app) as running, httpx.AsyncClient(verify=trust(), timeout=30) as client:
        request = asyncio.create_task(client.post(running.url, content=body()))
        stuck_at = -1
        while sent != stuck_at or not sent:
            stuck_at = sent
            await asyncio.sleep(0.1)
        assert stuck_at < total
        go_on.set()
        assert (await request).text == str(total)
    assert max(sizes) < MEGABYTE


async def test_slow_reader_holds_back_a_large_response() -> None:
    total, sent = 32 * MEGABYTE, 0

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal sent
        length = (b"content-length", str(total).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        while sent < total:
            more = sent + 64 * 1024 < total
            await send({"type": "http.response.body", "body": bytes(64 * 1024), "more_body": more})
            sent += 64 * 1024

    async with (
        serving(app) as running,
        httpx.AsyncClient(verify=trust(), timeout=30) as client,
        client.stream("GET", running.url) as response,
    ):
        stuck_at = -1
        while sent != stuck_at or not sent:
            stuck_at = sent
            await asyncio.sleep(0.1)
        assert stuck_at < total
        received = 0
        async for piece in response.aiter_raw():
            received += len(piece)
        assert received == total


async def test_response_in_one_piece_may_be_larger_than_any_buffer() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, bytes(20 * MEGABYTE))

    async with serving(app) as running, httpx.AsyncClient(verify=trust(), timeout=30) as client:
        response = await client.get(running.url, headers={"connection": "close"})
        assert len(response.content) == 20 * MEGABYTE


class Recorder(asyncio.Transport):
    """A transport that keeps each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()


async def responding(app: App) -> list[bytes]:
    """What a server writes for one request, write by write."""
    http, transport = HttpServer(app), Recorder()  # type: ignore[arg-type]
    protocol = http.protocol_factory()
    protocol.connection_made(transport)
    protocol.data_received(b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    async with asyncio.timeout(5):
        await transport.closed.wait()
    protocol.connection_lost(None)
    return transport.writes


async def test_head_and_body_of_a_small_response_are_one_write() -> None:
    (write,) = await responding(hello)
    assert write.startswith(b"HTTP/1.1 200 OK\r\n")
    assert write.endswith(b"\r\n\r\n/x")


async def test_head_does_not_wait_for_a_body_that_takes_its_time() -> None:
    go_on = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"ok"})

    async with serving(app) as running:
        reader, writer = await running.dial()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            await reader.readuntil(b"\r\n\r\n")
            go_on.set()
            assert await reader.readexactly(2) == b"ok"


async def test_response_without_a_body_is_sent() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert b"".join(await responding(app)).startswith(b"HTTP/1.1 204 ")


async def test_client_that_leaves_in_the_middle_of_a_response_is_noticed() -> None:
    noticed = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        noticed.set()

    async with serving(app) as running:
        reader, writer = await running.dial()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"first")
        writer.transport.abort()
        async with asyncio.timeout(5):
            await noticed.wait()
        await running.no_connection()


async def test_early_answer_reaches_a_client_that_is_still_sending() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as running:
        reader, writer = await running.dial()
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\n")
        writer.write(bytes(4 * MEGABYTE))
        async with asyncio.timeout(5):
            assert b" 413 " in await reader.readline()


async def test_pipelined_requests_are_answered_in_order() -> None:
    running_now = 0

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal running_now
        running_now += 1
        assert running_now == 1
        await asyncio.sleep(0.01)
        running_now -= 1
        await answer(send, scope["path"].encode() + b"\n")

    async with serving(app) as running:
        reader, writer = await running.dial()
        paths = [b"/%d" % n for n in range(5)]
        writer.write(b"".join(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path for path in paths))
        async with asyncio.timeout(5):
            for path in paths:
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readline() == path + b"\n"


async def test_stopping_lets_a_running_request_finish() -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        entered.set()
        await go_on.wait()
        await answer(send, b"finished")

    async with serving(app) as running, httpx.AsyncClient(verify=trust()) as client:
        request = asyncio.create_task(client.get(running.url))
        await entered.wait()
        stopping = asyncio.create_task(running.http.stop(5.0))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await running.dial()
        go_on.set()
        response = await request
        assert response.text == "finished"
        assert response.headers["connection"] == "close"
        async with asyncio.timeout(3):
            await stopping
        assert running.listener.stats().connections == 0


async def test_stopping_closes_idle_connections() -> None:
    async with serving(hello) as running, httpx.AsyncClient(verify=trust()) as client:
        await client.get(running.url)
        async with asyncio.timeout(3):
            await running.http.stop(5.0)
        assert running.listener.stats().connections == 0


async def test_stopping_cuts_a_request_that_outlives_the_grace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entered = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        entered.set()
        await asyncio.Event().wait()

    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    async with serving(app) as running, httpx.AsyncClient(verify=trust()) as client:
        request = asyncio.create_task(client.get(running.url))
        await entered.wait()
        async with asyncio.timeout(3):
            await running.http.stop(0.05)
        with pytest.raises(httpx.TransportError):
            await request
        assert not running.http.state.tasks


@pytest.mark.parametrize("headers", [b"a: " + b"x" * 9000, b"a: x\r\n" * 1500], ids=["one", "many"])
async def test_head_that_is_too_large_gets_431(headers: bytes) -> None:
    async with serving(hello, HttpLimits(head_bytes=8000)) as running:
        reader, writer = await running.dial()
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n" + headers)
        async with asyncio.timeout(5):
            assert b" 431 " in await reader.readline()
        await running.no_connection()


async def test_large_body_does_not_count_as_head() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        await answer(send)

    limits = HttpLimits(head_bytes=2000)
    async with serving(app, limits) as running, httpx.AsyncClient(verify=trust()) as client:
        for _ in range(3):
            response = await client.post(running.url, content=bytes(100_000))
            assert response.status_code == 200


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"\r\n"])
async def test_head_that_does_not_come_ends_the_connection(said: bytes) -> None:
    async with serving(hello, HttpLimits(head_timeout=0.05)) as running:
        reader, writer = await running.dial()
        writer.write(said)
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_limit_on_the_head_is_not_one_on_waiting_for_the_next_request() -> None:
    async with serving(hello, HttpLimits(head_timeout=0.05)) as running:
        reader, writer = await running.dial()
        for path in (b"/one", b"/two"):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(5):
                await reader.readuntil(path)
            await asyncio.sleep(0.1)


async def test_idle_connection_ends_after_the_keep_alive_time() -> None:
    async with serving(hello, HttpLimits(keep_alive=0)) as running:
        reader, writer = await running.dial()
        writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.read()).endswith(b"/x")


async def test_plain_port_is_http_without_tls() -> None:
    scopes: list[Scope] = []
    http = HttpServer(noting(scopes))  # type: ignore[arg-type]
    port = await http.serve_plain("127.0.0.1", 0)
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/ocsp")).text == "ok"
        async with asyncio.timeout(3):
            await http.stop(5.0)
    assert scopes[0]["scheme"] == "http"
    assert "extensions" not in scopes[0]


async def test_connections_on_a_plain_port_are_capped() -> None:
    http = HttpServer(hello, HttpLimits(plain_connections=1))  # type: ignore[arg-type]
    port = await http.serve_plain("127.0.0.1", 0)
    _, first = await asyncio.open_connection("127.0.0.1", port)
    reader, _ = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):  # a RST is as good as a FIN
            assert await reader.read() == b""
    first.close()
    await http.stop(1.0)


def test_on_uvloop() -> None:
    async def scenario() -> None:
        async with serving(hello) as running, httpx.AsyncClient(verify=trust()) as client:
            assert (await client.get(running.url + "/uv")).text == "/uv"
            await running.http.stop(5.0)
            assert running.listener.stats().connections == 0

    uvloop.run(scenario())


async def test_logging_is_left_alone() -> None:
    async with serving(hello):
        assert not logging.getLogger("uvicorn").handlers
        assert not logging.getLogger("uvicorn.access").hasHandlers()
