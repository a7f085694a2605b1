"""Hubs over the operator API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from fleetroot.access import Permission
from fleetroot.api.access import EverywhereRoute, actor_of, needs
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.service_routes import HubRoute
from fleetroot.api.services import services_of
from fleetroot.clock import iso8601
from fleetroot.hub.administration import DescribedHub
from fleetroot.registry.service_resources import Description

_PREFIX = "/fleetroot/hubs"
everywhere = APIRouter(prefix=_PREFIX, route_class=EverywhereRoute)
router = APIRouter(prefix=_PREFIX + "/{hub}", route_class=HubRoute)

_Name = Annotated[str, Field(max_length=64)]
_HostName = Annotated[str, Field(min_length=1, max_length=253)]
_Tags = Annotated[dict[str, str], Field(max_length=50)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class HubBody(_Body):
    """A hub to make; without a host name it gets one under the server's domain."""

    namespace: _Name = "default"
    host_name: _HostName | None = None
    tags: _Tags = {}


class TagsBody(_Body):
    """What may be changed of a hub."""

    tags: _Tags


class LinkBody(_Body):
    """The namespace that a hub is to belong to."""

    namespace: _Name


class Hub(BaseModel):
    """A hub, as it is shown."""

    model_config = ConfigDict(populate_by_name=True, alias_generator=to_camel)

    name: str
    host_name: str
    namespace: str
    location: str
    tags: dict[str, str]
    etag: str
    created_at: str
    updated_at: str


class HubPage(BaseModel):
    """Hubs: all of them."""

    value: list[Hub]


@everywhere.get("")
@needs(Permission.READ)
async def list_(request: Request) -> HubPage:
    """Every hub, by name."""
    names = await namespace_names(request)
    found = await services_of(request).hub_administration.list_all()
    return HubPage(value=[_shown(hub, names) for hub in found])


@everywhere.put("/{hub}", status_code=201)
@needs(Permission.WRITE_SERVICES)
async def create(request: Request, hub: str, body: HubBody | None = None) -> Hub:
    """Makes a hub."""
    services, body = services_of(request), body or HubBody()
    namespace = await services.namespaces.get(body.namespace)
    said = Description(namespace.subscription_id, namespace.resource_group, tags=body.tags)
    made, _ = await services.hub_administration.put(
        namespace, hub, said, host_name=body.host_name, create_only=True, by=actor_of(request)
    )
    return await _answer(request, made)


@router.get("")
@needs(Permission.READ)
async def get(request: Request, hub: str) -> Hub:
    """One hub."""
    return await _answer(request, await services_of(request).hub_administration.get(hub))


@router.patch("")
@needs(Permission.WRITE_SERVICES)
async def patch(request: Request, hub: str, body: TagsBody, if_match: IfMatch = None) -> Hub:
    """Replaces a hub's tags."""
    changed = await services_of(request).hub_administration.set_tags(
        hub, body.tags, if_match=if_match, by=actor_of(request)
    )
    return await _answer(request, changed)


@router.delete("", status_code=204)
@needs(Permission.WRITE_SERVICES)
async def delete(request: Request, hub: str, if_match: IfMatch = None) -> Response:
    """Deletes a hub to which nothing is linked and nobody connected."""
    await services_of(request).hub_administration.delete(
        hub, if_match=if_match, by=actor_of(request)
    )
    return Response(status_code=204)


@everywhere.post("/{hub}/link")
@needs(Permission.WRITE_SERVICES)
async def link(request: Request, hub: str, body: LinkBody) -> Hub:
    """Lets a hub without devices belong to another namespace."""
    services = services_of(request)
    namespace = await services.namespaces.get(body.namespace)
    linked = await services.hub_administration.link(hub, namespace, by=actor_of(request))
    return await _answer(request, linked)


async def namespace_names(request: Request) -> dict[str, str]:
    """The names of all namespaces, by their ids."""
    return {each.id: each.name for each in await services_of(request).namespaces.list_all()}


async def _answer(request: Request, found: DescribedHub) -> Hub:
    return _shown(found, await namespace_names(request))


def _shown(found: DescribedHub, namespaces: dict[str, str]) -> Hub:
    said = found.resource.description
    return Hub(
        name=found.hub.name,
        host_name=found.hub.host_name,
        namespace=namespaces.get(found.hub.namespace_id, ""),
        location=said.location,
        tags=dict(said.tags),
        etag=found.resource.etag,
        created_at=iso8601(found.hub.created_at),
        updated_at=iso8601(found.resource.updated_at),
    )
