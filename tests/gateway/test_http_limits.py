"""What never becomes a request: it is answered or cut, and each is told to the operator."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tls.certificates import server, server_ca

from fleetroot.gateway.tls import HttpLimits, HttpServer, TlsListener, make_context

LIMITS = HttpLimits(head_bytes=4096, head_timeout=0.2, body_timeout=0.2)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def read_all(
    _scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.request":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


@asynccontextmanager
async def dialled(refused: list[str]) -> AsyncIterator[Streams]:
    """A connection to a server, which puts down what it refuses."""
    http = HttpServer(read_all, LIMITS, lambda reason, _: refused.append(reason))  # type: ignore[arg-type]
    listener = TlsListener(
        "127.0.0.1",
        0,
        http.protocol_factory,
        make_context(server().identity(), request_client_certificate=False),
        on_refused=lambda _: None,
    )
    await http.serve_tls(listener)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(server_ca().chain_der[0]))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listener.port, ssl=trust, server_hostname="localhost"
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        await http.stop(1.0)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\x00garbage\r\n\r\n", "not HTTP"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"x" * 5000, "head too large"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n", "head too slow"),
        (b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx", "body too slow"),
    ],
)
async def test_what_is_no_request_is_cut_and_told_once(said: bytes, reason: str) -> None:
    refused: list[str] = []
    async with dialled(refused) as (reader, writer):
        writer.write(said)
        async with asyncio.timeout(5):
            await reader.read()
    assert refused == [reason]


async def test_connection_that_asks_nothing_is_told() -> None:
    refused: list[str] = []
    async with dialled(refused) as (_, writer):
        writer.close()
        await writer.wait_closed()
    assert refused == ["gone without a request"]


async def test_request_in_time_is_told_nobody() -> None:
    refused: list[str] = []
    async with dialled(refused) as (reader, writer):
        for _ in range(2):
            writer.write(b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nx")
            writer.write(b"y")
            async with asyncio.timeout(5):
                assert b" 204 " in await reader.readline()
                await reader.readuntil(b"\r\n\r\n")
    assert refused == []
