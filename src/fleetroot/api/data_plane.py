"""What the service APIs of hubs and of provisioning services have in common: who may ask, and how
an endpoint says so.

Shared access signatures of the policies of what is spoken to open a route, each by the right that
it names; and bearer tokens, by the roles that they carry on its namespace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from fastapi import Request

from fleetroot.access import Permission
from fleetroot.api.access import authenticate, bearer_of, shared_access_token
from fleetroot.api.description import BEARER, SHARED_ACCESS
from fleetroot.api.routing import AuthorizedRoute
from fleetroot.api.tracing import peer_of, trace_id_of
from fleetroot.audit import Actor, ActorKind
from fleetroot.errors import InvalidArgument
from fleetroot.registry.shared_access import Right
from fleetroot.sas import SasToken

F = TypeVar("F", bound=Callable[..., Any])
_ASKS: Final = "_fleetroot_asks"


class Asked(NamedTuple):
    """What a route asks: the right of a shared access policy, or these permissions of roles."""

    right: Right
    permissions: tuple[Permission, ...]


class Spoken(Protocol):
    """What a caller speaks to: a hub or a provisioning service."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def namespace_id(self) -> str:
        """Its namespace: a caller's roles there count."""


def asks(right: Right, *permissions: Permission) -> Callable[[F], F]:
    """Says what an endpoint asks of its caller, for each of the two ways to prove who one is."""

    def mark(endpoint: F) -> F:
        setattr(endpoint, _ASKS, Asked(right, permissions))
        return endpoint

    return mark


class DataPlaneRoute(AuthorizedRoute):
    """A route for callers who may ask this of what they speak to. One that does not say what it
    asks cannot be made.

    Attributes:
        asked: what it asks.
    """

    schemes = (BEARER, SHARED_ACCESS)

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        asked = getattr(endpoint, _ASKS, None)
        if not isinstance(asked, Asked) or not asked.permissions:
            raise TypeError(f"{path} does not say what it asks")
        self.asked = asked
        super().__init__(path, endpoint, **more)

    async def find(self, request: Request) -> Spoken:
        """What the request speaks to, by its host name."""
        raise NotImplementedError

    async def verify(self, request: Request, spoken: Spoken, token: SasToken) -> None:
        """Lets a token pass that one of its policies signed, with the right that the route asks.

        Raises:
            TokenInvalid: none did, or it is for something else.
            Forbidden: that policy has not the right.
        """
        raise NotImplementedError

    async def authorize(self, request: Request) -> None:
        """See `AuthorizedRoute.authorize`."""
        spoken = await self.find(request)
        if bearer_of(request) is not None:
            caller = await authenticate(request)
            for permission in self.asked.permissions:
                caller.require(permission, spoken.namespace_id)
        else:
            token = shared_access_token(request)
            await self.verify(request, spoken, token)
            request.state.actor = Actor(
                ActorKind.SHARED_ACCESS,
                f"{spoken.name}/{token.key_name}",
                peer_of(request.scope),
                trace_id_of(request.scope),
            )
        request.state.spoken = spoken


def check_version(version: str, known: tuple[str, ...]) -> str:
    """Lets a version pass that is known.

    Raises:
        InvalidArgument: it is not; the message lists those that are.
    """
    if version not in known:
        raise InvalidArgument(
            f"api-version must be one of {', '.join(known)}", reason="unknown api-version"
        )
    return version
