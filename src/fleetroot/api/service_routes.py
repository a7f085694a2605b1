"""Who may ask about one hub or provisioning service over the operator API, and which that is: the
path names it, or the query.
"""

from __future__ import annotations

from fastapi import Request

from fleetroot.access import EVERYWHERE, Permission
from fleetroot.api.access import OperatorRoute, authenticate
from fleetroot.api.services import services_of
from fleetroot.errors import NotFound
from fleetroot.registry.resource_administration import Described


class _OneRoute(OperatorRoute):
    """A route for roles on the namespace that something belongs to. Whether there is one of that
    name is told to roles on everything only.
    """

    async def find(self, request: Request) -> Described:
        """What the path names.

        Raises:
            NotFound: nothing is of that name.
        """
        raise NotImplementedError

    async def authorize(self, request: Request) -> None:
        caller = await authenticate(request)
        try:
            found = await self.find(request)
        except NotFound:
            caller.require(Permission.READ, EVERYWHERE)
            raise
        of = found.owner.namespace_id
        caller.require(self.permission, of)
        request.state.namespace = await services_of(request).namespaces.by_id(of)
        request.state.described = found


class HubRoute(_OneRoute):
    """A route whose parameter `hub` names a hub."""

    async def find(self, request: Request) -> Described:
        return await services_of(request).hub_administration.get(request.path_params["hub"])


class ServiceRoute(_OneRoute):
    """A route whose parameter `service` names a provisioning service."""

    async def find(self, request: Request) -> Described:
        return await services_of(request).provisioning_services.get(request.path_params["service"])


class HubQueryRoute(_OneRoute):
    """A route whose query names a hub, which is `default` where it does not."""

    async def find(self, request: Request) -> Described:
        name = request.query_params.get("hub", "default")
        return await services_of(request).hub_administration.get(name)


class ServiceQueryRoute(_OneRoute):
    """A route whose query names a provisioning service, which is the oldest where it does not."""

    async def find(self, request: Request) -> Described:
        services = services_of(request)
        service = await services.administration.service(request.query_params.get("service"))
        return await services.provisioning_services.get(service.name)


def described_of(request: Request) -> Described:
    """The hub or provisioning service that the request names."""
    found: Described = request.state.described
    return found
