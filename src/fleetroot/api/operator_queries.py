"""Queries over the operator API: of the hub that the path names."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from fleetroot.access import Permission
from fleetroot.api.access import needs
from fleetroot.api.description import answers
from fleetroot.api.hub_queries import PAGED, Continuation, ItemCount, QueryBody, answered
from fleetroot.api.service_routes import HubRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.hub.queries import MAX_PAGE

router = APIRouter(prefix="/fleetroot/hubs/{hub}/query", route_class=HubRoute)


@router.post("", response_model=None, responses=PAGED | answers(429, 504))
@needs(Permission.READ)
async def query(
    request: Request,
    body: QueryBody,
    size: ItemCount = MAX_PAGE,
    continuation: Continuation = None,
) -> Response:
    """Finds devices; a page may be shorter than asked, and even empty, with more behind it."""
    services = services_of(request)
    hub = await services.hubs.by_name(described_of(request).owner.name)
    return answered(
        await services.hubs.queries.page(hub, body.query, limit=size, token=continuation)
    )
