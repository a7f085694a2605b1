"""Policies under a credential, and what becomes of their issuing CAs."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from fleetroot.access import Permission
from fleetroot.access.approvals import Guarded
from fleetroot.api.access import actor_of, needs
from fleetroot.api.arm.credentials import ONE as CREDENTIAL
from fleetroot.api.arm.credentials import credential_path
from fleetroot.api.arm.operations import STARTS, accepted
from fleetroot.api.arm.policy_bodies import (
    ActivateBody,
    AuthorityConfiguration,
    CertificateConfiguration,
    PolicyBody,
    PolicyResource,
    shown_policy,
)
from fleetroot.api.arm.resources import (
    Page,
    page_by_name,
)
from fleetroot.api.arm.routing import (
    CHANGES,
    LISTS,
    PUTS,
    ArmRoute,
    check_absent,
    check_present,
    if_match,
    namespace_of,
    property_change,
)
from fleetroot.api.description import answers, replaced
from fleetroot.api.services import services_of
from fleetroot.errors import NotFound
from fleetroot.pki import KeyType, name_key, parse_subject
from fleetroot.registry.model import PolicyDetails
from fleetroot.registry.policies import DEFAULT_LEAF_KEY_TYPES, DEFAULT_LEAF_VALIDITY
from fleetroot.registry.policy_administration import PolicyPatch

_ALL: Final = CREDENTIAL + "/policies"
_ONE: Final = _ALL + "/{policy}"
router = APIRouter(route_class=ArmRoute)


@router.get(_ALL, response_model_exclude_none=True, dependencies=LISTS)
@needs(Permission.READ)
async def list_(request: Request) -> Page[PolicyResource]:
    """A page of the namespace's policies, by name."""
    of = namespace_of(request)
    every = await services_of(request).policies.list_all(of)
    found, more = page_by_name(request, every, lambda each: each.policy.name)
    return Page(value=[shown_policy(credential_path(of), each) for each in found], next_link=more)


@router.get(_ONE, response_model_exclude_none=True)
@needs(Permission.READ)
async def get(request: Request, policy: str) -> PolicyResource:
    """One policy."""
    of = namespace_of(request)
    return shown_policy(credential_path(of), await services_of(request).policies.get(of, policy))


@router.put(
    _ONE,
    status_code=201,
    response_model_exclude_none=True,
    dependencies=PUTS,
    responses=replaced(PolicyResource) | answers(409, 412),
)
@needs(Permission.WRITE_CREDENTIALS)
async def put(
    request: Request, policy: str, body: PolicyBody, response: Response
) -> PolicyResource:
    """Creates a policy (201), or changes what one says of leaves (200)."""
    services, of = services_of(request), namespace_of(request)
    wanted = body.properties.certificate
    there = await find(request, policy)
    if there is not None:
        check_present(request)
        response.status_code = 200
        return shown_policy(credential_path(of), await _change(request, there, wanted))
    check_absent(request)
    authority, leaf = (
        wanted.certificate_authority_configuration,
        wanted.leaf_certificate_configuration,
    )
    root = authority.bring_your_own_root
    await services.policies.create(
        of,
        policy,
        leaf_validity=leaf.validity or DEFAULT_LEAF_VALIDITY,
        leaf_key_types=leaf.key_types or DEFAULT_LEAF_KEY_TYPES,
        authority_key_type=authority.key_type or KeyType.EC_P384,
        subject=authority.subject,
        bring_your_own_root=root is not None and root.enabled,
        by=actor_of(request),
    )
    return shown_policy(credential_path(of), await services.policies.get(of, policy))


@router.patch(
    _ONE, response_model_exclude_none=True, dependencies=CHANGES, responses=answers(409, 412)
)
@needs(Permission.WRITE_CREDENTIALS)
async def patch(request: Request, policy: str, body: PolicyBody) -> PolicyResource:
    """Changes what a policy says of leaves."""
    of = namespace_of(request)
    there = await services_of(request).policies.get(of, policy)
    return shown_policy(
        credential_path(of), await _change(request, there, body.properties.certificate)
    )


@router.delete(_ONE, status_code=204, dependencies=CHANGES, responses=answers(409, 412))
@needs(Permission.WRITE_CREDENTIALS)
async def delete(request: Request, policy: str) -> Response:
    """Deletes a policy; what it issued works until it expires."""
    await delete_policy(request, policy)
    return Response(status_code=204)


@router.post(_ONE + "/revokeIssuer", **STARTS)
@needs(Permission.WRITE_CREDENTIALS)
async def revoke(request: Request, policy: str) -> Response:
    """Revokes the policy's CAs and puts a new one in their place. It can be set to need a second
    person.
    """
    return await revoke_issuer(request, policy)


@router.post(_ONE + "/activateBringYourOwnRoot", **STARTS)
@needs(Permission.WRITE_CREDENTIALS)
async def activate(request: Request, policy: str, body: ActivateBody) -> Response:
    """Takes the chain that was signed for the policy's request."""
    return await activate_issuer(request, policy, body.certificate_chain)


# --- what both generations ask of policies


async def find(request: Request, name: str) -> PolicyDetails | None:
    """The policy of that name, if there is one."""
    try:
        return await services_of(request).policies.get(namespace_of(request), name)
    except NotFound:
        return None


async def delete_policy(request: Request, name: str) -> None:
    """Deletes a policy, where there is one."""
    if (there := await find(request, name)) is not None:
        await services_of(request).policies.delete(
            namespace_of(request),
            there.policy.name,
            if_match=if_match(request),
            by=actor_of(request),
        )


async def revoke_issuer(request: Request, name: str) -> Response:
    """Revokes a policy's CAs."""
    services, of = services_of(request), namespace_of(request)
    policy = (await services.policies.get(of, name)).policy
    subject = f"policy/{of.name}/{policy.name}"
    await services.access.claim(Guarded.REVOKE_ISSUER, subject, by=actor_of(request))
    await services.lifecycle.revoke_issuer(
        of, policy.name, if_match=if_match(request), by=actor_of(request)
    )
    return await accepted(request, f"policy/{policy.name}")


async def activate_issuer(request: Request, name: str, chain: str) -> Response:
    """Takes the chain (PEM) for what waits."""
    after = await services_of(request).lifecycle.activate(
        namespace_of(request), name, chain, if_match=if_match(request), by=actor_of(request)
    )
    return await accepted(request, f"policy/{after.policy.name}")


async def _change(
    request: Request, there: PolicyDetails, wanted: CertificateConfiguration
) -> PolicyDetails:
    _check_same(there, wanted.certificate_authority_configuration)
    leaf = wanted.leaf_certificate_configuration
    return await services_of(request).policies.patch(
        namespace_of(request),
        there.policy.name,
        PolicyPatch(leaf.validity, leaf.key_types),
        if_match=if_match(request),
        by=actor_of(request),
    )


def _check_same(there: PolicyDetails, wanted: AuthorityConfiguration) -> None:
    """Raises:
    Conflict: what is for good is to be another. Where each CA has a subject of its own, what is
        said of it is what was read once.
    """
    policy, root = there.policy, wanted.bring_your_own_root
    if wanted.key_type not in (None, policy.authority_key_type):
        raise property_change("keyType")
    if root is not None and root.enabled != policy.external_root:
        raise property_change("bringYourOwnRoot.enabled")
    if policy.subject is not None and wanted.subject is not None:
        try:
            is_same = name_key(parse_subject(wanted.subject)) == name_key(
                parse_subject(policy.subject)
            )
        except ValueError:
            is_same = False
        if not is_same:
            raise property_change("subject")
