"""Devices of a namespace."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.arm.resources import Page, Resource
from fleetroot.api.arm.routing import (
    NAMESPACE,
    PAGE,
    ArmRoute,
    SkipToken,
    namespace_of,
    namespace_path,
    page_of,
    resource,
)
from fleetroot.api.description import Responses, answers
from fleetroot.api.preconditions import IfMatch, IfNoneMatch
from fleetroot.api.services import services_of
from fleetroot.clock import iso8601
from fleetroot.errors import InvalidArgument
from fleetroot.registry.device_resources import DescribedDevice, Description
from fleetroot.registry.model import DEFAULT_LOCATION, Namespace

TYPE: Final = "Microsoft.DeviceRegistry/namespaces/devices"
router = APIRouter(route_class=ArmRoute)

_Word = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True, strict=True)


class PolicyReference(_Wire):
    """The policy that issues to the device, by its resource id."""

    resource_id: str | None = Field(default=None, alias="resourceId", max_length=1024)


class UpdateProperties(_Wire):
    """What `PATCH` may change."""

    enabled: bool | None = None
    operating_system_version: _Word | None = Field(default=None, alias="operatingSystemVersion")
    endpoints: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None
    policy: PolicyReference | None = None


class Properties(UpdateProperties):
    """A device's properties, as they are sent; what is read-only is ignored."""

    external_device_id: _Word | None = Field(default=None, alias="externalDeviceId")
    discovered_device_ref: _Word | None = Field(default=None, alias="discoveredDeviceRef")
    manufacturer: _Word | None = None
    model: _Word | None = None
    operating_system: _Word | None = Field(default=None, alias="operatingSystem")


class DeviceBody(_Wire):
    """A device, as it is sent."""

    location: str = DEFAULT_LOCATION
    tags: dict[str, str] | None = None
    properties: Properties = Field(default_factory=Properties)


class UpdateBody(_Wire):
    """What changes of a device."""

    tags: dict[str, str] | None = None
    properties: UpdateProperties = Field(default_factory=UpdateProperties)


class RevokeBody(_Wire):
    """How to revoke."""

    disable: bool | None = None


class DeviceProperties(Properties):
    """A device's properties, as they are answered."""

    uuid: str
    enabled: bool
    version: int
    last_transition_time: str = Field(alias="lastTransitionTime")
    provisioning_state: Literal["Succeeded"] = Field(alias="provisioningState")


class DeviceResource(Resource):
    """A device."""

    properties: DeviceProperties


_MADE: Final[Responses] = {201: {"model": DeviceResource, "description": "It was made."}}


