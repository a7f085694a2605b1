"""What the routes of the provisioning service API have in common: its versions, who may ask, and of
which service.

Shared access signatures of the service's policies open it, each route by the right that it names;
and bearer tokens, by the roles that they carry on the service's namespace. The request's host name
says which service is spoken to; one that none has, the oldest.

Source: Azure DPS service REST API, 2018-09-01-preview to 2026-11-15-preview.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.routing import APIRoute

from fleetroot.access import Permission
from fleetroot.api.access import authenticate, bearer_of, shared_access_token
from fleetroot.api.description import BEARER, SHARED_ACCESS, operation_id
from fleetroot.api.routing import AuthorizedRoute
from fleetroot.api.services import services_of
from fleetroot.api.tracing import peer_of, trace_id_of
from fleetroot.audit import Actor, ActorKind
from fleetroot.errors import InvalidArgument
from fleetroot.provisioning.model import Service
from fleetroot.registry.shared_access import Right

F = TypeVar("F", bound=Callable[..., Any])
_ASKS: Final = "_fleetroot_asks"

SERVICE_VERSIONS: Final = (
    "2018-09-01-preview",
    "2019-03-31",
    "2021-06-01",
    "2021-10-01",
    "2021-11-01-preview",
    "2025-07-01-preview",
    "2026-11-01",
    "2026-11-02-preview",
    "2026-11-15-preview",
)
# From here on policies are named by `credentialPolicyName`.
KNOWS_POLICIES: Final = "2025"
# The one before that knows them by another name.
KNOWS_ISSUANCE_POLICIES: Final = "2021-11-01-preview"


class _Asked(NamedTuple):
    """What a route asks: the right of a shared access policy, or these permissions of roles."""

    right: Right
    permissions: tuple[Permission, ...]


def asks(right: Right, *permissions: Permission) -> Callable[[F], F]:
    """Says what an endpoint asks of its caller, for each of the two ways to prove who one is."""

    def mark(endpoint: F) -> F:
        setattr(endpoint, _ASKS, _Asked(right, permissions))
        return endpoint

    return mark


def _api_version(
    version: Annotated[str, Query(alias="api-version", max_length=64)] = SERVICE_VERSIONS[-1],
) -> str:
    """The version of the API that the client speaks; left out, the newest."""
    if version not in SERVICE_VERSIONS:
        raise InvalidArgument(
            f"api-version must be one of {', '.join(SERVICE_VERSIONS)}",
            reason="unknown api-version",
        )
    return version


class ProvisioningRoute(AuthorizedRoute):
    """A route for callers who may ask this of the service that they speak to. One that does not say
    what it asks cannot be made.
    """

    schemes = (BEARER, SHARED_ACCESS)

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        asked = getattr(endpoint, _ASKS, None)
        if not isinstance(asked, _Asked) or not asked.permissions:
            raise TypeError(f"{path} does not say what it asks")
        self.asked = asked
        super().__init__(path, endpoint, **more)

    async def authorize(self, request: Request) -> None:
        administration = services_of(request).administration
        service = await administration.addressed(request.url.hostname or "")
        if bearer_of(request) is not None:
            caller = await authenticate(request)
            for permission in self.asked.permissions:
                caller.require(permission, service.namespace_id)
        else:
            token = shared_access_token(request)
            await administration.authorize(service, token, self.asked.right)
            request.state.actor = Actor(
                ActorKind.SHARED_ACCESS,
                f"{service.name}/{token.key_name}",
                peer_of(request.scope),
                trace_id_of(request.scope),
            )
        request.state.service = service


def _authorized_service(request: Request) -> Service:
    """The provisioning service on which the route authorized the caller."""
    service: Service = request.state.service
    return service


ApiVersion = Annotated[str, Depends(_api_version)]
"""The version of the API that the client speaks."""

Addressed = Annotated[Service, Depends(_authorized_service)]
"""The service on which the caller is authorized."""


def provisioning_router(name_of: Callable[[APIRoute], str] = operation_id) -> APIRouter:
    """A router for routes of this API, each of which refuses a version that is not known.

    Args:
        name_of: the operation id of a route.
    """
    return APIRouter(
        dependencies=[Depends(_api_version)],
        route_class=ProvisioningRoute,
        generate_unique_id_function=name_of,
    )
