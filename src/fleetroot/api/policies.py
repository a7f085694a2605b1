"""Policies and their issuing CAs over the operator API, in the words of the management API."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleetroot.access import Permission
from fleetroot.access.approvals import Guarded
from fleetroot.api.access import NamespaceRoute, actor_of, needs
from fleetroot.api.answers import Answer, Hex, Listed, Nothing, Time, left_out
from fleetroot.api.description import answers
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.services import services_of
from fleetroot.pki import KeyType
from fleetroot.registry.model import IssuerStatus, PolicyDetails
from fleetroot.registry.policies import DEFAULT_LEAF_KEY_TYPES, DEFAULT_LEAF_VALIDITY
from fleetroot.registry.policy_administration import PolicyPatch

router = APIRouter(prefix="/fleetroot/namespaces/{namespace}/policies", route_class=NamespaceRoute)

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_KeyType = Annotated[KeyType, Field(strict=False)]
_KeyTypes = Annotated[frozenset[_KeyType], Field(strict=False, min_length=1)]
_Number = Annotated[float, Field(gt=0, le=100_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class LeafBody(_Body):
    """Leaves of a policy. `validityPeriodInHours` and `keyTypes` are extensions of ours."""

    days: _Number | None = Field(default=None, alias="validityPeriodInDays")
    hours: _Number | None = Field(default=None, alias="validityPeriodInHours")
    key_types: _KeyTypes | None = Field(default=None, alias="keyTypes")

    @model_validator(mode="after")
    def _one_of_both(self) -> LeafBody:
        if self.days is not None and self.hours is not None:
            raise ValueError("give the validity in days or in hours, not both")
        return self

    @property
    def validity(self) -> timedelta | None:
        """In whole seconds; None where nothing was said."""
        if self.days is not None:
            return timedelta(seconds=round(self.days * _DAY.total_seconds()))
        if self.hours is not None:
            return timedelta(seconds=round(self.hours * _HOUR.total_seconds()))
        return None


class RootBody(_Body):
    """Whether the root is one that is not ours."""

    enabled: bool


class AuthorityBody(_Body):
    """CAs of a policy."""

    key_type: _KeyType = Field(default=KeyType.EC_P384, alias="keyType")
    subject: str | None = Field(default=None, max_length=256)
    root: RootBody = Field(default=RootBody(enabled=False), alias="bringYourOwnRoot")


class CertificateBody(_Body):
    """What a policy says of its CAs and leaves."""

    authority: AuthorityBody = Field(
        default_factory=AuthorityBody, alias="certificateAuthorityConfiguration"
    )
    leaf: LeafBody = Field(default_factory=LeafBody, alias="leafCertificateConfiguration")


class LeafOnlyBody(_Body):
    """What may be changed of a policy."""

    leaf: LeafBody = Field(alias="leafCertificateConfiguration")


class PolicyBody(_Body):
    """A policy to make."""

    certificate: CertificateBody = Field(default_factory=CertificateBody)


class PatchBody(_Body):
    """A change of a policy."""

    certificate: LeafOnlyBody


class ActivateBody(_Body):
    """The chain that was signed: PEM, the issuing CA first."""

    chain: str = Field(alias="certificateChain", max_length=64 * 1024)


class RootAnswer(Answer):
    """Whether the root is one that is not ours, and how the policy stands with its CA. While a
    request waits to be signed, it is here too, as PEM.
    """

    enabled: bool
    status: IssuerStatus
    certificate_signing_request: str | Nothing = left_out()
    pki_url: str | Nothing = left_out()
    signed_by: Literal["root of another", "offline root"] | Nothing = left_out()


class PolicyAuthorityAnswer(Answer):
    """CAs of a policy, and the one that signs now, if one does."""

    key_type: KeyType
    subject: str | None
    issuing_authority: str | Nothing = left_out()
    issuing_certificate_thumbprint: Hex | Nothing = left_out()
    validity_not_before: Time | Nothing = left_out()
    validity_not_after: Time | Nothing = left_out()
    bring_your_own_root: RootAnswer


class LeafAnswer(Answer):
    """Leaves of a policy."""

    validity_period_in_days: float
    validity_period_in_hours: float
    key_types: list[KeyType]


class PolicyCertificateAnswer(Answer):
    """What a policy says of its CAs and leaves."""

    certificate_authority_configuration: PolicyAuthorityAnswer
    leaf_certificate_configuration: LeafAnswer


class PolicyAnswer(Answer):
    """A policy."""

    name: str
    etag: str
    provisioning_state: Literal["Succeeded"] = "Succeeded"
    created_at: Time
    updated_at: Time
    certificate: PolicyCertificateAnswer


@router.get("")
@needs(Permission.READ)
async def list_(request: Request, namespace: str) -> Listed[PolicyAnswer]:
    """Every policy, by name."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return Listed(value=[policy_body(each) for each in await services.policies.list_all(of)])


