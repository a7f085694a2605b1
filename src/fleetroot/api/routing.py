"""How routes that need authority are found, and what is asked before they run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import Match
from starlette.types import Scope

from fleetroot.api.description import BEARER, ErrorBody, answers, with_refusals


class _JsonRequest(Request):
    """A request whose JSON has no half of a surrogate pair (RFC 8259 §8.2)."""

    async def json(self) -> Any:
        body = await self.body()
        if b"\\ud" in body.lower():
            orjson.loads(body)  # strict; the other gives integers of any size
        return await super().json()


class AuthorizedRoute(APIRoute):
    """A route that asks `authorize` before the request's body is read, let alone parsed.

    FastAPI's dependencies come too late for that. The path matches in any case and with a slash
    behind it, as service SDKs send it; what its parameters hold keeps its spelling. The route
    itself describes those names in its path that the endpoint does not take.

    Attributes:
        error_body: what its errors are answered with.
        schemes: the credentials that it takes, by their names in the OpenAPI document.
    """

    error_body: ClassVar[type[BaseModel]] = ErrorBody
    schemes: ClassVar[tuple[str, ...]] = (BEARER,)

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        refused = (400, 401, 403, 413, 503, *((404,) if "{" in path else ()))
        described = answers(*refused) | (more.pop("responses", None) or {})
        extra = dict(more.pop("openapi_extra", None) or {})
        extra["security"] = [{scheme: []} for scheme in self.schemes]
        extra["parameters"] = [*_names_above(path, endpoint), *extra.get("parameters", ())]
        super().__init__(
            path,
            endpoint,
            responses=with_refusals(described, self.error_body),
            openapi_extra=extra,
            **more,
        )

    async def authorize(self, request: Request) -> None:
        """Lets the caller pass. A kind of route that does not say who may pass lets nobody.

        Raises:
            Unauthorized, Forbidden: the caller may not ask this.
        """
        raise NotImplementedError

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def authorized(request: Request) -> Response:
            await self.authorize(request)
            return await handle(_JsonRequest(request.scope, request.receive))

        return authorized

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        pattern = self.path_regex.pattern.removesuffix("$") + "/?"
        found = re.fullmatch(pattern, scope["path"], re.IGNORECASE | re.ASCII)
        if found is None:
            return Match.NONE, {}
        return super().matches({**scope, "path": self.path_format.format(**found.groupdict())})


def _names_above(path: str, endpoint: Callable[..., Any]) -> list[dict[str, Any]]:
    taken = inspect.signature(endpoint).parameters
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
        if name not in taken
    ]
