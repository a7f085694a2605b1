"""Every test here runs on asyncio's own event loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest_asyncio
import uvloop

from fleetroot.gateway.tls import Refusal, TlsLimits, TlsListener, make_context

from .certificates import Credential, server
from .service import Recorder, Serve, Service


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    running: list[TlsListener] = []

    async def start(
        limits: TlsLimits | None = None,
        *,
        credential: Credential | None = None,
        alpn: tuple[str, ...] = (),
        request_client_certificate: bool = True,
        **options: object,
    ) -> Service:
        connections: asyncio.Queue[Recorder] = asyncio.Queue()
        refusals: asyncio.Queue[Refusal] = asyncio.Queue()

        def make() -> Recorder:
            recorder = Recorder()
            connections.put_nowait(recorder)
            return recorder

        context = make_context(
            (credential or server()).identity(),
            request_client_certificate=request_client_certificate,
            alpn=alpn,
        )
        listener = TlsListener(
            "127.0.0.1", 0, make, context, limits, on_refused=refusals.put_nowait, **options
        )
        await listener.start()
        running.append(listener)
        return Service(listener, connections, refusals)

    yield start
    for listener in running:
        await listener.stop(0.0)
