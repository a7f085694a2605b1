"""Certificate authorities in the newest generation: a namespace's root and its issuing CAs (ICA).

One model serves both generations. The `Root` is the namespace's credential; one that the older
generation made is called `root`. An `ICA` is the CA of a policy, has its name, and is made with it:
`certificate_policies` says what its leaves are. Issuer `Microsoft` is the namespace's own root,
`External` a root that is not ours. A namespace has one root, and no ICA before it. Only roots keep
tags; `subject` of an ICA, and key types but `ECC`, are extensions of ours.

Source: Microsoft.DeviceRegistry 2026-11-02-preview, TypeSpec of `CertificateAuthorities`: shapes,
verbs and status codes are from there. No client of it was at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request, Response

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.arm.authority_bodies import (
    AuthorityBody,
    AuthorityProperties,
    AuthorityResource,
    AuthorityType,
    AuthorityUpdate,
    IssuerType,
    ShownIssuer,
    ShownProperties,
    with_certificate,
)
from fleetroot.api.arm.credentials import delete_root
from fleetroot.api.arm.key_types import wire_name
from fleetroot.api.arm.operations import STARTS
from fleetroot.api.arm.policies import (
    activate_issuer,
    delete_policy,
    find,
    revoke_issuer,
)
from fleetroot.api.arm.policy_bodies import ActivateBody, csr_of
from fleetroot.api.arm.resources import (
    Page,
    SystemData,
    page_by_name,
)
from fleetroot.api.arm.routing import (
    CHANGES,
    LISTS,
    NAMESPACE,
    NEWEST,
    PUTS,
    ArmRoute,
    check_absent,
    check_present,
    if_match,
    namespace_of,
    namespace_path,
    property_change,
)
from fleetroot.api.description import answers, replaced
from fleetroot.api.services import services_of
from fleetroot.errors import Conflict, InvalidArgument, NotFound
from fleetroot.ids import canonical
from fleetroot.pki import KeyType
from fleetroot.registry import etags
from fleetroot.registry.model import Credential, PolicyDetails

TYPE: Final = "Microsoft.DeviceRegistry/namespaces/certificateAuthorities"
_ALL: Final = NAMESPACE + "/certificateAuthorities"
ONE: Final = _ALL + "/{authority}"


class NewestRoute(ArmRoute):
    """A route that older generations do not have."""

    versions = (NEWEST,)


router = APIRouter(route_class=NewestRoute)


@router.get(_ALL, response_model_exclude_none=True, dependencies=LISTS)
@needs(Permission.READ)
async def list_(request: Request) -> Page[AuthorityResource]:
    """A page of the namespace's root and ICAs, by name."""
    services, of = services_of(request), namespace_of(request)
    place = await _place(request)
    every = [_root(place, each) for each in await services.namespaces.credentials(of)]
    every += [_ica(place, each) for each in await services.policies.list_all(of)]
    every.sort(key=lambda each: canonical(each.name))
    found, more = page_by_name(request, every, lambda each: each.name)
    return Page(value=found, next_link=more)


@router.get(ONE, response_model_exclude_none=True)
@needs(Permission.READ)
async def get(request: Request, authority: str) -> AuthorityResource:
    """The root, or one ICA."""
    if (root := await _find_root(request, authority)) is not None:
        return await _shown_root(request, root)
    return await _shown_ica(request, await find_ica(request, authority))


@router.put(
    ONE,
    status_code=201,
    response_model_exclude_none=True,
    dependencies=PUTS,
    responses=replaced(AuthorityResource) | answers(409, 412),
)
@needs(Permission.WRITE_CREDENTIALS)
async def put(
    request: Request, authority: str, body: AuthorityBody, response: Response
) -> AuthorityResource:
    """Makes a CA (201), or replaces the tags of the root that is there (200)."""
    root, ica = await _find_root(request, authority), await find(request, authority)
    wanted = body.properties
    if root is None and ica is None:
        check_absent(request)
        if wanted.certificate_authority_type is AuthorityType.ROOT:
            return await _make_root(request, authority, body)
        return await _make_ica(request, authority, body)
    check_present(request)
    response.status_code = 200
    if root is not None:
        if wanted.certificate_authority_type is not AuthorityType.ROOT:
            raise property_change("certificateAuthorityType")
        if wanted.key_type not in (None, root.root.key_type):
            raise property_change("keyType")
        return await _tag_root(request, body.tags or {})
    assert ica is not None  # noqa: S101
    _check_no_tags(body.tags)
    _check_same(ica, wanted)
    etags.check(if_match(request), ica.policy.etag)
    return await _shown_ica(request, ica)


