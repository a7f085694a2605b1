"""Provisioning services, and the hubs that are linked to them, over the operator API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from fleetroot.access import Permission
from fleetroot.api.access import EverywhereRoute, ListRoute, actor_of, caller_of, needs
from fleetroot.api.answers import Answer, Listed, Time
from fleetroot.api.bodies import Body, HostName, Name, ServiceTags
from fleetroot.api.description import answers
from fleetroot.api.namespaces import namespace_names
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.service_routes import ServiceRoute
from fleetroot.api.services import services_of
from fleetroot.provisioning.hub_links import MAX_WEIGHT, WantedLink
from fleetroot.provisioning.model import Allocation
from fleetroot.provisioning.service_administration import DescribedService
from fleetroot.provisioning.services import Link
from fleetroot.registry.service_resources import Description

_PREFIX = "/fleetroot/provisioning-services"
lists = APIRouter(prefix=_PREFIX, route_class=ListRoute)
everywhere = APIRouter(prefix=_PREFIX, route_class=EverywhereRoute)
router = APIRouter(prefix=_PREFIX + "/{service}", route_class=ServiceRoute)


class ServiceBody(Body):
    """A service to make; without a host name it gets one under the server's domain."""

    namespace: Name = "default"
    host_name: HostName | None = None
    allocation_policy: Annotated[Allocation, Field(strict=False)] = Allocation.HASHED
    tags: ServiceTags = Field(default={})


class TagsBody(Body):
    """What may be changed of a service."""

    tags: ServiceTags


class NamespaceBody(Body):
    """The namespace that a service is to belong to."""

    namespace: Name


class HubLinkBody(Body):
    """How a hub is linked; what is left out is kept, or as by default."""

    allocation_weight: Annotated[int, Field(ge=1, le=MAX_WEIGHT)] | None = None
    apply_allocation_policy: bool | None = None


class LinkedHubAnswer(Answer):
    """A hub that is linked, and how."""

    name: str
    host_name: str
    allocation_weight: int
    apply_allocation_policy: bool


class ServiceAnswer(Answer):
    """A provisioning service."""

    name: str
    id_scope: str
    host_name: str
    namespace: str
    allocation_policy: Allocation
    iot_hubs: list[LinkedHubAnswer]
    location: str
    tags: dict[str, str]
    etag: str
    created_at: Time
    updated_at: Time


@lists.get("")
@needs(Permission.READ)
async def list_(request: Request) -> Listed[ServiceAnswer]:
    """Every provisioning service of the namespaces that the caller may read, by name."""
    names, caller = await namespace_names(request), caller_of(request)
    found = await services_of(request).provisioning_services.list_all()
    return Listed(
        value=[
            _shown(service, names)
            for service in found
            if caller.may(Permission.READ, service.owner.namespace_id)
        ]
    )


@everywhere.put("/{service}", status_code=201, responses=answers(409, 412))
@needs(Permission.WRITE_SERVICES)
async def create(request: Request, service: str, body: ServiceBody | None = None) -> ServiceAnswer:
    """Makes a provisioning service."""
    services, body = services_of(request), body or ServiceBody()
    namespace = await services.namespaces.get(body.namespace)
    made, _ = await services.provisioning_services.put(
        namespace,
        service,
        Description.within(namespace, body.tags),
        allocation=body.allocation_policy,
        host_name=body.host_name,
        create_only=True,
        by=actor_of(request),
    )
    return await _answer(request, made)


@router.get("")
@needs(Permission.READ)
async def get(request: Request, service: str) -> ServiceAnswer:
    """One provisioning service."""
    found = await services_of(request).provisioning_services.get(service)
    return await _answer(request, found)


@router.patch("", responses=answers(412))
@needs(Permission.WRITE_SERVICES)
async def patch(
    request: Request, service: str, body: TagsBody, if_match: IfMatch = None
) -> ServiceAnswer:
    """Replaces a provisioning service's tags."""
    changed = await services_of(request).provisioning_services.set_tags(
        service, body.tags, if_match=if_match, by=actor_of(request)
    )
    return await _answer(request, changed)


@router.delete("", status_code=204, responses=answers(409, 412))
@needs(Permission.WRITE_SERVICES)
async def delete(request: Request, service: str, if_match: IfMatch = None) -> Response:
    """Deletes a provisioning service without enrollments."""
    await services_of(request).provisioning_services.delete(
        service, if_match=if_match, by=actor_of(request)
    )
    return Response(status_code=204)


@everywhere.post("/{service}/link", responses=answers(409))
@needs(Permission.WRITE_SERVICES)
async def link(request: Request, service: str, body: NamespaceBody) -> ServiceAnswer:
    """Lets a provisioning service that is not used belong to another namespace."""
    services = services_of(request)
    namespace = await services.namespaces.get(body.namespace)
    linked = await services.provisioning_services.link(service, namespace, by=actor_of(request))
    return await _answer(request, linked)


@router.put("/hubs/{host_name}")
@needs(Permission.WRITE_SERVICES)
async def link_hub(
    request: Request, service: str, host_name: str, body: HubLinkBody | None = None
) -> ServiceAnswer:
    """Links a hub of the service's namespace, or changes how it is linked."""
    how = body or HubLinkBody()
    wanted = WantedLink(
        host_name, weight=how.allocation_weight, allocates=how.apply_allocation_policy
    )
    linked = await services_of(request).provisioning_services.link_hub(
        service, wanted, by=actor_of(request)
    )
    return await _answer(request, linked)


@router.delete("/hubs/{host_name}", status_code=204, responses=answers(409))
@needs(Permission.WRITE_SERVICES)
async def unlink_hub(request: Request, service: str, host_name: str) -> Response:
    """Assigns no more devices to a hub."""
    await services_of(request).provisioning_services.unlink_hub(
        service, host_name, by=actor_of(request)
    )
    return Response(status_code=204)


async def _answer(request: Request, found: DescribedService) -> ServiceAnswer:
    return _shown(found, await namespace_names(request))


def _shown(found: DescribedService, namespaces: dict[str, str]) -> ServiceAnswer:
    said, service = found.resource.description, found.service
    return ServiceAnswer(
        name=service.name,
        id_scope=service.id_scope,
        host_name=service.host_name,
        namespace=namespaces.get(service.namespace_id, ""),
        allocation_policy=service.allocation,
        iot_hubs=[_link(link) for link in found.links],
        location=said.location,
        tags=dict(said.tags),
        etag=found.resource.etag,
        created_at=service.created_at,
        updated_at=found.resource.updated_at,
    )


def _link(link: Link) -> LinkedHubAnswer:
    return LinkedHubAnswer(
        name=link.hub_name,
        host_name=link.hub.host_name,
        allocation_weight=link.hub.weight,
        apply_allocation_policy=link.hub.allocates,
    )
