"""What stands on each HTTP port.

Devices and health are served as soon as a port is open. The APIs of operators and services are
imported and built when the first of them asks: that takes as long as the rest of a start together,
and a server that only devices use never pays for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from fleetroot.api import errors, pki_distribution, server
from fleetroot.api.description import operation_id
from fleetroot.api.device_messages import DeviceMessages, parse_message_path
from fleetroot.api.device_registrations import DeviceRegistrations, parse_path
from fleetroot.api.services import Services
from fleetroot.api.tracing import Traced
from fleetroot.gateway.refusals import Refusals

_HEALTH = "/healthz"


class DevicePort:
    """The HTTPS port: devices first, by a way of their own; everybody else behind them."""

    def __init__(
        self,
        registrations: DeviceRegistrations,
        messages: DeviceMessages,
        websockets: ASGIApp,
        others: ASGIApp,
    ) -> None:
        self._registrations = registrations
        self._messages = messages
        self._websockets = websockets
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websockets(scope, receive, send)
        elif (path := parse_path(scope["raw_path"])) is not None:
            await self._registrations.answer(path, scope, receive, send)
        elif (call := parse_message_path(scope["method"], scope["raw_path"])) is not None:
            await self._messages.answer(call, scope, receive, send)
        else:
            await self._others(scope, receive, send)


class OperatorPort:
    """Health at once; all else by an application that is built when it is first asked, in a
    thread, so that nobody's connection waits for it.
    """

    def __init__(self, health: ASGIApp, build: Callable[[], ASGIApp]) -> None:
        self._health = health
        self._build = build
        self._built: ASGIApp | None = None
        self._building = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == _HEALTH:
            await self._health(scope, receive, send)
            return
        await (self._built or await self._first())(scope, receive, send)

    async def _first(self) -> ASGIApp:
        async with self._building:
            if self._built is None:
                self._built = await asyncio.to_thread(self._build)
            return self._built


def https_port(
    services: Services,
    refusals: Refusals,
    max_body_bytes: int,
    metrics: CollectorRegistry,
) -> OperatorPort:
    """What operators and services find on the HTTPS port."""

    def build() -> ASGIApp:
        from fleetroot.api.applications import https_application  # noqa: PLC0415

        return https_application(services, refusals, max_body_bytes, metrics)

    return OperatorPort(health_application(services, refusals, max_body_bytes), build)


def console_port(services: Services, refusals: Refusals, max_body_bytes: int) -> OperatorPort:
    """What operators find on the console port."""

    def build() -> ASGIApp:
        from fleetroot.api.applications import console_application  # noqa: PLC0415

        return console_application(services, refusals, max_body_bytes)

    return OperatorPort(health_application(services, refusals, max_body_bytes), build)


def http_application(services: Services, refusals: Refusals, max_body_bytes: int) -> FastAPI:
    """The plain port: what is public and carries its own protection."""
    app = application(services, refusals, max_body_bytes)
    app.include_router(pki_distribution.router)
    return app


def health_application(services: Services, refusals: Refusals, max_body_bytes: int) -> FastAPI:
    """Whether the server is ready."""
    app = application(services, refusals, max_body_bytes)
    app.include_router(server.health)
    return app


def application(services: Services, refusals: Refusals, max_body_bytes: int) -> FastAPI:
    """An application without routes: how bodies are bounded, requests traced, errors answered."""
    app = FastAPI(
        title="Fleetroot",
        version=services.version,
        openapi_url=None,  # FastAPI's own is for everybody; `server.openapi` is not
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    app.state.services = services
    app.state.refusals = refusals
    errors.install(app, refusals, services.clock)
    app.add_middleware(
        errors.BodyLimit, limit=max_body_bytes, refusals=refusals, clock=services.clock
    )
    app.add_middleware(Traced)
    return app
