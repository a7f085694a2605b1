"""Provisioning services: `Microsoft.Devices/provisioningServices`.

Source: Azure Device Provisioning Service resource provider REST API, 2026-11-01 and before.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from fleetroot import sas
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
    Word,
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
    SERVICES,
    SUBSCRIPTION,
    ServiceRoute,
    namespace_wanted,
    namespaces_by_id,
    service_of,
    there_of,
)
from fleetroot.api.description import answers, replaced
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument
from fleetroot.provisioning.hub_links import MAX_LINKS, MAX_WEIGHT, WantedLink
from fleetroot.provisioning.model import Allocation
from fleetroot.provisioning.service_administration import DescribedService, ServiceAdministration
from fleetroot.provisioning.services import Link
from fleetroot.registry.model import Namespace

_SERVICE: Final = SERVICES + "/{service}"
_HIDDEN: Final = "****"  # in the place of a key: as it is shown, and as it comes back
router = APIRouter(route_class=ServiceRoute)


class LinkBody(Sent):
    """A hub to be linked: by a connection string, or by its host name."""

    name: str | None = Field(default=None, max_length=256)
    host_name: Annotated[str, Field(max_length=256)] | None = None
    authentication_type: Literal["KeyBased", "SystemAssigned", "UserAssigned"] | None = None
    connection_string: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None, repr=False
    )
    location: Annotated[str, Field(max_length=256)] | None = None
    allocation_weight: Annotated[int, Field(ge=1, le=MAX_WEIGHT)] | None = None
    apply_allocation_policy: bool | None = None

    def wanted(self) -> WantedLink:
        """Raises:
        InvalidArgument: it names no hub.
        """
        how = {"weight": self.allocation_weight, "allocates": self.apply_allocation_policy}
        if not self.connection_string:
            if not self.host_name:
                raise InvalidArgument("iotHubs: give a connectionString or a hostName")
            return WantedLink(self.host_name, **how)  # type: ignore[arg-type]
        parts = dict(part.partition("=")[::2] for part in self.connection_string.split(";") if part)
        host, name, key = map(parts.get, ("HostName", "SharedAccessKeyName", "SharedAccessKey"))
        if not host or not name or not key:
            raise InvalidArgument(
                "connectionString: must have HostName, SharedAccessKeyName and SharedAccessKey"
            )
        raw = None if key == _HIDDEN else sas.decode_key(key)
        return WantedLink(host, name, raw, **how)  # type: ignore[arg-type]


class ShownLink(Shown):
    """A linked hub; of its connection string, the key is not shown."""

    name: str
    host_name: str
    authentication_type: Literal["KeyBased", "SystemAssigned"]
    connection_string: str | None = None
    location: str
    allocation_weight: int
    apply_allocation_policy: bool


class NamespaceLink(Sent):
    """The namespace that the service belongs to, by its resource id, as it is sent and shown."""

    resource_id: Annotated[str, Field(max_length=1024)]
    authentication_type: Word = "SystemAssigned"
    linking_state: Word = SUCCEEDED


class ServiceWish(Sent):
    """A service's properties, as they are sent. What is read-only is ignored; what would keep
    somebody out and is not built is refused.
    """

    allocation_policy: Annotated[Allocation, Field(strict=False)] | None = None
    authorization_policies: Annotated[list[RuleBody], Field(max_length=16)] | None = None
    iot_hubs: Annotated[list[LinkBody], Field(max_length=MAX_LINKS)] | None = None
    device_registry_namespaces: Annotated[list[NamespaceLink], Field(max_length=1)] | None = None
    disable_local_auth: bool | None = None
    public_network_access: Literal["Enabled", "Disabled"] | None = None
    ip_filter_rules: Annotated[list[Any], Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _keeps_what_it_says(self) -> ServiceWish:
        check_unsaid(
            {
                "disableLocalAuth": self.disable_local_auth,
                "publicNetworkAccess": self.public_network_access == "Disabled",
                "ipFilterRules": self.ip_filter_rules,
            }
        )
        return self


class ServiceBody(Sent):
    """A provisioning service, as it is sent."""

    location: Location
    tags: Tags | None = None
    etag: Annotated[str, Field(max_length=256)] | None = None
    sku: SkuBody = Field(default_factory=SkuBody)
    properties: ServiceWish = Field(default_factory=ServiceWish)


class ServiceProperties(Shown):
    """A service's properties, as they are shown; keys are behind `listkeys`."""

    state: str = "Active"
    provisioning_state: str = SUCCEEDED
    public_network_access: str = "Enabled"
    id_scope: str
    service_operations_host_name: str
    device_provisioning_host_name: str
    allocation_policy: Allocation
    iot_hubs: list[ShownLink]
    device_registry_namespaces: list[NamespaceLink] | None = None


class ServiceResource(Resource):
    """A provisioning service."""

    resourcegroup: str = Field(alias="resourcegroup")
    subscriptionid: str = Field(alias="subscriptionid")
    sku: SkuBody
    properties: ServiceProperties


