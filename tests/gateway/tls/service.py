"""A running TLS listener whose application records what it is told, and a client for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from fleetroot.gateway.tls import Refusal, TlsInfo, TlsListener

from .certificates import Credential, server_ca


class Recorder(asyncio.Protocol):
    """Echoes, and notes every call of its transport."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.calls: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.echo = True
        self.keep_open_at_eof = False
        self.eof = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.tls: TlsInfo = transport.get_extra_info("tls")

    def data_received(self, data: bytes) -> None:
        assert not self.lost.done()
        self.received += data
        if self.echo:
            self.transport.write(data)

    def eof_received(self) -> bool:
        self.eof.set()
        return self.keep_open_at_eof

    def pause_writing(self) -> None:
        self.calls.append("pause_writing")
        self.writable.clear()

    def resume_writing(self) -> None:
        self.calls.append("resume_writing")
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)  # a second call would raise


@dataclass
class Service:
    """A running listener and what became of its connections."""

    listener: TlsListener
    connections: asyncio.Queue[Recorder]
    refusals: asyncio.Queue[Refusal] = field(default_factory=asyncio.Queue)

    @property
    def port(self) -> int:
        return self.listener.port

    async def connection(self) -> Recorder:
        async with asyncio.timeout(5):
            return await self.connections.get()

    async def refusal(self) -> Refusal:
        async with asyncio.timeout(5):
            return await self.refusals.get()


Serve = Callable[..., Awaitable[Service]]


def client_context(
    tmp_path: Path,
    credential: Credential | None = None,
    version: ssl.TLSVersion | None = None,
) -> ssl.SSLContext:
    """The standard library's client, trusting the server's CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    (certificate,) = server_ca().chain_der
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(certificate))
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    if version:
        context.minimum_version = context.maximum_version = version
    if credential:
        context.load_cert_chain(*credential.write(tmp_path))
    return context


async def connect(
    service: Service, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        "127.0.0.1", service.port, ssl=context, server_hostname="localhost"
    )
