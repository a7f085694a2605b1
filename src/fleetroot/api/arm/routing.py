"""How a management call is authorized, and what every resource has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import urlencode

from fastapi import Depends, Query, Request

from fleetroot.access import EVERYWHERE, Caller, Permission
from fleetroot.api.access import authenticate, permission_of
from fleetroot.api.arm.errors import ArmErrorBody
from fleetroot.api.preconditions import MAX_ETAG, IfMatch, IfNoneMatch
from fleetroot.api.routing import AuthorizedRoute
from fleetroot.api.services import services_of
from fleetroot.clock import iso8601
from fleetroot.errors import Conflict, EtagMismatch, InvalidArgument, NotFound
from fleetroot.registry.model import Namespace

PROVIDER: Final = "/subscriptions/{subscription}/resourceGroups/{group}/providers"
NAMESPACE: Final = PROVIDER + "/Microsoft.DeviceRegistry/namespaces/{namespace}"
PAGE: Final = 100
NEWEST: Final = "2026-11-02-preview"
REGISTRY_VERSIONS: Final = (
    "2025-07-01-preview",
    "2025-10-01",
    "2025-11-01-preview",
    "2026-03-01-preview",
    NEWEST,
)


SkipToken = Annotated[
    str, Query(alias="$skipToken", max_length=512, description="That of a page's `nextLink`.")
]
"""Behind which name a page begins."""


async def _lists(after: SkipToken = "") -> None: ...


async def _changes(if_match: IfMatch = None) -> None: ...


async def _puts(if_match: IfMatch = None, if_none_match: IfNoneMatch = None) -> None: ...


# Dependencies that bound and describe what `skip_token`, `if_match` and `creates_only` read.
LISTS: Final = [Depends(_lists)]
CHANGES: Final = [Depends(_changes)]
PUTS: Final = [Depends(_puts)]


class ArmRoute(AuthorizedRoute):
    """A route whose path may name a namespace, on which the caller needs the endpoint's permission;
    without one, everywhere.

    It reads `api-version` itself, and describes it itself.
    """

    versions: ClassVar[tuple[str, ...]] = REGISTRY_VERSIONS
    error_body = ArmErrorBody

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        self.permission = permission_of(path, endpoint)
        extra = dict(more.pop("openapi_extra", None) or {})
        extra["parameters"] = [_api_version(self.versions)]
        super().__init__(path, endpoint, openapi_extra=extra, **more)

    async def authorize(self, request: Request) -> None:
        caller = await authenticate(request)
        check_api_version(request, self.versions)
        name = request.path_params.get("namespace")
        if name is None:
            caller.require(self.permission, EVERYWHERE)
            return
        try:
            namespace = await find_namespace(request, name)
        except NotFound as missing:
            self._let_pass_without(request, caller, missing)
            return
        caller.require(self.permission, namespace.id)
        request.state.namespace = namespace

    def _let_pass_without(self, request: Request, caller: Caller, missing: NotFound) -> None:
        """Raises:
        Forbidden, NotFound: who may not see everything does not learn which names there are.
        """
        caller.require(Permission.READ, EVERYWHERE)
        raise missing


class ListRoute(ArmRoute):
    """A list of namespaces, for everybody who has the permission on one; it shows those."""

    async def authorize(self, request: Request) -> None:
        caller = await authenticate(request)
        check_api_version(request, self.versions)
        caller.require_somewhere(self.permission)


class NamespaceItselfRoute(ArmRoute):
    """A route about a namespace that need not be there, which then asks for the permission
    everywhere.
    """

    def _let_pass_without(self, request: Request, caller: Caller, missing: NotFound) -> None:
        caller.require(self.permission, EVERYWHERE)
        request.state.namespace = None


def _api_version(versions: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": "api-version",
        "in": "query",
        "required": True,
        "schema": {"type": "string", "enum": list(versions)},
    }


def check_api_version(request: Request, versions: tuple[str, ...]) -> None:
    """Lets a request of one of these versions pass.

    Raises:
        InvalidArgument: it is of another, or does not say.
    """
    version = request.query_params.get("api-version")
    if version is None:
        raise InvalidArgument("api-version is required", reason="missing api-version")
    if version not in versions:
        raise InvalidArgument(
            f"api-version must be one of {', '.join(versions)}",
            reason="unknown api-version",
        )


async def find_namespace(request: Request, name: str) -> Namespace:
    """The namespace that a path names.

    Raises:
        NotFound: there is none of that name in that subscription and resource group.
    """
    namespace = await services_of(request).registry.namespace(name)
    path = request.path_params
    same = (
        path["subscription"].lower() == namespace.subscription_id.lower()
        and path["group"].lower() == namespace.resource_group.lower()
    )
    if not same:
        raise NotFound(f"there is no namespace {name} in this resource group")
    return namespace


def namespace_of(request: Request) -> Namespace:
    """The namespace on which the route authorized its caller."""
    namespace: Namespace = request.state.namespace
    return namespace


def found_namespace(request: Request) -> Namespace | None:
    """Like `namespace_of`, on a `NamespaceItselfRoute`: None where there is none."""
    namespace: Namespace | None = request.state.namespace
    return namespace


def namespace_path(namespace: Namespace) -> str:
    """The resource id of a namespace."""
    return (
        f"/subscriptions/{namespace.subscription_id}/resourceGroups/{namespace.resource_group}"
        f"/providers/Microsoft.DeviceRegistry/namespaces/{namespace.name}"
    )


def resource(
    path: str,
    name: str,
    type_: str,
    properties: Mapping[str, Any],
    *,
    created_at: datetime,
    updated_at: datetime,
    **more: Any,
) -> dict[str, Any]:
    """A resource as every list and answer shows it."""
    return {
        "id": path,
        "name": name,
        "type": type_,
        "systemData": {
            "createdAt": iso8601(created_at),
            "lastModifiedAt": iso8601(updated_at),
        },
        "properties": dict(properties),
        **more,
    }


def page_of(
    request: Request, values: list[dict[str, Any]], *, limit: int, last: str | None
) -> dict[str, Any]:
    """A page; a full one has the link of the next, behind the name `last`."""
    shown: dict[str, Any] = {"value": values}
    if len(values) == limit and last is not None:
        shown["nextLink"] = next_link(request, last)
    return shown


def next_link(request: Request, last: str) -> str:
    """The address of the page behind the name `last`."""
    query = urlencode({"api-version": request.query_params["api-version"], "$skipToken": last})
    return f"{request.url.replace(query='')}?{query}".replace("??", "?")


def skip_token(request: Request) -> str:
    """Behind which name a page begins."""
    return request.query_params.get("$skipToken", "")[:512]


def if_match(request: Request) -> str | None:
    """The etag that must be there: bare, in quotes, or `*`.

    Raises:
        InvalidArgument: it is too long to be one.
    """
    value = request.headers.get("if-match")
    if value is None:
        return None
    if len(value) > MAX_ETAG:
        raise InvalidArgument("If-Match: is not an etag")
    return value.strip().removeprefix("W/").strip('"')


def check_absent(request: Request) -> None:
    """What `PUT` asks of a resource that it would create.

    Raises:
        EtagMismatch: a version must be there.
    """
    if if_match(request) is not None:
        raise EtagMismatch("the resource does not exist")


def check_present(request: Request) -> None:
    """What `PUT` asks of a resource that it would change, beside `if_match`.

    Raises:
        EtagMismatch: none may be there.
    """
    if creates_only(request):
        raise EtagMismatch("the resource exists")


def property_change(name: str) -> Conflict:
    """The refusal of `PUT` and `PATCH` to change what is said once, when a resource is made."""
    return Conflict(
        f"{name}: cannot be changed on a resource that exists", reason="property change not allowed"
    )


def creates_only(request: Request) -> bool:
    """Whether nothing may be there: `If-None-Match: *`."""
    return request.headers.get("if-none-match", "").strip() == "*"