@router.put(
    _SERVICE,
    status_code=201,
    response_model_exclude_none=True,
    dependencies=PUTS,
    responses=replaced(ServiceResource) | answers(409, 412),
)
@needs(Permission.WRITE_SERVICES)
async def put(
    request: Request,
    subscription: str,
    group: str,
    service: str,
    body: ServiceBody,
    response: Response,
) -> ServiceResource:
    """Creates a provisioning service (201), or replaces what was said of it (200). The etag of a
    body counts where no header has one: this SDK sends none.
    """
    wish, there, etag = body.properties, there_of(request), if_match(request)
    registries = wish.device_registry_namespaces
    wanted = registries[0].resource_id if registries else None
    put, created = await _room(request).put(
        await namespace_wanted(request, wanted, there),
        service,
        description(subscription, group, body.location, body.tags, body.sku),
        allocation=wish.allocation_policy,
        policies=wanted_policies(wish.authorization_policies),
        links=None if wish.iot_hubs is None else [link.wanted() for link in wish.iot_hubs],
        if_match=etag if etag is not None or there is None else body.etag,
        create_only=creates_only(request),
        by=actor_of(request),
    )
    if not created:
        response.status_code = 200
    return await _shown(request, put)


@router.get(_SERVICE, response_model_exclude_none=True)
@needs(Permission.READ)
async def get(request: Request) -> ServiceResource:
    """One provisioning service."""
    return await _shown(request, service_of(request))


@router.patch(
    _SERVICE, response_model_exclude_none=True, dependencies=CHANGES, responses=answers(412)
)
@needs(Permission.WRITE_SERVICES)
async def patch(request: Request, service: str, body: TagsBody) -> ServiceResource:
    """Replaces a provisioning service's tags."""
    return await _shown(request, await retagged(request, _room(request), service, body.tags))


@router.delete(_SERVICE, status_code=204, dependencies=CHANGES, responses=answers(409, 412))
@needs(Permission.WRITE_SERVICES)
async def delete(request: Request, service: str) -> Response:
    """Deletes a provisioning service without enrollments."""
    return await deleted(request, _room(request), service)


@router.get(SERVICES, response_model_exclude_none=True)
@needs(Permission.READ)
async def list_(request: Request) -> Page[ServiceResource]:
    """The provisioning services of a resource group, by name."""
    return await _page(request)


@router.get(SUBSCRIPTION + "/provisioningServices", response_model_exclude_none=True)
@needs(Permission.READ)
async def list_by_subscription(request: Request) -> Page[ServiceResource]:
    """The provisioning services of a subscription, by name."""
    return await _page(request)


@router.post(
    SUBSCRIPTION + "/checkProvisioningServiceNameAvailability", response_model_exclude_none=True
)
@needs(Permission.READ)
async def check_name_availability(request: Request, body: NameBody) -> NameAvailability:
    """Whether a provisioning service can have this name."""
    return await availability(_room(request), body.name)


@router.post(_SERVICE + "/listkeys", response_model_exclude_none=True)
@needs(Permission.READ_SECRETS)
async def list_keys(request: Request) -> Page[ShownRule]:
    """A provisioning service's shared access policies with their keys."""
    return await all_keys(request)


@router.post(_SERVICE + "/keys/{key}/listkeys")
@needs(Permission.READ_SECRETS)
async def list_key(request: Request, key: str) -> ShownRule:
    """One of a provisioning service's shared access policies with its keys."""
    return await keys_of_one(request, key)


def _room(request: Request) -> ServiceAdministration:
    return services_of(request).provisioning_services


async def _page(request: Request) -> Page[ServiceResource]:
    namespaces = await namespaces_by_id(request)
    found = await listed(request, _room(request))
    return Page(value=[_body(one, namespaces) for one in found])


async def _shown(request: Request, found: DescribedService) -> ServiceResource:
    return _body(found, await namespaces_by_id(request))


def _body(found: DescribedService, namespaces: dict[str, Namespace]) -> ServiceResource:
    said, service = found.resource.description, found.service
    namespace = namespaces.get(service.namespace_id)
    return ServiceResource(
        **dict(tracked(found, service.created_at)),
        resourcegroup=said.resource_group,
        subscriptionid=said.subscription_id,
        sku=sku_body(said),
        properties=ServiceProperties(
            id_scope=service.id_scope,
            service_operations_host_name=service.host_name,
            device_provisioning_host_name=service.host_name,
            allocation_policy=service.allocation,
            iot_hubs=[_link(link) for link in found.links],
            device_registry_namespaces=[NamespaceLink(resource_id=namespace_path(namespace))]
            if namespace
            else None,
        ),
    )


def _link(link: Link) -> ShownLink:
    host = link.hub.host_name
    by_key = link.key_name is not None
    return ShownLink(
        name=host,
        host_name=host,
        authentication_type="KeyBased" if by_key else "SystemAssigned",
        connection_string=(
            f"HostName={host};SharedAccessKeyName={link.key_name};SharedAccessKey={_HIDDEN}"
            if by_key
            else None
        ),
        location=link.location,
        allocation_weight=link.hub.weight,
        apply_allocation_policy=link.hub.allocates,
    )
