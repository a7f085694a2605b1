"""Who calls, and whether they may: bearer tokens, and shared access signatures.

Default deny. A route of the operator API names the permission that it needs with `needs`; one that
names none cannot be made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Request

from fleetroot.access import EVERYWHERE, Caller, Permission
from fleetroot.api.description import operation_id
from fleetroot.api.routing import AuthorizedRoute
from fleetroot.api.services import services_of
from fleetroot.api.tracing import peer_of, trace_id_of
from fleetroot.audit import Actor
from fleetroot.errors import NotFound, Unauthorized
from fleetroot.registry.model import Namespace
from fleetroot.sas import SasToken

F = TypeVar("F", bound=Callable[..., Any])
_BEARER: Final = "bearer "  # a scheme's case does not matter (RFC 9110 §11.1)
_NEEDS: Final = "_fleetroot_permission"


def needs(permission: Permission) -> Callable[[F], F]:
    """Says what an endpoint asks of its caller."""

    def mark(endpoint: F) -> F:
        setattr(endpoint, _NEEDS, permission)
        return endpoint

    return mark


def permission_of(path: str, endpoint: Callable[..., Any]) -> Permission:
    """What the endpoint of a route asks of its caller.

    Raises:
        TypeError: it does not say.
    """
    permission = getattr(endpoint, _NEEDS, None)
    if not isinstance(permission, Permission):
        raise TypeError(f"{path} does not say what it needs")
    return permission


class OperatorRoute(AuthorizedRoute):
    """A route for callers with a bearer token whose roles carry the permission that it needs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        self.permission = permission_of(path, endpoint)
        super().__init__(path, endpoint, **more)

    async def authorize(self, request: Request) -> None:
        caller = await authenticate(request)
        request.state.namespace = first = services_of(request).namespace
        caller.require(self.permission, first.id)


class AuthenticatedRoute(AuthorizedRoute):
    """A route for everybody who has a good bearer token, of whatever role."""

    async def authorize(self, request: Request) -> None:
        await authenticate(request)


class EverywhereRoute(OperatorRoute):
    """What is about no single namespace is for roles on everything."""

    async def authorize(self, request: Request) -> None:
        (await authenticate(request)).require(self.permission, EVERYWHERE)


class ListRoute(OperatorRoute):
    """A list of namespaces, or of what belongs to one, for everybody whose role carries the
    permission somewhere: the endpoint shows what is where `caller_of` has it.
    """

    async def authorize(self, request: Request) -> None:
        (await authenticate(request)).require_somewhere(self.permission)


class NamespaceRoute(OperatorRoute):
    """A route below a namespace, which its parameter `namespace` names. Whether one is there is
    told to roles on everything only.
    """

    async def authorize(self, request: Request) -> None:
        caller = await authenticate(request)
        try:
            found = await services_of(request).namespaces.get(request.path_params["namespace"])
        except NotFound:
            caller.require(self.permission, EVERYWHERE)
            raise
        caller.require(self.permission, found.id)
        request.state.namespace = found


def bearer_of(request: Request) -> str | None:
    """The bearer token of a request (RFC 6750 §2.1), not looked at yet."""
    header = request.headers.get("authorization", "")
    return header[len(_BEARER) :].strip() if header.lower().startswith(_BEARER) else None


async def authenticate(request: Request) -> Caller:
    """Who bears the request's token.

    Raises:
        Unauthorized: nobody, or it is not good any more.
        Unavailable: the database cannot answer now.
    """
    bearer = bearer_of(request)
    if bearer is None:
        raise Unauthorized("no operator token")
    caller = await services_of(request).access.authenticate(
        bearer, peer_of(request.scope), trace_id_of(request.scope)
    )
    request.state.caller, request.state.actor = caller, caller.actor
    return caller


def caller_of(request: Request) -> Caller:
    """Who calls, on a route that has authenticated its caller."""
    caller: Caller = request.state.caller
    return caller


def actor_of(request: Request) -> Actor:
    """Who acts, on a route that has authenticated its caller."""
    actor: Actor = request.state.actor
    return actor


def namespace_of(request: Request) -> Namespace:
    """The namespace on which the route authorized its caller: the one that the path names, or the
    server's first.
    """
    namespace: Namespace = request.state.namespace
    return namespace


def of_namespaces(below: str) -> APIRouter:
    """A router for the calls that are about the first namespace at a path of their own, and here
    about the one that the path names: `below` it.
    """
    return APIRouter(
        prefix="/fleetroot/namespaces/{namespace}" + below,
        route_class=NamespaceRoute,
        generate_unique_id_function=partial(operation_id, router="of_namespaces"),
    )


def shared_access_token(request: Request) -> SasToken:
    """The request's shared access signature, parsed and not verified.

    Raises:
        TokenInvalid: there is none, or it is not of the form.
    """
    return SasToken.parse(request.headers.get("authorization", ""))


async def require_reader_or_loopback(request: Request) -> None:
    """Lets pass who may read everything, and whoever calls from this machine.

    Raises:
        Unauthorized, Forbidden: anybody else.
    """
    if request.client is not None:
        try:
            if ip_address(request.client.host).is_loopback:
                return
        except ValueError:
            pass
    (await authenticate(request)).require(Permission.READ, services_of(request).namespace.id)


ReaderOrLoopback = Annotated[None, Depends(require_reader_or_loopback)]
