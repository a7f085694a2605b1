"""Provisioning services: `Microsoft.Devices/provisioningServices`.

Source: Azure Device Provisioning Service resource provider REST API, 2026-11-01 and before.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from fleetroot import sas
from fleetroot.access import EVERYWHERE, Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.arm.routing import creates_only, namespace_path
from fleetroot.api.arm.service_bodies import (
    Name,
    NameAvailability,
    NameBody,
    RuleBody,
    RulePage,
    SkuBody,
    SystemData,
    Tags,
    TagsBody,
    Wire,
    description,
    rule_body,
    rule_page,
    sku_body,
    system_data,
    wanted_policies,
)
from fleetroot.api.arm.service_routing import (
    SERVICES,
    SUBSCRIPTION,
    IfMatch,
    ServiceRoute,
    Version,
    caller_of,
    is_listed,
    namespace_wanted,
    namespaces_by_id,
    service_of,
    there_of,
)
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument, NotFound
from fleetroot.ids import check_name
from fleetroot.provisioning.hub_links import MAX_LINKS, MAX_WEIGHT, WantedLink
from fleetroot.provisioning.model import Allocation
from fleetroot.provisioning.service_administration import DescribedService
from fleetroot.provisioning.services import Link
from fleetroot.registry.model import Namespace

TYPE: Final = "Microsoft.Devices/provisioningServices"
_SERVICE: Final = SERVICES + "/{service}"
_HIDDEN: Final = "****"  # in the place of a key: as it is shown, and as it comes back
router = APIRouter(route_class=ServiceRoute, dependencies=[Version])


class LinkBody(Wire):
    """A linked hub: by a connection string, or by its host name."""

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


class NamespaceLink(Wire):
    """The namespace that the service belongs to, by its resource id."""

    resource_id: Annotated[str, Field(max_length=1024)]
    authentication_type: str = "SystemAssigned"
    linking_state: str = "Succeeded"


class ServiceWish(Wire):
    """A service's properties, as they are sent. What is read-only is ignored; what would keep
    somebody out and is not built is refused.
    """

    allocation_policy: Allocation | None = None
    authorization_policies: Annotated[list[RuleBody], Field(max_length=16)] | None = None
    iot_hubs: Annotated[list[LinkBody], Field(max_length=MAX_LINKS)] | None = None
    device_registry_namespaces: Annotated[list[NamespaceLink], Field(max_length=1)] | None = None
    disable_local_auth: bool | None = None
    public_network_access: Literal["Enabled", "Disabled"] | None = None
    ip_filter_rules: Annotated[list[Any], Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _keeps_what_it_says(self) -> ServiceWish:
        refused = {
            "disableLocalAuth": self.disable_local_auth,
            "publicNetworkAccess": self.public_network_access == "Disabled",
            "ipFilterRules": self.ip_filter_rules,
        }
        for name, said in refused.items():
            if said:
                raise ValueError(f"{name} is not supported")
        return self


class ServiceBody(Wire):
    """A provisioning service, as it is sent."""

    location: Name
    tags: Tags | None = None
    etag: Annotated[str, Field(max_length=256)] | None = None
    sku: SkuBody = Field(default_factory=SkuBody)
    properties: ServiceWish = Field(default_factory=ServiceWish)


class ServiceProperties(Wire):
    """A service's properties, as they are shown; keys are behind `listkeys`."""

    state: str = "Active"
    provisioning_state: str = "Succeeded"
    public_network_access: str = "Enabled"
    id_scope: str
    service_operations_host_name: str
    device_provisioning_host_name: str
    allocation_policy: Allocation
    iot_hubs: list[LinkBody]
    device_registry_namespaces: list[NamespaceLink] | None = None


class ServiceResourceBody(Wire):
    """A provisioning service, as it is shown."""

    id: str
    name: str
    type: str = TYPE
    location: str
    tags: dict[str, str]
    etag: str
    resourcegroup: str = Field(alias="resourcegroup")
    subscriptionid: str = Field(alias="subscriptionid")
    sku: SkuBody
    properties: ServiceProperties
    system_data: SystemData


class ServicePage(Wire):
    """Provisioning services: all of them."""

    value: list[ServiceResourceBody]


