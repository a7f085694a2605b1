"""Hubs over the operator API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from fleetroot.access import Permission
from fleetroot.api.access import EverywhereRoute, actor_of, needs
from fleetroot.api.answers import Answer, Listed, Time
from fleetroot.api.description import answers
from fleetroot.api.namespaces import namespace_names
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.service_routes import HubRoute
from fleetroot.api.services import services_of
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


class HubAnswer(Answer):
    """A hub."""

    name: str
    host_name: str
    namespace: str
    location: str
    tags: dict[str, str]
    etag: str
    created_at: Time
    updated_at: Time


@everywhere.get("")
@needs(Permission.READ)
async def list_(request: Request) -> Listed[HubAnswer]:
    """Every hub, by name."""
    names = await namespace_names(request)
    found = await services_of(request).hub_administration.list_all()
    return Listed(value=[_shown(hub, names) for hub in found])


@everywhere.put("/{hub}", status_code=201, responses=answers(409, 412))
@needs(Permission.WRITE_SERVICES)
async def create(request: Request, hub: str, body: HubBody | None = None) -> HubAnswer:
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
async def get(request: Request, hub: str) -> HubAnswer:
    """One hub."""
    return await _answer(request, await services_of(request).hub_administration.get(hub))


@router.patch("", responses=answers(412))
@needs(Permission.WRITE_SERVICES)
async def patch(request: Request, hub: str, body: TagsBody, if_match: IfMatch = None) -> HubAnswer:
    """Replaces a hub's tags."""
    changed = await services_of(request).hub_administration.set_tags(
        hub, body.tags, if_match=if_match, by=actor_of(request)
    )
    return await _answer(request, changed)


@router.delete("", status_code=204, responses=answers(409, 412))
@needs(Permission.WRITE_SERVICES)
async def delete(request: Request, hub: str, if_match: IfMatch = None) -> Response:
    """Deletes a hub to which nothing is linked and nobody connected."""
    await services_of(request).hub_administration.delete(
        hub, if_match=if_match, by=actor_of(request)
    )
    return Response(status_code=204)


@everywhere.post("/{hub}/link", responses=answers(409))
@needs(Permission.WRITE_SERVICES)
async def link(request: Request, hub: str, body: LinkBody) -> HubAnswer:
    """Lets a hub without devices belong to another namespace."""
    services = services_of(request)
    namespace = await services.namespaces.get(body.namespace)
    linked = await services.hub_administration.link(hub, namespace, by=actor_of(request))
    return await _answer(request, linked)


async def _answer(request: Request, found: DescribedHub) -> HubAnswer:
    return _shown(found, await namespace_names(request))


def _shown(found: DescribedHub, namespaces: dict[str, str]) -> HubAnswer:
    said = found.resource.description
    return HubAnswer(
        name=found.hub.name,
        host_name=found.hub.host_name,
        namespace=namespaces.get(found.hub.namespace_id, ""),
        location=said.location,
        tags=dict(said.tags),
        etag=found.resource.etag,
        created_at=found.hub.created_at,
        updated_at=found.resource.updated_at,
    )
