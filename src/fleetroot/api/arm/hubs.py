"""Hubs: `Microsoft.Devices/IotHubs`.

Source: Azure IoT Hub resource provider REST API, 2023-06-30 and later.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.arm.resources import (
    SUCCEEDED,
    Location,
    Page,
    Resource,
    Sent,
    Shown,
    Tags,
)
from fleetroot.api.arm.routing import CHANGES, PUTS, creates_only, if_match, namespace_path
from fleetroot.api.arm.service_bodies import (
    NameAvailability,
    NameBody,
    RuleBody,
    ShownRule,
    SkuBody,
    TagsBody,
    check_unsaid,
    description,
    sku_body,
    tracked,
    wanted_policies,
)
from fleetroot.api.arm.service_calls import (
    all_keys,
    availability,
    deleted,
    keys_of_one,
    listed,
    retagged,
)
from fleetroot.api.arm.service_routing import (
    HUBS,
    SUBSCRIPTION,
    HubRoute,
    hub_of,
    namespace_wanted,
    namespaces_by_id,
    there_of,
)
from fleetroot.api.description import answers, replaced
from fleetroot.api.services import services_of
from fleetroot.hub.administration import DescribedHub, HubAdministration
from fleetroot.registry.model import Namespace

_HUB: Final = HUBS + "/{hub}"
router = APIRouter(route_class=HubRoute)


class DeviceRegistry(Sent):
    """The namespace that the hub belongs to, by its resource id, as it is sent and shown."""

    namespace_resource_id: Annotated[str, Field(max_length=1024)] | None = None


class HubWish(Sent):
    """A hub's properties, as they are sent. What is read-only is ignored; what would keep somebody
    out and is not built is refused.
    """

    authorization_policies: Annotated[list[RuleBody], Field(max_length=16)] | None = None
    device_registry: DeviceRegistry | None = None
    disable_local_auth: bool | None = None
    disable_device_sas: bool | None = Field(default=None, alias="disableDeviceSAS")
    disable_module_sas: bool | None = Field(default=None, alias="disableModuleSAS")
    public_network_access: Literal["Enabled", "Disabled"] | None = None
    ip_filter_rules: Annotated[list[Any], Field(max_length=1000)] | None = None
    network_rule_sets: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _keeps_what_it_says(self) -> HubWish:
        check_unsaid(
            {
                "disableLocalAuth": self.disable_local_auth,
                "disableDeviceSAS": self.disable_device_sas,
                "disableModuleSAS": self.disable_module_sas,
                "publicNetworkAccess": self.public_network_access == "Disabled",
                "ipFilterRules": self.ip_filter_rules,
                "networkRuleSets": self.network_rule_sets,
            }
        )
        return self


class HubBody(Sent):
    """A hub, as it is sent."""

    location: Location
    tags: Tags | None = None
    sku: SkuBody = Field(default_factory=SkuBody)
    properties: HubWish = Field(default_factory=HubWish)


class ShownLocation(Shown):
    """Where a hub is."""

    location: str
    role: Literal["primary", "secondary"] = "primary"


class HubProperties(Shown):
    """A hub's properties, as they are shown; keys are behind `listkeys`."""

    host_name: str
    state: str = "Active"
    provisioning_state: str = SUCCEEDED
    locations: list[ShownLocation]
    device_registry: DeviceRegistry | None = None
    public_network_access: str = "Enabled"
    min_tls_version: str = "1.2"


class HubResource(Resource):
    """A hub."""

    sku: SkuBody
    properties: HubProperties


@router.put(
    _HUB,
    status_code=201,
    response_model_exclude_none=True,
    dependencies=PUTS,
    responses=replaced(HubResource) | answers(409, 412),
)
@needs(Permission.WRITE_SERVICES)
async def put(
    request: Request,
    subscription: str,
    group: str,
    hub: str,
    body: HubBody,
    response: Response,
) -> HubResource:
    """Creates a hub (201), or replaces what was said of it (200)."""
    registry = body.properties.device_registry
    wanted = registry.namespace_resource_id if registry else None
    put, created = await _room(request).put(
        await namespace_wanted(request, wanted, there_of(request)),
        hub,
        description(subscription, group, body.location, body.tags, body.sku),
        policies=wanted_policies(body.properties.authorization_policies),
        if_match=if_match(request),
        create_only=creates_only(request),
        by=actor_of(request),
    )
    if not created:
        response.status_code = 200
    return await _shown(request, put)


@router.get(_HUB, response_model_exclude_none=True)
@needs(Permission.READ)
async def get(request: Request) -> HubResource:
    """One hub."""
    return await _shown(request, hub_of(request))


@router.patch(_HUB, response_model_exclude_none=True, dependencies=CHANGES, responses=answers(412))
@needs(Permission.WRITE_SERVICES)
async def patch(request: Request, hub: str, body: TagsBody) -> HubResource:
    """Replaces a hub's tags."""
    return await _shown(request, await retagged(request, _room(request), hub, body.tags))


@router.delete(_HUB, status_code=204, dependencies=CHANGES, responses=answers(409, 412))
@needs(Permission.WRITE_SERVICES)
async def delete(request: Request, hub: str) -> Response:
    """Deletes a hub to which nothing is linked."""
    return await deleted(request, _room(request), hub)


@router.get(HUBS, response_model_exclude_none=True)
@needs(Permission.READ)
async def list_(request: Request) -> Page[HubResource]:
    """The hubs of a resource group, by name."""
    return await _page(request)


@router.get(SUBSCRIPTION + "/IotHubs", response_model_exclude_none=True)
@needs(Permission.READ)
async def list_by_subscription(request: Request) -> Page[HubResource]:
    """The hubs of a subscription, by name."""
    return await _page(request)


@router.post(SUBSCRIPTION + "/checkNameAvailability", response_model_exclude_none=True)
@needs(Permission.READ)
async def check_name_availability(request: Request, body: NameBody) -> NameAvailability:
    """Whether a hub can have this name."""
    return await availability(_room(request), body.name)


@router.post(_HUB + "/listkeys", response_model_exclude_none=True)
@needs(Permission.READ_SECRETS)
async def list_keys(request: Request) -> Page[ShownRule]:
    """A hub's shared access policies with their keys."""
    return await all_keys(request)


@router.post(_HUB + "/IotHubKeys/{key}/listkeys")
@needs(Permission.READ_SECRETS)
async def list_key(request: Request, key: str) -> ShownRule:
    """One of a hub's shared access policies with its keys."""
    return await keys_of_one(request, key)


def _room(request: Request) -> HubAdministration:
    return services_of(request).hub_administration


async def _page(request: Request) -> Page[HubResource]:
    namespaces = await namespaces_by_id(request)
    found = await listed(request, _room(request))
    return Page(value=[_body(one, namespaces) for one in found])


async def _shown(request: Request, found: DescribedHub) -> HubResource:
    return _body(found, await namespaces_by_id(request))


def _body(found: DescribedHub, namespaces: dict[str, Namespace]) -> HubResource:
    said, namespace = found.resource.description, namespaces.get(found.hub.namespace_id)
    return HubResource(
        **dict(tracked(found, found.hub.created_at)),
        sku=sku_body(said),
        properties=HubProperties(
            host_name=found.hub.host_name,
            locations=[ShownLocation(location=said.location)],
            device_registry=DeviceRegistry(namespace_resource_id=namespace_path(namespace))
            if namespace
            else None,
        ),
    )
