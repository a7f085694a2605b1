"""What the routes of the hub's service API have in common: its versions, who may ask, and of which
hub: the one of the request's host name; where none has it, the oldest.

Source: Azure IoT Hub service REST API, 2021-04-12; and the versions that its SDKs send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.routing import APIRoute

from fleetroot.api.data_plane import DataPlaneRoute, Spoken, asks, check_version
from fleetroot.api.description import operation_id
from fleetroot.api.hub_errors import HubErrorBody
from fleetroot.api.services import services_of
from fleetroot.hub.model import Hub
from fleetroot.sas import SasToken

__all__ = ["AddressedHub", "HubServiceRoute", "asks", "hub_router"]

HUB_SERVICE_VERSIONS: Final = (
    "2018-06-30",
    "2019-10-01",
    "2020-03-13",
    "2020-05-31-preview",
    "2020-09-30",
    "2021-04-12",
    "2025-08-01-preview",
)


def _api_version(
    version: Annotated[str, Query(alias="api-version", max_length=64)] = "2021-04-12",
) -> str:
    """The version of the API that the client speaks."""
    return check_version(version, HUB_SERVICE_VERSIONS)


class HubServiceRoute(DataPlaneRoute):
    """A route for callers who may ask this of the hub that they speak to."""

    error_body = HubErrorBody

    async def find(self, request: Request) -> Hub:
        """See `DataPlaneRoute.find`."""
        return await services_of(request).hub_access.addressed(request.url.hostname or "")

    async def verify(self, request: Request, spoken: Spoken, token: SasToken) -> None:
        """See `DataPlaneRoute.verify`."""
        assert isinstance(spoken, Hub)  # noqa: S101 - `find` found it
        await services_of(request).hub_access.authorize(spoken, token, self.asked.right)


def _authorized_hub(request: Request) -> Hub:
    """The hub on which the route authorized the caller."""
    hub: Hub = request.state.spoken
    return hub


AddressedHub = Annotated[Hub, Depends(_authorized_hub)]
"""The hub on which the caller is authorized."""


def hub_router(name_of: Callable[[APIRoute], str] = operation_id) -> APIRouter:
    """A router for routes of this API, each of which refuses a version that is not known.

    Args:
        name_of: the operation id of a route.
    """
    return APIRouter(
        dependencies=[Depends(_api_version)],
        route_class=HubServiceRoute,
        generate_unique_id_function=name_of,
    )
