"""Hubs over the operator API."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import Field

from fleetroot.access import Permission
from fleetroot.api.access import EverywhereRoute, ListRoute, actor_of, caller_of, needs
from fleetroot.api.answers import Answer, Listed, Time
from fleetroot.api.bodies import Body, HostName, Name, ServiceTags
from fleetroot.api.description import answers
from fleetroot.api.namespaces import namespace_names
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.service_routes import HubRoute
from fleetroot.api.services import services_of
from fleetroot.hub.administration import DescribedHub
from fleetroot.registry.service_resources import Description

_PREFIX = "/fleetroot/hubs"
lists = APIRouter(prefix=_PREFIX, route_class=ListRoute)
everywhere = APIRouter(prefix=_PREFIX, route_class=EverywhereRoute)
router = APIRouter(prefix=_PREFIX + "/{hub}", route_class=HubRoute)


class HubBody(Body):
    """A hub to make; without a host name it gets one under the server's domain."""

    namespace: Name = "default"
    host_name: HostName | None = None
    tags: ServiceTags = Field(default={})


class TagsBody(Body):
    """What may be changed of a hub."""

    tags: ServiceTags


class LinkBody(Body):
    """The namespace that a hub is to belong to."""

    namespace: Name


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


@lists.get("")
@needs(Permission.READ)
async def list_(request: Request) -> Listed[HubAnswer]:
    """Every hub of the namespaces that the caller may read, by name."""
    names, caller = await namespace_names(request), caller_of(request)
    found = await services_of(request).hub_administration.list_all()
    return Listed(
        value=[
            _shown(hub, names)
            for hub in found
            if caller.may(Permission.READ, hub.owner.namespace_id)
        ]
    )


@everywhere.put("/{hub}", status_code=201, responses=answers(409, 412))
@needs(Permission.WRITE_SERVICES)
async def create(request: Request, hub: str, body: HubBody | None = None) -> HubAnswer:
    """Makes a hub."""
    services, body = services_of(request), body or HubBody()
    namespace = await services.namespaces.get(body.namespace)
    said = Description.within(namespace, body.tags)
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
