"""A running HTTP server on our TLS listener, for whatever ASGI application a test brings."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tls.certificates import server, server_ca

from fleetroot.gateway.tls import HttpLimits, HttpServer, TlsListener, make_context

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MEGABYTE = 1024 * 1024


async def answer(send: Send, body: bytes = b"ok") -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Running:
    http: HttpServer
    listener: TlsListener

    @property
    def url(self) -> str:
        return f"https://localhost:{self.listener.port}"

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.listener.port, ssl=trust(), server_hostname="localhost"
        )

    async def no_connection(self) -> None:
        async with asyncio.timeout(5):
            await self.http.all_lost.wait()


@contextlib.asynccontextmanager
async def serving(app: App, limits: HttpLimits | None = None) -> AsyncIterator[Running]:
    http = HttpServer(app, limits)  # type: ignore[arg-type]
    context = make_context(server().identity(), request_client_certificate=True, alpn=("http/1.1",))
    listener = TlsListener(
        "127.0.0.1", 0, http.protocol_factory, context, on_refused=lambda _: None
    )
    await http.serve_tls(listener)
    try:
        yield Running(http, listener)
    finally:
        await http.stop(0.0)


def trust() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(server_ca().chain_der[0]))
    return context
