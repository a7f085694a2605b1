"""Errors over HTTP: the one place where a domain error becomes a response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleetroot.api import hub_errors
from fleetroot.api.arm import errors as arm
from fleetroot.api.tracing import peer_of, trace_id_of
from fleetroot.clock import Clock
from fleetroot.errors import (
    ErrorCode,
    FleetrootError,
    InvalidArgument,
    MalformedJson,
    TooLarge,
    error_of_code,
)
from fleetroot.gateway.error_bodies import error_body
from fleetroot.gateway.refusals import Refusals

_log = structlog.get_logger("fleetroot.api")
_CODES = {
    401: ErrorCode.UNAUTHORIZED,
    404: ErrorCode.NOT_FOUND,
    413: ErrorCode.TOO_LARGE,
    429: ErrorCode.THROTTLED,
}
# Callers who are nobody, and paths that are nothing: what scanners make. An operator who asks for
# what is gone, or says something wrong, is not one.
_CHARGED = {ErrorCode.UNAUTHORIZED, ErrorCode.TOKEN_INVALID}


def install(app: FastAPI, refusals: Refusals, clock: Clock) -> None:
    """Makes every error of `app` an answer with the documented body."""

    def answer(
        request: Request,
        error: FleetrootError,
        status: int | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Response:
        trace_id = refusals.add(
            "http",
            f"{error.reason}: {request.url.path}",
            label=error.code.name,
            peer=peer_of(request.scope),
            trace_id=trace_id_of(request.scope),
            charge=error.code in _CHARGED,
            actor=getattr(request.state, "actor", None),
        )
        headers = {"x-ms-error-code": str(error.code.value), **(more or {})}
        if error.retry_after is not None:
            headers["retry-after"] = str(error.retry_after)
        if error.code.status == 401:
            headers["www-authenticate"] = "Bearer"
            headers["connection"] = "close"  # who guesses pays for a handshake each time
        if hub_errors.is_hub(request.url.path):
            headers[hub_errors.ERROR_CODE] = hub_errors.error_name(error)
        return Response(
            _body(error, request.url.path, clock, trace_id),
            status or error.code.status,
            headers,
            media_type="application/json",
        )

    async def domain(request: Request, error: Exception) -> Response:
        assert isinstance(error, FleetrootError)  # noqa: S101
        return answer(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        first: dict[str, Any] = dict(error.errors()[0])
        if first.get("type") == "json_invalid" and arm.is_arm(request.url.path):
            return answer(request, MalformedJson("the body is not JSON"))
        where = ".".join(str(part) for part in first.get("loc", ())[1:]) or "body"
        return answer(request, InvalidArgument(f"{where}: {first.get('msg', 'is not valid')}"))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        code = _CODES.get(error.status_code, ErrorCode.INVALID_ARGUMENT)
        headers = error.headers
        if error.status_code == 405:
            headers = {"allow": ", ".join(sorted(_methods(request)))}
        return answer(request, error_of_code(code, str(error.detail)), error.status_code, headers)

    async def unexpected(request: Request, error: Exception) -> Response:
        _log.error("unexpected failure", path=request.url.path, exc_info=error)
        return answer(request, FleetrootError("the server failed"))

    app.add_exception_handler(FleetrootError, domain)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)


def _body(error: FleetrootError, path: str, clock: Clock, trace_id: str) -> bytes:
    """In the shape that callers of the path expect."""
    if arm.is_arm(path):
        return arm.arm_error_body(error)
    if hub_errors.is_hub(path):
        return hub_errors.hub_error_body(error, path, clock.now(), trace_id)
    return error_body(error, clock.now(), trace_id)


def _methods(request: Request) -> set[str]:
    """Those of the resource (RFC 9110 §15.5.6); the router knows those of a route."""
    return {
        method
        for context in iter_route_contexts(request.app.routes)
        if context.original_route.matches(request.scope)[0] is not Match.NONE
        for method in context.methods or ()
    }


class BodyLimit:
    """Ends a request whose body is over its limit, before it is in memory."""

    def __init__(self, app: ASGIApp, limit: int, refusals: Refusals, clock: Clock) -> None:
        self._app = app
        self._limit = limit
        self._refusals = refusals
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or len(declared) > 12 or int(declared) > self._limit:
            await self._refuse(scope, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                # FastAPI takes any other exception for a body that cannot be parsed.
                raise HTTPException(413, f"a body is at most {self._limit} bytes")
            return message

        await self._app(scope, bounded, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        error = TooLarge(f"a body is at most {self._limit} bytes")
        trace_id = trace_id_of(scope)
        self._refusals.add(
            "http", error, label=error.code.name, peer=peer_of(scope), trace_id=trace_id
        )
        body = _body(error, scope["path"], self._clock, trace_id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
