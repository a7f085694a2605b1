"""Who may ask about one hub or provisioning service over the operator API, and which that is."""

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
        caller.require(self.permission, found.owner.namespace_id)
        request.state.described = found


class HubRoute(_OneRoute):
    """A route whose parameter `hub` names a hub."""

    async def find(self, request: Request) -> Described:
        return await services_of(request).hub_administration.get(request.path_params["hub"])


class ServiceRoute(_OneRoute):
    """A route whose parameter `service` names a provisioning service."""

    async def find(self, request: Request) -> Described:
        return await services_of(request).provisioning_services.get(request.path_params["service"])


def described_of(request: Request) -> Described:
    """The hub or provisioning service that the path names."""
    found: Described = request.state.described
    return found
