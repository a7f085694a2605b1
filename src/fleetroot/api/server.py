"""What the server tells of itself: its health, its metrics, and the description of its APIs."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from fleetroot.api.access import AuthenticatedRoute, ReaderOrLoopback
from fleetroot.api.answers import Answer
from fleetroot.api.description import BEARER, answers, document, with_refusals
from fleetroot.api.services import services_of

health = APIRouter()
metrics = APIRouter()
description = APIRouter(route_class=AuthenticatedRoute)


class Health(Answer):
    """The server can answer."""

    status: Literal["ready"]


class MetricsResponse(Response):
    """Metrics in Prometheus's text format."""

    media_type = CONTENT_TYPE_LATEST


@health.get("/healthz", responses=with_refusals(answers(400, 413, 503)))
async def healthz(request: Request) -> Health:
    """Answers 200 when the server is ready, and 503 when its database is not."""
    await services_of(request).registry.ping()
    return Health(status="ready")


@metrics.get(
    "/metrics",
    response_class=MetricsResponse,
    responses=with_refusals(answers(400, 401, 403, 413, 503)),
    openapi_extra={"security": [{}, {BEARER: []}]},
)
async def read_metrics(request: Request, _: ReaderOrLoopback) -> MetricsResponse:
    """Metrics in Prometheus's text format; without a token from this machine only."""
    return MetricsResponse(generate_latest(request.app.state.metrics))


@description.get("/openapi.json", response_model=dict[str, Any])
async def openapi(request: Request) -> Response:
    """Tells what may be asked here: for whoever has a good token, of whatever role. There is no
    secret in it.
    """
    state = request.app.state
    if state.document is None:
        # Some hundred milliseconds, for which connections would wait.
        state.document = orjson.dumps(await asyncio.to_thread(document, request.app))
    return Response(state.document, media_type=JSONResponse.media_type)