@router.get("/{name}")
@needs(Permission.READ)
async def get(request: Request, namespace: str, name: str) -> PolicyAnswer:
    """One policy."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return policy_body(await services.policies.get(of, name))


@router.put("/{name}", status_code=201, responses=answers(409))
@needs(Permission.WRITE_CREDENTIALS)
async def create(
    request: Request, namespace: str, name: str, body: PolicyBody | None = None
) -> PolicyAnswer:
    """Makes a policy."""
    services, wanted = services_of(request), (body or PolicyBody()).certificate
    of = await services.namespaces.get(namespace)
    await services.policies.create(
        of,
        name,
        leaf_validity=wanted.leaf.validity or DEFAULT_LEAF_VALIDITY,
        leaf_key_types=wanted.leaf.key_types or DEFAULT_LEAF_KEY_TYPES,
        authority_key_type=wanted.authority.key_type,
        subject=wanted.authority.subject,
        bring_your_own_root=wanted.authority.root.enabled,
        by=actor_of(request),
    )
    return policy_body(await services.policies.get(of, name))


@router.patch("/{name}", responses=answers(409, 412))
@needs(Permission.WRITE_CREDENTIALS)
async def patch(
    request: Request, namespace: str, name: str, body: PatchBody, if_match: IfMatch = None
) -> PolicyAnswer:
    """Changes what a policy says of its leaves."""
    services, leaf = services_of(request), body.certificate.leaf
    changed = await services.policies.patch(
        await services.namespaces.get(namespace),
        name,
        PolicyPatch(leaf.validity, leaf.key_types),
        if_match=if_match,
        by=actor_of(request),
    )
    return policy_body(changed)


@router.delete("/{name}", status_code=204, responses=answers(409, 412))
@needs(Permission.WRITE_CREDENTIALS)
async def delete(request: Request, namespace: str, name: str, if_match: IfMatch = None) -> Response:
    """Deletes a policy; what it issued works until it expires."""
    services = services_of(request)
    await services.policies.delete(
        await services.namespaces.get(namespace),
        name,
        if_match=if_match,
        by=actor_of(request),
    )
    return Response(status_code=204)


@router.post("/{name}/revokeIssuer", responses=answers(409, 412))
@needs(Permission.WRITE_CREDENTIALS)
async def revoke_issuer(
    request: Request, namespace: str, name: str, if_match: IfMatch = None
) -> PolicyAnswer:
    """Revokes the policy's CAs and puts a new one in their place."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    policy = (await services.policies.get(of, name)).policy
    subject = f"policy/{of.name}/{policy.name}"
    await services.access.claim(Guarded.REVOKE_ISSUER, subject, by=actor_of(request))
    after = await services.lifecycle.revoke_issuer(
        of,
        name,
        if_match=if_match,
        by=actor_of(request),
    )
    return policy_body(after)


@router.post("/{name}/renewIssuer", responses=answers(409))
@needs(Permission.WRITE_CREDENTIALS)
async def renew_issuer(request: Request, namespace: str, name: str) -> PolicyAnswer:
    """Lets another CA follow, before it is due. An extension of ours."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return policy_body(await services.lifecycle.renew(of, name, by=actor_of(request)))


@router.post("/{name}/activateBringYourOwnRoot", responses=answers(409, 412))
@needs(Permission.WRITE_CREDENTIALS)
async def activate(
    request: Request, namespace: str, name: str, body: ActivateBody, if_match: IfMatch = None
) -> PolicyAnswer:
    """Takes the chain that was signed for the policy's request."""
    services = services_of(request)
    after = await services.lifecycle.activate(
        await services.namespaces.get(namespace),
        name,
        body.chain,
        if_match=if_match,
        by=actor_of(request),
    )
    return policy_body(after)


def policy_body(details: PolicyDetails) -> PolicyAnswer:
    """A policy as JSON shows it."""
    policy = details.policy
    return PolicyAnswer(
        name=policy.name,
        etag=policy.etag,
        created_at=policy.created_at,
        updated_at=policy.updated_at,
        certificate=PolicyCertificateAnswer(
            certificate_authority_configuration=_authority(details),
            leaf_certificate_configuration=LeafAnswer(
                validity_period_in_days=policy.leaf_validity / _DAY,
                validity_period_in_hours=policy.leaf_validity / _HOUR,
                key_types=sorted(policy.leaf_key_types),
            ),
        ),
    )


def _authority(details: PolicyDetails) -> PolicyAuthorityAnswer:
    policy, authority = details.policy, details.authority
    if authority is None:
        return PolicyAuthorityAnswer(
            key_type=policy.authority_key_type,
            subject=policy.subject,
            bring_your_own_root=_root(details),
        )
    certificate = x509.load_der_x509_certificate(authority.certificate)
    return PolicyAuthorityAnswer(
        key_type=policy.authority_key_type,
        subject=certificate.subject.rfc4514_string(),
        issuing_authority=authority.id,
        issuing_certificate_thumbprint=authority.sha256,
        validity_not_before=authority.not_before,
        validity_not_after=authority.not_after,
        bring_your_own_root=_root(details),
    )


def _root(details: PolicyDetails) -> RootAnswer:
    enabled, status, waiting = details.policy.external_root, details.issuer_status, details.request
    if waiting is None:
        return RootAnswer(enabled=enabled, status=status)
    request = x509.load_der_x509_csr(waiting.request)
    return RootAnswer(
        enabled=enabled,
        status=status,
        certificate_signing_request=request.public_bytes(Encoding.PEM).decode(),
        pki_url=waiting.pki_url,
        signed_by="root of another" if waiting.issuer_id is None else "offline root",
    )
