"""How calls about hubs and provisioning services are authorized.

Whoever asks about one needs a role on the namespace that it belongs to. What is about none, and
making one, is for roles on everything; lists show what the caller may see.
"""

from __future__ import annotations

from typing import ClassVar, Final

from fastapi import Request

from fleetroot.access import EVERYWHERE, Permission
from fleetroot.api.access import authenticate, caller_of
from fleetroot.api.arm.routing import PROVIDER, ArmRoute, check_api_version, namespace_path
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument, NotFound
from fleetroot.hub.administration import DescribedHub
from fleetroot.ids import canonical
from fleetroot.provisioning.service_administration import DescribedService
from fleetroot.registry.model import Namespace
from fleetroot.registry.resource_administration import Described

SUBSCRIPTION: Final = "/subscriptions/{subscription}/providers/Microsoft.Devices"
HUBS: Final = PROVIDER + "/Microsoft.Devices/IotHubs"
SERVICES: Final = PROVIDER + "/Microsoft.Devices/provisioningServices"


class DevicesRoute(ArmRoute):
    """A route whose path may name a hub or a provisioning service."""

    parameter: ClassVar[str]

    async def find(self, request: Request, name: str) -> Described:
        """What is of that name, in whatever resource group.

        Raises:
            NotFound: nothing is.
        """
        raise NotImplementedError

    async def authorize(self, request: Request) -> None:
        caller = await authenticate(request)
        check_api_version(request, self.versions)
        name = request.path_params.get(self.parameter)
        methods = self.methods or set()
        if name is None:
            if "GET" in methods:  # a list, which shows what the caller may see
                caller.require_somewhere(self.permission)
            else:
                caller.require(self.permission, EVERYWHERE)
            return
        is_itself = self.path.endswith(f"/{{{self.parameter}}}")
        makes = "PUT" in methods and is_itself
        try:
            found = await self.find(request, name)
        except NotFound:
            if is_itself and methods & {"PUT", "DELETE"}:
                caller.require(self.permission, EVERYWHERE)
                return
            # Who may not see everything does not learn which names there are.
            caller.require(Permission.READ, EVERYWHERE)
            raise
        caller.require(self.permission, found.owner.namespace_id)
        if not makes and not _is_here(request, found):
            raise NotFound(f"there is no {found.owner.kind.value} {name} in this resource group")
        request.state.described = found


class HubRoute(DevicesRoute):
    """A route below `IotHubs`."""

    parameter = "hub"
    versions = (
        "2019-03-22",
        "2019-07-01-preview",
        "2023-06-30",
        "2023-06-30-preview",
        "2026-10-01-preview",
    )

    async def find(self, request: Request, name: str) -> Described:
        return await services_of(request).hub_administration.get(name)


class ServiceRoute(DevicesRoute):
    """A route below `provisioningServices`."""

    parameter = "service"
    versions = ("2021-10-15", "2022-02-05", "2022-12-12", "2026-11-01")

    async def find(self, request: Request, name: str) -> Described:
        return await services_of(request).provisioning_services.get(name)


def _is_here(request: Request, found: Described) -> bool:
    """Whether it is in the path's subscription and, if the path names one, resource group."""
    path, said = request.path_params, found.resource.description
    if canonical(path["subscription"]) != canonical(said.subscription_id):
        return False
    return "group" not in path or canonical(path["group"]) == canonical(said.resource_group)


def hub_of(request: Request) -> DescribedHub:
    """The hub that the path names."""
    found = request.state.described
    assert isinstance(found, DescribedHub)  # noqa: S101 - what `HubRoute` finds
    return found


def service_of(request: Request) -> DescribedService:
    """The provisioning service that the path names."""
    found = request.state.described
    assert isinstance(found, DescribedService)  # noqa: S101 - what `ServiceRoute` finds
    return found


def is_listed(request: Request, found: Described) -> bool:
    """Whether a list shows this: of the path's subscription and resource group, and of a namespace
    that the caller may read.
    """
    may_see = caller_of(request).may(Permission.READ, found.owner.namespace_id)
    return may_see and _is_here(request, found)


async def namespaces_by_id(request: Request) -> dict[str, Namespace]:
    """Every namespace, by its id."""
    return {each.id: each for each in await services_of(request).namespaces.list_all()}


async def namespace_wanted(
    request: Request, wanted: str | None, there: Described | None
) -> Namespace:
    """The namespace of a hub or provisioning service that is put: the one that the body names by
    its resource id, else the one that it belongs to, else the server's first.

    Raises:
        InvalidArgument: there is none of that id, or what is there belongs to another.
        NotFound: the subscription is not the server's.
    """
    services = services_of(request)
    of = services.namespace.subscription_id
    if canonical(request.path_params["subscription"]) != canonical(of):
        raise NotFound(f"the subscription is {of}", reason="no such subscription")
    every = await namespaces_by_id(request)
    belongs = every.get(there.owner.namespace_id) if there else None
    if wanted is None:
        return belongs or services.namespace
    named = next(
        (each for each in every.values() if namespace_path(each).lower() == wanted.lower()), None
    )
    if named is None:
        raise InvalidArgument("there is no namespace of that resource id")
    if belongs is not None and belongs.id != named.id:
        raise InvalidArgument(
            f"it belongs to the namespace {belongs.name}: only `link` changes that"
        )
    return named


def there_of(request: Request) -> Described | None:
    """What is of the name that is put; None for nothing."""
    found: Described | None = getattr(request.state, "described", None)
    return found