@router.put(
    NAMESPACE + "/devices/{device}",
    response_model=DeviceResource,
    response_model_exclude_unset=True,
    responses=_MADE | answers(412),
)
@needs(Permission.WRITE_DEVICES)
async def put(
    request: Request,
    device: str,
    body: DeviceBody,
    response: Response,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> dict[str, Any]:
    """Creates a device, or replaces its description."""
    namespace, services = namespace_of(request), services_of(request)
    properties = body.properties
    described, created = await services.device_resources.put(
        namespace,
        device,
        Description(body.location, body.tags or {}, _kept(properties)),
        enabled=properties.enabled is not False,
        policy=_policy_name(namespace, properties.policy),
        if_match=if_match,
        create_only=if_none_match == "*",
        by=actor_of(request),
    )
    response.status_code = 201 if created else 200
    return await _shown(request, namespace, described)


@router.patch(
    NAMESPACE + "/devices/{device}",
    response_model=DeviceResource,
    response_model_exclude_unset=True,
    responses=answers(412),
)
@needs(Permission.WRITE_DEVICES)
async def patch(
    request: Request, device: str, body: UpdateBody, if_match: IfMatch = None
) -> dict[str, Any]:
    """Changes a device."""
    namespace = namespace_of(request)
    described = await services_of(request).device_resources.update(
        namespace,
        device,
        tags=body.tags,
        properties=_given(body.properties),
        enabled=body.properties.enabled,
        policy=_policy_name(namespace, body.properties.policy),
        if_match=if_match,
        by=actor_of(request),
    )
    return await _shown(request, namespace, described)


@router.get(
    NAMESPACE + "/devices/{device}",
    response_model=DeviceResource,
    response_model_exclude_unset=True,
)
@needs(Permission.READ)
async def get(request: Request, device: str) -> dict[str, Any]:
    """One device."""
    namespace = namespace_of(request)
    described = await services_of(request).device_resources.get(namespace, device)
    return await _shown(request, namespace, described)


@router.get(
    NAMESPACE + "/devices",
    response_model=Page[DeviceResource],
    response_model_exclude_unset=True,
)
@needs(Permission.READ)
async def list_(request: Request, after: SkipToken = "") -> dict[str, Any]:
    """A page of devices, by their ids."""
    namespace = namespace_of(request)
    found = await services_of(request).device_resources.page(namespace, after=after, limit=PAGE)
    names = await _policy_names(request, namespace)
    values = [_resource(namespace, one, names) for one in found]
    return page_of(request, values, limit=PAGE, last=found[-1].device.device_id if found else None)


@router.delete(NAMESPACE + "/devices/{device}", status_code=204, responses=answers(412))
@needs(Permission.WRITE_DEVICES)
async def delete(request: Request, device: str, if_match: IfMatch = None) -> Response:
    """Deletes a device: its certificates are revoked."""
    await services_of(request).device_resources.delete(
        namespace_of(request), device, if_match=if_match, by=actor_of(request)
    )
    return Response(status_code=204)


@router.post(NAMESPACE + "/devices/{device}/revoke", response_class=Response)
@needs(Permission.WRITE_DEVICES)
async def revoke(request: Request, device: str, body: RevokeBody | None = None) -> Response:
    """Revokes every certificate of a device, and ends its connection."""
    await services_of(request).registry.revoke(
        namespace_of(request),
        device,
        disable=bool(body and body.disable),
        by=actor_of(request),
    )
    return Response(status_code=200)


def _kept(properties: Properties) -> dict[str, Any]:
    """What of the properties is kept as it was sent."""
    return {name: value for name, value in _given(properties).items() if value is not None}


def _given(properties: UpdateProperties) -> dict[str, Any]:
    given = properties.model_dump(by_alias=True, exclude_unset=True)
    return {n: v for n, v in given.items() if n not in ("enabled", "policy")}


def _policy_name(namespace: Namespace, policy: PolicyReference | None) -> str | None:
    """The policy of a reference: one of this namespace.

    Raises:
        InvalidArgument: it is another resource.
    """
    if policy is None or policy.resource_id is None:
        return None
    under, _, name = policy.resource_id.rpartition("/")
    places = (
        f"{namespace_path(namespace)}/credentials/default/policies",
        f"{namespace_path(namespace)}/certificateAuthorities/{name}/certificatePolicies",
    )
    if under.lower() not in (place.lower() for place in places):
        raise InvalidArgument("policy: resourceId is not a policy of this namespace")
    return name


async def _policy_names(request: Request, namespace: Namespace) -> dict[str, str]:
    found = await services_of(request).registry.policies(namespace)
    return {policy.id: policy.name for policy in found}


async def _shown(
    request: Request, namespace: Namespace, described: DescribedDevice
) -> dict[str, Any]:
    return _resource(namespace, described, await _policy_names(request, namespace))


def _resource(
    namespace: Namespace, described: DescribedDevice, policy_names: dict[str, str]
) -> dict[str, Any]:
    device, description = described.device, described.description
    path = namespace_path(namespace)
    properties = {
        **description.properties,
        "uuid": str(device.uuid),
        "enabled": device.enabled,
        "version": device.version,
        "lastTransitionTime": iso8601(device.updated_at),
        "provisioningState": "Succeeded",
    }
    if (policy := policy_names.get(device.policy_id or "")) is not None:
        properties["policy"] = {"resourceId": f"{path}/credentials/default/policies/{policy}"}
    return resource(
        f"{path}/devices/{device.device_id}",
        device.device_id,
        TYPE,
        properties,
        created_at=device.created_at,
        updated_at=device.updated_at,
        location=description.location,
        tags=dict(description.tags),
        etag=device.etag,
    )
