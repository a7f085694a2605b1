"""The provisioning service API: enrollments and enrollment groups.

Shared access signatures of the provisioning service's policies open it, and the operator's token.
The request's host name says which provisioning service is spoken to; one that none has, the oldest.

Source: Azure DPS service REST API, 2021-10-01 and its previews.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from fleetroot import sas
from fleetroot.access import Permission
from fleetroot.api.access import actor_of, authenticate, bearer_of, shared_access_token
from fleetroot.api.description import BEARER, SHARED_ACCESS, answers
from fleetroot.api.enrollment_bodies import (
    EnrollmentAnswer,
    EnrollmentBody,
    SymmetricKeyBody,
    read_settings,
    show,
)
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.routing import AuthorizedRoute
from fleetroot.api.services import services_of
from fleetroot.api.tracing import peer_of, trace_id_of
from fleetroot.audit import Actor, ActorKind
from fleetroot.errors import InvalidArgument
from fleetroot.provisioning.administration import EnrollmentWithKeys
from fleetroot.provisioning.model import EnrollmentKind, Service
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
    settings = read_settings(
        body,
        kind,
        policy_id=await administration.policy_id(service, policy) if policy else None,
        linked=await administration.linked_hubs(service),
    )
    keys = body.attestation.symmetric_key or SymmetricKeyBody()
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


async def _shown(request: Request, service: Service, found: EnrollmentWithKeys) -> EnrollmentAnswer:
    administration = services_of(request).administration
    linked = await administration.linked_hubs(service)
    return show(
        found,
        policies=await administration.policy_names(service),
        hosts={id_: host for host, id_ in linked.items()},
    )
