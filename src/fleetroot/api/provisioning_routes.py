"""What the routes of the provisioning service API have in common: its versions, who may ask, and of
which service.

Shared access signatures of the service's policies open it, each route by the right that it names;
and bearer tokens, by the roles that they carry on the service's namespace. The request's host name
says which service is spoken to; one that none has, the oldest.

Source: Azure DPS service REST API, 2018-09-01-preview to 2026-11-15-preview.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.routing import APIRoute

from fleetroot.api.data_plane import DataPlaneRoute, Spoken, asks, check_version
from fleetroot.api.description import operation_id
from fleetroot.api.services import services_of
from fleetroot.provisioning.model import Service
from fleetroot.sas import SasToken

__all__ = ["Addressed", "ApiVersion", "ProvisioningRoute", "asks", "provisioning_router"]

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


def _api_version(
    version: Annotated[str, Query(alias="api-version", max_length=64)] = SERVICE_VERSIONS[-1],
) -> str:
    """The version of the API that the client speaks; left out, the newest."""
    return check_version(version, SERVICE_VERSIONS)


class ProvisioningRoute(DataPlaneRoute):
    """A route for callers who may ask this of the service that they speak to."""

    async def find(self, request: Request) -> Service:
        """See `DataPlaneRoute.find`."""
        return await services_of(request).administration.addressed(request.url.hostname or "")

    async def verify(self, request: Request, spoken: Spoken, token: SasToken) -> None:
        """See `DataPlaneRoute.verify`."""
        assert isinstance(spoken, Service)  # noqa: S101 - `find` found it
        await services_of(request).administration.authorize(spoken, token, self.asked.right)


def _authorized_service(request: Request) -> Service:
    """The provisioning service on which the route authorized the caller."""
    service: Service = request.state.spoken
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