@router.patch(
    ONE, response_model_exclude_none=True, dependencies=CHANGES, responses=answers(409, 412)
)
@needs(Permission.WRITE_CREDENTIALS)
async def patch(request: Request, authority: str, body: AuthorityUpdate) -> AuthorityResource:
    """Replaces the root's tags, where any are given."""
    root = await _find_root(request, authority)
    if root is not None and body.tags is not None:
        return await _tag_root(request, body.tags)
    if root is not None:
        etags.check(if_match(request), root.etag)
        return await _shown_root(request, root)
    ica = await find_ica(request, authority)
    _check_no_tags(body.tags)
    etags.check(if_match(request), ica.policy.etag)
    return await _shown_ica(request, ica)


@router.delete(ONE, status_code=204, dependencies=CHANGES, responses=answers(409, 412))
@needs(Permission.WRITE_CREDENTIALS)
async def delete(request: Request, authority: str) -> Response:
    """Deletes the root of a namespace without ICAs, which can be set to need a second person; or an
    ICA with its policy.
    """
    if await _find_root(request, authority) is not None:
        await delete_root(request)
    else:
        await delete_policy(request, authority)
    return Response(status_code=204)


@router.post(ONE + "/activate", **STARTS)
@needs(Permission.WRITE_CREDENTIALS)
async def activate(request: Request, authority: str, body: ActivateBody) -> Response:
    """Takes the chain that was signed for the ICA's request."""
    await _check_is_ica(request, authority)
    return await activate_issuer(request, authority, body.certificate_chain)


@router.post(ONE + "/revokeAndRotate", **STARTS)
@needs(Permission.WRITE_CREDENTIALS)
async def revoke_and_rotate(request: Request, authority: str) -> Response:
    """Revokes the ICA and puts a new one in its place. It can be set to need a second person."""
    await _check_is_ica(request, authority)
    return await revoke_issuer(request, authority)


async def find_ica(request: Request, name: str) -> PolicyDetails:
    """The ICA of that name, as the policy that it signs for.

    Raises:
        NotFound: there is none.
    """
    found = await find(request, name)
    if found is None:
        raise NotFound(f"there is no certificate authority {name}")
    return found


def authority_path(request: Request, name: str) -> str:
    """The resource id of a CA."""
    return f"{namespace_path(namespace_of(request))}/certificateAuthorities/{name}"


async def _find_root(request: Request, name: str) -> Credential | None:
    """The namespace's root, if it is called so."""
    namespaces, of = services_of(request).namespaces, namespace_of(request)
    if canonical(name) != canonical(await namespaces.root_name(of)):
        return None
    found = await namespaces.credentials(of)
    return found[0] if found else None


async def _check_is_ica(request: Request, name: str) -> None:
    if await _find_root(request, name) is not None:
        raise InvalidArgument("certificateAuthorityType: a root cannot do this")
    await find_ica(request, name)


async def _make_root(request: Request, name: str, body: AuthorityBody) -> AuthorityResource:
    services, of = services_of(request), namespace_of(request)
    if await services.namespaces.credentials(of):
        called = await services.namespaces.root_name(of)
        raise Conflict(f"the namespace has a root, {called}")
    made = await services.namespaces.create_credential(
        of,
        key_type=body.properties.key_type or KeyType.EC_P384,
        pki_url=services.pki_url,
        tags=body.tags,
        root_name=name,
        by=actor_of(request),
    )
    return await _shown_root(request, made)


