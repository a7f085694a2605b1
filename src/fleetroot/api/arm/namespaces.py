"""Namespaces.

One is empty when it is made here: its credential is a resource of its own. Names are of the whole
server, so that what another resource group has is taken. A resource group is nothing but a name.
"""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, caller_of, needs
from fleetroot.api.arm.resources import (
    SUCCEEDED,
    Location,
    Page,
    Resource,
    Sent,
    Shown,
    SystemData,
    Tags,
    page_by_name,
)
from fleetroot.api.arm.routing import (
    CHANGES,
    LISTS,
    NAMESPACE,
    PROVIDER,
    PUTS,
    ArmRoute,
    ListRoute,
    NamespaceItselfRoute,
    check_absent,
    check_present,
    found_namespace,
    if_match,
    namespace_of,
    namespace_path,
)
from fleetroot.api.description import answers, replaced
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument, NotFound
from fleetroot.registry import etags
from fleetroot.registry.model import DEFAULT_LOCATION, Namespace

TYPE: Final = "Microsoft.DeviceRegistry/namespaces"
_GROUP: Final = re.compile(r"[\w.()-]{0,89}[\w()-]", re.ASCII)
router = APIRouter(route_class=ArmRoute)
lists = APIRouter(route_class=ListRoute)
itself = APIRouter(route_class=NamespaceItselfRoute)


class NamespaceProperties(Sent):
    """What a namespace may be told. Messaging endpoints are for other products."""

    messaging: dict[str, Any] | None = None


class NamespaceBody(Sent):
    """A namespace, as it is sent."""

    location: Location = DEFAULT_LOCATION
    tags: Tags | None = None
    properties: NamespaceProperties = Field(default_factory=NamespaceProperties)


class NamespaceUpdate(Sent):
    """What changes of a namespace."""

    tags: Tags | None = None
    properties: NamespaceProperties = Field(default_factory=NamespaceProperties)


class ShownProperties(Shown):
    """A namespace's properties."""

    uuid: str
    provisioning_state: str = SUCCEEDED


class NamespaceResource(Resource):
    """A namespace."""

    properties: ShownProperties


@lists.get(
    PROVIDER + "/Microsoft.DeviceRegistry/namespaces",
    response_model_exclude_none=True,
    dependencies=LISTS,
)
@needs(Permission.READ)
async def list_by_resource_group(
    request: Request, subscription: str, group: str
) -> Page[NamespaceResource]:
    """A page of a resource group's namespaces that the caller may read, by name."""
    return await _page(request, subscription, group)


@lists.get(
    "/subscriptions/{subscription}/providers/Microsoft.DeviceRegistry/namespaces",
    response_model_exclude_none=True,
    dependencies=LISTS,
)
@needs(Permission.READ)
async def list_by_subscription(request: Request, subscription: str) -> Page[NamespaceResource]:
    """A page of a subscription's namespaces that the caller may read, by name."""
    return await _page(request, subscription, None)


@router.get(NAMESPACE, response_model_exclude_none=True)
@needs(Permission.READ)
async def get(request: Request) -> NamespaceResource:
    """One namespace."""
    [shown] = await _shown(request, [namespace_of(request)])
    return shown


@itself.put(
    NAMESPACE,
    status_code=201,
    response_model_exclude_none=True,
    dependencies=PUTS,
    responses=replaced(NamespaceResource) | answers(409, 412),
)
@needs(Permission.WRITE_SERVICES)
async def put(
    request: Request,
    subscription: str,
    group: str,
    namespace: str,
    body: NamespaceBody,
    response: Response,
) -> NamespaceResource:
    """Creates a namespace (201), or replaces what is said of one (200)."""
    services, there = services_of(request), found_namespace(request)
    _check(body.properties)
    if there is None:
        check_absent(request)
        _check_place(request, subscription, group)
        made = await services.namespaces.create(
            namespace,
            subscription_id=services.namespace.subscription_id,
            resource_group=group,
            tags=body.tags,
            location=body.location,
            by=actor_of(request),
        )
    else:
        check_present(request)
        made = await services.namespaces.patch(
            there.name,
            body.tags or {},
            location=body.location,
            if_match=if_match(request),
            by=actor_of(request),
        )
        response.status_code = 200
    [shown] = await _shown(request, [made])
    return shown


@router.patch(
    NAMESPACE, response_model_exclude_none=True, dependencies=CHANGES, responses=answers(409, 412)
)
@needs(Permission.WRITE_SERVICES)
async def patch(request: Request, body: NamespaceUpdate) -> NamespaceResource:
    """Replaces a namespace's tags, where any are given."""
    services, of = services_of(request), namespace_of(request)
    _check(body.properties)
    if body.tags is None:
        etags.check(if_match(request), of.etag)
    else:
        of = await services.namespaces.patch(
            of.name, body.tags, if_match=if_match(request), by=actor_of(request)
        )
    [shown] = await _shown(request, [of])
    return shown


@itself.delete(NAMESPACE, status_code=204, dependencies=CHANGES, responses=answers(409, 412))
@needs(Permission.WRITE_SERVICES)
async def delete(request: Request) -> Response:
    """Deletes an empty namespace."""
    if (there := found_namespace(request)) is not None:
        await services_of(request).namespaces.delete(
            there.name, if_match=if_match(request), by=actor_of(request)
        )
    return Response(status_code=204)


def _check(properties: NamespaceProperties) -> None:
    if properties.messaging and properties.messaging.get("endpoints"):
        raise InvalidArgument("properties.messaging.endpoints: there are none here")


def _check_place(request: Request, subscription: str, group: str) -> None:
    """Raises:
    NotFound: the subscription is not the server's.
    InvalidArgument: the name of the resource group is none.
    """
    if subscription.lower() != services_of(request).namespace.subscription_id.lower():
        raise NotFound(
            f"there is no subscription {subscription} here", reason="no such subscription"
        )
    if not _GROUP.fullmatch(group):
        raise InvalidArgument(
            "resource group: must be 1 to 90 letters, digits and ._-(), with no . last"
        )


async def _page(request: Request, subscription: str, group: str | None) -> Page[NamespaceResource]:
    every = [
        each
        for each in await services_of(request).namespaces.list_all()
        if caller_of(request).may(Permission.READ, each.id)
        and each.subscription_id.lower() == subscription.lower()
        and (group is None or each.resource_group.lower() == group.lower())
    ]
    found, more = page_by_name(request, every, lambda each: each.name)
    return Page(value=await _shown(request, found), next_link=more)


async def _shown(request: Request, of: list[Namespace]) -> list[NamespaceResource]:
    return [
        NamespaceResource(
            id=namespace_path(each),
            name=each.name,
            type=TYPE,
            system_data=SystemData.of(each.created_at, each.updated_at),
            etag=each.etag,
            location=each.location,
            tags=dict(each.tags),
            properties=ShownProperties(uuid=each.id),
        )
        for each in of
    ]