@router.put(
    _SERVICE, response_model_exclude_none=True, responses={201: {"model": ServiceResourceBody}}
)
@needs(Permission.WRITE_SERVICES)
async def put(
    request: Request,
    subscription: str,
    group: str,
    service: str,
    body: ServiceBody,
    response: Response,
    etag: IfMatch,
) -> ServiceResourceBody:
    """Creates a provisioning service, or replaces what was said of it. The etag of a body counts
    where no header has one: this SDK sends none.
    """
    wish, there = body.properties, there_of(request)
    registries = wish.device_registry_namespaces
    wanted = registries[0].resource_id if registries else None
    put, created = await services_of(request).provisioning_services.put(
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
    response.status_code = 201 if created else 200
    return await _shown(request, put)


@router.get(_SERVICE, response_model_exclude_none=True)
@needs(Permission.READ)
async def get(request: Request) -> ServiceResourceBody:
    """One provisioning service."""
    return await _shown(request, service_of(request))


@router.patch(_SERVICE, response_model_exclude_none=True)
@needs(Permission.WRITE_SERVICES)
async def patch(
    request: Request, service: str, body: TagsBody, etag: IfMatch
) -> ServiceResourceBody:
    """Replaces a provisioning service's tags."""
    if body.tags is None:
        return await _shown(request, service_of(request))
    changed = await services_of(request).provisioning_services.set_tags(
        service, body.tags, if_match=etag, by=actor_of(request)
    )
    return await _shown(request, changed)


@router.delete(_SERVICE, status_code=204)
@needs(Permission.WRITE_SERVICES)
async def delete(request: Request, service: str, etag: IfMatch) -> Response:
    """Deletes a provisioning service without enrollments."""
    if there_of(request) is not None:
        await services_of(request).provisioning_services.delete(
            service, if_match=etag, by=actor_of(request)
        )
    return Response(status_code=204)


@router.get(SERVICES, response_model_exclude_none=True)
@needs(Permission.READ)
async def list_(request: Request) -> ServicePage:
    """The provisioning services of a resource group, by name."""
    return await _page(request)


@router.get(SUBSCRIPTION + "/provisioningServices", response_model_exclude_none=True)
@needs(Permission.READ)
async def list_by_subscription(request: Request) -> ServicePage:
    """The provisioning services of a subscription, by name."""
    return await _page(request)


@router.post(
    SUBSCRIPTION + "/checkProvisioningServiceNameAvailability", response_model_exclude_none=True
)
@needs(Permission.READ)
async def check_name_availability(request: Request, body: NameBody) -> NameAvailability:
    """Whether a provisioning service can have this name."""
    caller_of(request).require(Permission.READ, EVERYWHERE)
    try:
        check_name(body.name, "provisioning service")
        await services_of(request).provisioning_services.get(body.name)
    except InvalidArgument as error:
        return NameAvailability(name_available=False, reason="Invalid", message=error.message)
    except NotFound:
        return NameAvailability(name_available=True)
    message = f"the name {body.name} is taken"
    return NameAvailability(name_available=False, reason="AlreadyExists", message=message)


@router.post(_SERVICE + "/listkeys")
@needs(Permission.READ_SECRETS)
async def list_keys(request: Request) -> RulePage:
    """A provisioning service's shared access policies with their keys."""
    owner = service_of(request).owner
    found = await services_of(request).access_keys.read_all(owner, by=actor_of(request))
    return rule_page(found)


@router.post(_SERVICE + "/keys/{key}/listkeys")
@needs(Permission.READ_SECRETS)
async def list_key(request: Request, key: str) -> RuleBody:
    """One of a provisioning service's shared access policies with its keys."""
    owner = service_of(request).owner
    return rule_body(await services_of(request).access_keys.read(owner, key, by=actor_of(request)))


async def _page(request: Request) -> ServicePage:
    namespaces = await namespaces_by_id(request)
    found = await services_of(request).provisioning_services.list_all()
    return ServicePage(value=[_body(one, namespaces) for one in found if is_listed(request, one)])


async def _shown(request: Request, found: DescribedService) -> ServiceResourceBody:
    return _body(found, await namespaces_by_id(request))


def service_path(found: DescribedService) -> str:
    """The resource id of a provisioning service."""
    said = found.resource.description
    return (
        f"/subscriptions/{said.subscription_id}/resourceGroups/{said.resource_group}"
        f"/providers/{TYPE}/{found.service.name}"
    )


def _body(found: DescribedService, namespaces: dict[str, Namespace]) -> ServiceResourceBody:
    said, service = found.resource.description, found.service
    namespace = namespaces.get(service.namespace_id)
    return ServiceResourceBody(
        id=service_path(found),
        name=service.name,
        location=said.location,
        tags=dict(said.tags),
        etag=found.resource.etag,
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
        system_data=system_data(service.created_at, found.resource),
    )


def _link(link: Link) -> LinkBody:
    host = link.hub.host_name
    by_key = link.key_name is not None
    return LinkBody(
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