async def _make_ica(request: Request, name: str, body: AuthorityBody) -> AuthorityResource:
    services, of, wanted = services_of(request), namespace_of(request), body.properties
    _check_no_tags(body.tags)
    if wanted.issuer is None:
        raise InvalidArgument("properties.issuer: is required of an ICA")
    if not await services.namespaces.credentials(of):
        raise Conflict("the namespace has no root: make it first")
    is_external = wanted.issuer.issuer_type is IssuerType.EXTERNAL
    if not is_external:
        root = authority_path(request, await services.namespaces.root_name(of))
        said = wanted.issuer.certificate_authority_resource_id or ""
        if said.lower() != root.lower():
            raise InvalidArgument(f"issuer.certificateAuthorityResourceId: must be {root}")
    await services.policies.create(
        of,
        name,
        authority_key_type=wanted.key_type or KeyType.EC_P384,
        subject=wanted.subject,
        bring_your_own_root=is_external,
        by=actor_of(request),
    )
    return await _shown_ica(request, await services.policies.get(of, name))


async def _tag_root(request: Request, tags: dict[str, str]) -> AuthorityResource:
    changed = await services_of(request).namespaces.patch_credential(
        namespace_of(request), tags, if_match=if_match(request), by=actor_of(request)
    )
    return await _shown_root(request, changed)


def _check_no_tags(tags: dict[str, str] | None) -> None:
    if tags:
        raise InvalidArgument("tags: an ICA and its policy have none")


def _check_same(ica: PolicyDetails, wanted: AuthorityProperties) -> None:
    """Raises:
    Conflict: what is for good is to be another.
    """
    if wanted.certificate_authority_type is not AuthorityType.ICA:
        raise property_change("certificateAuthorityType")
    if wanted.key_type not in (None, ica.policy.authority_key_type):
        raise property_change("keyType")
    if wanted.issuer is not None and wanted.issuer.issuer_type is not _issuer_type(ica):
        raise property_change("issuer.issuerType")


def _issuer_type(ica: PolicyDetails) -> IssuerType:
    return IssuerType.EXTERNAL if ica.policy.external_root else IssuerType.MICROSOFT


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the CAs of a namespace are.

    Attributes:
        path: the resource id under which they are.
        root_name: what the root is called, or would be.
    """

    path: str
    location: str
    root_name: str


async def _place(request: Request) -> _Place:
    of, namespaces = namespace_of(request), services_of(request).namespaces
    return _Place(authority_path(request, ""), of.location, await namespaces.root_name(of))


async def _shown_root(request: Request, credential: Credential) -> AuthorityResource:
    return _root(await _place(request), credential)


async def _shown_ica(request: Request, ica: PolicyDetails) -> AuthorityResource:
    return _ica(await _place(request), ica)


def _root(place: _Place, credential: Credential) -> AuthorityResource:
    shown = ShownProperties(
        uuid=credential.root.id,
        certificate_authority_type=AuthorityType.ROOT,
        key_type=wire_name(credential.root.key_type),
    )
    return AuthorityResource(
        id=place.path + place.root_name,
        name=place.root_name,
        type=TYPE,
        system_data=SystemData.of(credential.created_at, credential.updated_at),
        etag=credential.etag,
        location=place.location,
        tags=dict(credential.tags),
        properties=with_certificate(shown, credential.root),
    )


def _ica(place: _Place, ica: PolicyDetails) -> AuthorityResource:
    policy = ica.policy
    issuer = ShownIssuer(
        issuer_type=_issuer_type(ica),
        certificate_authority_resource_id=(
            None if policy.external_root else place.path + place.root_name
        ),
        certificate_signing_request=csr_of(ica),
        thumbprint=ica.authority.sha256.hex() if ica.authority else None,
        status=ica.issuer_status.value,
    )
    shown = ShownProperties(
        uuid=policy.id,
        certificate_authority_type=AuthorityType.ICA,
        key_type=wire_name(policy.authority_key_type),
        subject=policy.subject,
        issuer=issuer,
    )
    return AuthorityResource(
        id=place.path + policy.name,
        name=policy.name,
        type=TYPE,
        system_data=SystemData.of(policy.created_at, policy.updated_at),
        etag=policy.etag,
        location=place.location,
        tags={},
        properties=with_certificate(shown, ica.authority),
    )
