"""What is asked alike of hubs and of provisioning services, on routes of `service_routing`."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request, Response

from fleetroot.api.access import actor_of
from fleetroot.api.arm.resources import Page
from fleetroot.api.arm.routing import if_match
from fleetroot.api.arm.service_bodies import (
    NameAvailability,
    ShownRule,
    shown_rule,
    shown_rules,
)
from fleetroot.api.arm.service_routing import is_listed, there_of
from fleetroot.api.service_routes import described_of
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument, NotFound
from fleetroot.ids import check_name
from fleetroot.registry import etags
from fleetroot.registry.resource_administration import D, ResourceAdministration


async def listed(request: Request, room: ResourceAdministration[D]) -> list[D]:
    """Those of the path's subscription and resource group that the caller may see, by name."""
    return [each for each in await room.list_all() if is_listed(request, each)]


async def retagged(
    request: Request, room: ResourceAdministration[D], name: str, tags: Mapping[str, str] | None
) -> D:
    """The one of that name with other tags; with None, as it is.

    Raises:
        NotFound, InvalidArgument, EtagMismatch: as of `ResourceAdministration.set_tags`.
    """
    if tags is None:
        there = await room.get(name)
        etags.check(if_match(request), there.resource.etag)
        return there
    return await room.set_tags(name, tags, if_match=if_match(request), by=actor_of(request))


async def deleted(request: Request, room: ResourceAdministration[D], name: str) -> Response:
    """204, after the one of that name was deleted where there was one.

    Raises:
        Conflict, EtagMismatch: as of `ResourceAdministration.delete`.
    """
    if there_of(request) is not None:
        await room.delete(name, if_match=if_match(request), by=actor_of(request))
    return Response(status_code=204)


async def availability(room: ResourceAdministration[D], name: str) -> NameAvailability:
    """Whether the name can be taken. Names are the whole server's."""
    try:
        check_name(name, room.kind.words)
        await room.get(name)
    except InvalidArgument as error:
        return NameAvailability(name_available=False, reason="Invalid", message=error.message)
    except NotFound:
        return NameAvailability(name_available=True)
    message = f"the name {name} is taken"
    return NameAvailability(name_available=False, reason="AlreadyExists", message=message)


async def all_keys(request: Request) -> Page[ShownRule]:
    """The shared access policies, with their keys, of what the path names."""
    owner = described_of(request).owner
    found = await services_of(request).access_keys.read_all(owner, by=actor_of(request))
    return Page(value=shown_rules(found))


async def keys_of_one(request: Request, policy: str) -> ShownRule:
    """One of these shared access policies.

    Raises:
        NotFound: there is none of that name.
    """
    owner = described_of(request).owner
    found = await services_of(request).access_keys.read(owner, policy, by=actor_of(request))
    return shown_rule(found)
