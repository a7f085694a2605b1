"""The provisioning service API: enrollments and enrollment groups.

Shared access signatures of the provisioning service's policies open it, and the operator's token.
The request's host name says which provisioning service is spoken to; one that none has, the oldest.

Source: Azure DPS service REST API, 2021-10-01 and its previews.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from fleetroot import sas
from fleetroot.access import Permission
from fleetroot.api.access import actor_of, authenticate, bearer_of, shared_access_token
from fleetroot.api.answers import Answer, Nothing, Time, left_out
from fleetroot.api.description import BEARER, SHARED_ACCESS, answers
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.routing import AuthorizedRoute
from fleetroot.api.services import services_of
from fleetroot.api.tracing import peer_of, trace_id_of
from fleetroot.audit import Actor, ActorKind
from fleetroot.errors import InvalidArgument
from fleetroot.provisioning.administration import EnrollmentWithKeys
from fleetroot.provisioning.model import Attestation, EnrollmentKind, EnrollmentSettings, Service
from fleetroot.registry.shared_access import Right

# Those before 2025 do not know `credentialPolicyName`.
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
_KNOWS_POLICIES: Final = "2025"


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


_Version = Annotated[str, Depends(_api_version)]


class _EnrollmentRoute(AuthorizedRoute):
    schemes = (BEARER, SHARED_ACCESS)

    async def authorize(self, request: Request) -> None:
        administration = services_of(request).administration
        service = await administration.addressed(request.url.hostname or "")
        reads = request.method == "GET"
        if bearer_of(request) is not None:
            caller = await authenticate(request)
            # Keys are in every answer.
            caller.require(Permission.READ_SECRETS, service.namespace_id)
            if not reads:
                caller.require(Permission.WRITE_ENROLLMENTS, service.namespace_id)
        else:
            right = Right.ENROLLMENT_READ if reads else Right.ENROLLMENT_WRITE
            token = shared_access_token(request)
            await administration.authorize(service, token, right)
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


_Service = Annotated[Service, Depends(_authorized_service)]
router = APIRouter(dependencies=[Depends(_api_version)], route_class=_EnrollmentRoute)


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True, strict=True)


_Key = Annotated[str | None, Field(max_length=1024)]
_Name = Annotated[str, Field(max_length=256)]


class SymmetricKeyBody(_Wire):
    """Keys are base64; an empty one means: generate, or keep."""

    primary_key: _Key = Field(default=None, alias="primaryKey")
    secondary_key: _Key = Field(default=None, alias="secondaryKey")


class AttestationBody(_Wire):
    """How the devices prove who they are."""

    type: Literal["symmetricKey"]
    symmetric_key: SymmetricKeyBody = Field(default_factory=SymmetricKeyBody, alias="symmetricKey")


class ReprovisionBody(_Wire):
    """What happens when a device comes again."""

    update_hub_assignment: bool = Field(default=True, alias="updateHubAssignment")
    migrate_device_data: bool = Field(default=True, alias="migrateDeviceData")


class InitialPropertiesBody(_Wire):
    """The properties of a new twin."""

    desired: dict[str, Any] | None = None


class InitialTwinBody(_Wire):
    """What a new twin begins with."""

    tags: dict[str, Any] | None = None
    properties: InitialPropertiesBody | None = None


class EnrollmentBody(_Wire):
    """An enrollment or an enrollment group, as it is sent."""

    registration_id: _Name | None = Field(default=None, alias="registrationId")
    enrollment_group_id: _Name | None = Field(default=None, alias="enrollmentGroupId")
    device_id: _Name | None = Field(default=None, alias="deviceId")
    attestation: AttestationBody
    provisioning_status: Literal["enabled", "disabled"] = Field(
        default="enabled", alias="provisioningStatus"
    )
    reprovision_policy: ReprovisionBody = Field(
        default_factory=ReprovisionBody, alias="reprovisionPolicy"
    )
    allocation_policy: Literal["hashed", "static"] | None = Field(
        default=None, alias="allocationPolicy"
    )
    iot_hub_host_name: _Name | None = Field(default=None, alias="iotHubHostName")
    iot_hubs: list[_Name] | None = Field(default=None, alias="iotHubs")
    initial_twin: InitialTwinBody | None = Field(default=None, alias="initialTwin")
    credential_policy_name: _Name | None = Field(default=None, alias="credentialPolicyName")


class SymmetricKeyAnswer(Answer):
    """Keys, base64."""

    primary_key: str = Field(repr=False)
    secondary_key: str = Field(repr=False)


class AttestationAnswer(Answer):
    """How the devices prove who they are."""

    type: Attestation
    symmetric_key: SymmetricKeyAnswer


class ReprovisionAnswer(Answer):
    """What happens when a device comes again."""

    update_hub_assignment: bool
    migrate_device_data: bool


class EnrollmentAnswer(Answer):
    """An enrollment (`registrationId`) or an enrollment group (`enrollmentGroupId`)."""

    registration_id: str | Nothing = left_out()
    enrollment_group_id: str | Nothing = left_out()
    attestation: AttestationAnswer
    provisioning_status: Literal["enabled", "disabled"]
    reprovision_policy: ReprovisionAnswer
    allocation_policy: Literal["static", "hashed"]
    etag: str
    created: Time = Field(serialization_alias="createdDateTimeUtc")
    updated: Time = Field(serialization_alias="lastUpdatedDateTimeUtc")
    device_id: str | Nothing = left_out()
    initial_twin: dict[str, Any] | Nothing = left_out()
    iot_hubs: list[str] | Nothing = left_out()
    credential_policy_name: str | Nothing = left_out()


@router.put("/enrollments/{registration_id}", responses=answers(409, 412))
async def put_enrollment(
    request: Request,
    service: _Service,
    version: _Version,
    registration_id: str,
    body: EnrollmentBody,
    if_match: IfMatch = None,
) -> EnrollmentAnswer:
    """Creates or replaces an individual enrollment."""
    return await _put(
        request, service, EnrollmentKind.INDIVIDUAL, version, registration_id, body, if_match
    )


@router.put("/enrollmentGroups/{group_id}", responses=answers(409, 412))
async def put_group(
    request: Request,
    service: _Service,
    version: _Version,
    group_id: str,
    body: EnrollmentBody,
    if_match: IfMatch = None,
) -> EnrollmentAnswer:
    """Creates or replaces an enrollment group."""
    return await _put(request, service, EnrollmentKind.GROUP, version, group_id, body, if_match)


@router.get("/enrollments/{registration_id}")
async def get_enrollment(
    request: Request, service: _Service, registration_id: str
) -> EnrollmentAnswer:
    """One individual enrollment."""
    return await _get(request, service, EnrollmentKind.INDIVIDUAL, registration_id)


@router.get("/enrollmentGroups/{group_id}")
async def get_group(request: Request, service: _Service, group_id: str) -> EnrollmentAnswer:
    """One enrollment group."""
    return await _get(request, service, EnrollmentKind.GROUP, group_id)


@router.delete("/enrollments/{registration_id}", status_code=204, responses=answers(412))
async def delete_enrollment(
    request: Request, service: _Service, registration_id: str, if_match: IfMatch = None
) -> Response:
    """Deletes an individual enrollment."""
    await services_of(request).administration.delete(
        service, EnrollmentKind.INDIVIDUAL, registration_id, if_match, by=actor_of(request)
    )
    return Response(status_code=204)


@router.delete("/enrollmentGroups/{group_id}", status_code=204, responses=answers(412))
async def delete_group(
    request: Request, service: _Service, group_id: str, if_match: IfMatch = None
) -> Response:
    """Deletes an enrollment group."""
    await services_of(request).administration.delete(
        service, EnrollmentKind.GROUP, group_id, if_match, by=actor_of(request)
    )
    return Response(status_code=204)


async def _get(
    request: Request, service: Service, kind: EnrollmentKind, id_: str
) -> EnrollmentAnswer:
    found = await services_of(request).administration.get(service, kind, id_)
    return await _shown(request, service, found)


async def _put(
    request: Request,
    service: Service,
    kind: EnrollmentKind,
    version: str,
    id_: str,
    body: EnrollmentBody,
    if_match: str | None,
) -> EnrollmentAnswer:
    administration = services_of(request).administration
    named = body.registration_id if kind is EnrollmentKind.INDIVIDUAL else body.enrollment_group_id
    if named is not None and named.lower() != id_.lower():
        raise InvalidArgument("the id in the body is not the id in the path")
    policy = body.credential_policy_name
    settings = EnrollmentSettings(
        device_id=body.device_id or None,
        policy_id=await administration.policy_id(service, policy) if policy else None,
        enabled=body.provisioning_status == "enabled",
        hub_id=await _hub_id(request, service, body),
        update_hub_assignment=body.reprovision_policy.update_hub_assignment,
        migrate_device_data=body.reprovision_policy.migrate_device_data,
        initial_twin=_initial_twin(body.initial_twin),
    )
    keys = body.attestation.symmetric_key
    made = await administration.put(
        service,
        kind,
        id_,
        settings,
        primary_key=sas.decode_key(keys.primary_key) if keys.primary_key else None,
        secondary_key=sas.decode_key(keys.secondary_key) if keys.secondary_key else None,
        keep_policy=version < _KNOWS_POLICIES
        and "credential_policy_name" not in body.model_fields_set,
        if_match=if_match,
        by=actor_of(request),
    )
    return await _shown(request, service, made)


def _initial_twin(twin: InitialTwinBody | None) -> str | None:
    given = twin.model_dump(exclude_none=True, by_alias=True) if twin else {}
    try:
        return orjson.dumps(given).decode() if given else None
    except orjson.JSONEncodeError:
        raise InvalidArgument("initialTwin: a value is out of range") from None


async def _hub_id(request: Request, service: Service, body: EnrollmentBody) -> str | None:
    """The one hub that the enrollment names, if it names one."""
    named = body.iot_hub_host_name or (body.iot_hubs[0] if body.iot_hubs else None)
    if named is None:
        return None
    if body.iot_hubs and len(body.iot_hubs) > 1:
        raise InvalidArgument("iotHubs: allocation among several hubs is not offered yet")
    linked = await services_of(request).administration.linked_hubs(service)
    hub_id = linked.get(named.lower())
    if hub_id is None:
        raise InvalidArgument(f"iotHubs: {named} is not linked to this provisioning service")
    return hub_id


async def _shown(request: Request, service: Service, found: EnrollmentWithKeys) -> EnrollmentAnswer:
    enrollment, settings = found.enrollment, found.enrollment.settings
    administration = services_of(request).administration
    is_group = enrollment.kind is EnrollmentKind.GROUP
    hosts = policy = None
    if settings.hub_id:
        linked = await administration.linked_hubs(service)
        hosts = [host for host, id_ in linked.items() if id_ == settings.hub_id]
    if settings.policy_id:
        policy = (await administration.policy_names(service)).get(settings.policy_id)
    return EnrollmentAnswer(
        registration_id=None if is_group else enrollment.id,
        enrollment_group_id=enrollment.id if is_group else None,
        attestation=AttestationAnswer(
            type=settings.attestation,
            symmetric_key=SymmetricKeyAnswer(
                primary_key=sas.encode_key(found.keys.primary),
                secondary_key=sas.encode_key(found.keys.secondary),
            ),
        ),
        provisioning_status="enabled" if settings.enabled else "disabled",
        reprovision_policy=ReprovisionAnswer(
            update_hub_assignment=settings.update_hub_assignment,
            migrate_device_data=settings.migrate_device_data,
        ),
        allocation_policy="static" if settings.hub_id else "hashed",
        etag=enrollment.etag,
        created=enrollment.created_at,
        updated=enrollment.updated_at,
        device_id=settings.device_id or None,
        initial_twin=orjson.loads(settings.initial_twin) if settings.initial_twin else None,
        iot_hubs=hosts,
        credential_policy_name=policy,
    )
