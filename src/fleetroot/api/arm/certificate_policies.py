"""The policy of an issuing CA in the newest generation: what its leaves are.

An ICA has one, which has the ICA's name and comes and goes with it (`certificate_authorities`).
`validityPeriodInHours` and `keyTypes` are extensions, as of the older generation's policies.

Source: Microsoft.DeviceRegistry 2026-11-02-preview, TypeSpec of `CertificatePolicies`.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

from fastapi import APIRouter, Request, Response
from pydantic import Field

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.arm.certificate_authorities import (
    ONE as AUTHORITY,
)
from fleetroot.api.arm.certificate_authorities import (
    NewestRoute,
    authority_path,
    find_ica,
)
from fleetroot.api.arm.policies import delete_policy, find
from fleetroot.api.arm.policy_bodies import (
    LeafConfiguration,
    PolicyTags,
    ShownLeaf,
    shown_leaf,
)
from fleetroot.api.arm.resources import (
    SUCCEEDED,
    Location,
    Page,
    Resource,
    Sent,
    Shown,
    SystemData,
)
from fleetroot.api.arm.routing import CHANGES, PUTS, check_present, if_match, namespace_of
from fleetroot.api.description import answers
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument, NotFound
from fleetroot.ids import canonical
from fleetroot.registry.model import DEFAULT_LOCATION, PolicyDetails
from fleetroot.registry.policy_administration import PolicyPatch

TYPE: Final = "Microsoft.DeviceRegistry/namespaces/certificateAuthorities/certificatePolicies"
_ALL: Final = AUTHORITY + "/certificatePolicies"
_ONE: Final = _ALL + "/{policy}"
router = APIRouter(route_class=NewestRoute)


class CertificatePolicyProperties(Sent):
    """A policy's properties, as they are sent."""

    certificate: LeafConfiguration = Field(default_factory=LeafConfiguration)


class CertificatePolicyBody(Sent):
    """A policy, or a change of one."""

    location: Location = DEFAULT_LOCATION
    tags: PolicyTags | None = None
    properties: CertificatePolicyProperties = Field(default_factory=CertificatePolicyProperties)


class ShownProperties(Shown):
    """A policy's properties."""

    provisioning_state: str = SUCCEEDED
    uuid: str
    certificate: ShownLeaf


class CertificatePolicyResource(Resource):
    """A policy."""

    properties: ShownProperties


@router.get(_ALL, response_model_exclude_none=True)
@needs(Permission.READ)
async def list_(request: Request, authority: str) -> Page[CertificatePolicyResource]:
    """The ICA's policy."""
    ica = await find(request, authority)
    return Page(value=[] if ica is None else [await _shown(request, ica)])


@router.get(_ONE, response_model_exclude_none=True)
@needs(Permission.READ)
async def get(request: Request, authority: str, policy: str) -> CertificatePolicyResource:
    """The ICA's policy."""
    return await _shown(request, await _find(request, authority, policy))


@router.put(_ONE, response_model_exclude_none=True, dependencies=PUTS, responses=answers(409, 412))
@needs(Permission.WRITE_CREDENTIALS)
async def put(
    request: Request, authority: str, policy: str, body: CertificatePolicyBody
) -> CertificatePolicyResource:
    """Says what the ICA's leaves are from now on."""
    ica = await find_ica(request, authority)
    check_present(request)
    if canonical(policy) != canonical(ica.policy.name):
        raise InvalidArgument(
            f"certificatePolicyName: an ICA has one policy, which has its name: {ica.policy.name}"
        )
    return await _change(request, ica, body)


@router.patch(
    _ONE, response_model_exclude_none=True, dependencies=CHANGES, responses=answers(409, 412)
)
@needs(Permission.WRITE_CREDENTIALS)
async def patch(
    request: Request, authority: str, policy: str, body: CertificatePolicyBody
) -> CertificatePolicyResource:
    """As `put`."""
    return await _change(request, await _find(request, authority, policy), body)


@router.delete(_ONE, status_code=204, dependencies=CHANGES, responses=answers(409, 412))
@needs(Permission.WRITE_CREDENTIALS)
async def delete(request: Request, authority: str, policy: str) -> Response:
    """Deletes the policy and its ICA; what it issued works until it expires."""
    if canonical(authority) == canonical(policy):
        await delete_policy(request, policy)
    return Response(status_code=204)


async def _find(request: Request, authority: str, policy: str) -> PolicyDetails:
    ica = await find_ica(request, authority)
    if canonical(policy) != canonical(ica.policy.name):
        raise NotFound(f"there is no certificate policy {policy} of {authority}")
    return ica


async def _change(
    request: Request, ica: PolicyDetails, body: CertificatePolicyBody
) -> CertificatePolicyResource:
    leaf = body.properties.certificate
    changed = await services_of(request).policies.patch(
        namespace_of(request),
        ica.policy.name,
        PolicyPatch(leaf.validity, leaf.key_types),
        if_match=if_match(request),
        by=actor_of(request),
    )
    return await _shown(request, changed)


async def _shown(request: Request, ica: PolicyDetails) -> CertificatePolicyResource:
    policy = ica.policy
    return CertificatePolicyResource(
        id=f"{authority_path(request, policy.name)}/certificatePolicies/{policy.name}",
        name=policy.name,
        type=TYPE,
        system_data=SystemData.of(policy.created_at, policy.updated_at),
        etag=policy.etag,
        location=namespace_of(request).location,
        tags={},
        properties=ShownProperties(
            uuid=str(uuid5(UUID(policy.id), "certificatePolicy")), certificate=shown_leaf(policy)
        ),
    )
