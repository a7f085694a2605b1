"""Trace ids: every request has one, and every answer says it."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleetroot.gateway.refusals import new_trace_id

_STATE: Final = "trace_id"
_HEADER: Final = b"x-ms-request-id"


class Traced:
    """Gives each request its trace id, and the answer the header that Azure's clients log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace_id = scope.setdefault("state", {})[_STATE] = new_trace_id()

        async def traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (_HEADER, trace_id.encode())]
            await send(message)

        await self._app(scope, receive, traced)


def trace_id_of(scope: Scope) -> str:
    """The trace id of the request of that scope."""
    trace_id: str = scope["state"][_STATE]
    return trace_id


def peer_of(scope: Scope) -> str:
    """Who sent the request of that scope: host and port."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else "?"
