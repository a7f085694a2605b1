"""Policies and their issuing CAs over the operator API, in the words of the management API."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleetroot.access import Permission
from fleetroot.access.approvals import Guarded
from fleetroot.api.access import NamespaceRoute, actor_of, if_match_of, needs
from fleetroot.api.services import services_of
from fleetroot.clock import iso8601
from fleetroot.pki import KeyType
from fleetroot.registry.model import Authority, AuthorityRequest, PolicyDetails
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


@router.get("")
@needs(Permission.READ)
async def list_(request: Request, namespace: str) -> dict[str, Any]:
    """Every policy, by name."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return {"value": [policy_body(each) for each in await services.policies.list_all(of)]}


@router.get("/{name}")
@needs(Permission.READ)
async def get(request: Request, namespace: str, name: str) -> dict[str, Any]:
    """One policy."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return policy_body(await services.policies.get(of, name))


@router.put("/{name}", status_code=201)
@needs(Permission.WRITE_CREDENTIALS)
async def create(
    request: Request, namespace: str, name: str, body: PolicyBody | None = None
) -> dict[str, Any]:
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


@router.patch("/{name}")
@needs(Permission.WRITE_CREDENTIALS)
async def patch(request: Request, namespace: str, name: str, body: PatchBody) -> dict[str, Any]:
    """Changes what a policy says of its leaves."""
    services, leaf = services_of(request), body.certificate.leaf
    changed = await services.policies.patch(
        await services.namespaces.get(namespace),
        name,
        PolicyPatch(leaf.validity, leaf.key_types),
        if_match=if_match_of(request),
        by=actor_of(request),
    )
    return policy_body(changed)


@router.delete("/{name}", status_code=204)
@needs(Permission.WRITE_CREDENTIALS)
async def delete(request: Request, namespace: str, name: str) -> Response:
    """Deletes a policy; what it issued works until it expires."""
    services = services_of(request)
    await services.policies.delete(
        await services.namespaces.get(namespace),
        name,
        if_match=if_match_of(request),
        by=actor_of(request),
    )
    return Response(status_code=204)


@router.post("/{name}/revokeIssuer")
@needs(Permission.WRITE_CREDENTIALS)
async def revoke_issuer(request: Request, namespace: str, name: str) -> dict[str, Any]:
    """Revokes the policy's CAs and puts a new one in their place."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    policy = (await services.policies.get(of, name)).policy
    subject = f"policy/{of.name}/{policy.name}"
    await services.access.claim(Guarded.REVOKE_ISSUER, subject, by=actor_of(request))
    after = await services.lifecycle.revoke_issuer(
        of,
        name,
        if_match=if_match_of(request),
        by=actor_of(request),
    )
    return policy_body(after)


@router.post("/{name}/renewIssuer")
@needs(Permission.WRITE_CREDENTIALS)
async def renew_issuer(request: Request, namespace: str, name: str) -> dict[str, Any]:
    """Lets another CA follow, before it is due. An extension of ours."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return policy_body(await services.lifecycle.renew(of, name, by=actor_of(request)))


@router.post("/{name}/activateBringYourOwnRoot")
@needs(Permission.WRITE_CREDENTIALS)
async def activate(
    request: Request, namespace: str, name: str, body: ActivateBody
) -> dict[str, Any]:
    """Takes the chain that was signed for the policy's request."""
    services = services_of(request)
    after = await services.lifecycle.activate(
        await services.namespaces.get(namespace),
        name,
        body.chain,
        if_match=if_match_of(request),
        by=actor_of(request),
    )
    return policy_body(after)


def policy_body(details: PolicyDetails) -> dict[str, Any]:
    """A policy as JSON shows it."""
    policy = details.policy
    return {
        "name": policy.name,
        "etag": policy.etag,
        "provisioningState": "Succeeded",
        "createdAt": iso8601(policy.created_at),
        "updatedAt": iso8601(policy.updated_at),
        "certificate": {
            "certificateAuthorityConfiguration": {
                "keyType": policy.authority_key_type.value,
                "subject": policy.subject,
                **_authority(details.authority),
                "bringYourOwnRoot": {
                    "enabled": policy.external_root,
                    "status": details.issuer_status.value,
                    **_request(details.request),
                },
            },
            "leafCertificateConfiguration": {
                "validityPeriodInDays": policy.leaf_validity / _DAY,
                "validityPeriodInHours": policy.leaf_validity / _HOUR,
                "keyTypes": sorted(policy.leaf_key_types),
            },
        },
    }


def _authority(authority: Authority | None) -> dict[str, Any]:
    if authority is None:
        return {}
    certificate = x509.load_der_x509_certificate(authority.certificate)
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuingAuthority": authority.id,
        "issuingCertificateThumbprint": authority.sha256.hex(),
        "validityNotBefore": iso8601(authority.not_before),
        "validityNotAfter": iso8601(authority.not_after),
    }


def _request(waiting: AuthorityRequest | None) -> dict[str, Any]:
    if waiting is None:
        return {}
    request = x509.load_der_x509_csr(waiting.request)
    return {
        "certificateSigningRequest": request.public_bytes(Encoding.PEM).decode(),
        "pkiUrl": waiting.pki_url,
        "signedBy": "root of another" if waiting.issuer_id is None else "offline root",
    }
