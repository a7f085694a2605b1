"""Certificate authorities over the operator API: all that a namespace has and had."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from cryptography import x509
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.access import Permission
from fleetroot.api.access import NamespaceRoute, actor_of, needs
from fleetroot.api.answers import Answer, Hex, Listed, Time
from fleetroot.api.description import answers
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument, NotFound
from fleetroot.pki import KeyType, to_pem
from fleetroot.registry.model import Authority, AuthorityKind

router = APIRouter(
    prefix="/fleetroot/namespaces/{namespace}/authorities", route_class=NamespaceRoute
)


class AuthorityAnswer(Answer):
    """A CA."""

    id: str
    kind: AuthorityKind
    subject: str
    issuer: str
    key_type: KeyType
    key_kept: Literal["here", "elsewhere"]
    sha256: Hex
    pki_url: str
    not_before: Time
    not_after: Time
    revoked_at: Time | None


class AuthorityWithChain(AuthorityAnswer):
    """A CA with its certificate and those above it, PEM."""

    pem: str


class RevokedAuthority(Answer):
    """A CA that was revoked: its serial number, lower-case hexadecimal, and when."""

    serial: str
    at: Time


class ListRequestAnswer(Answer):
    """What the next revocation list of an offline root is to say; `fleetroot ca sign-offline-crl`
    signs it. `number` is decimal.
    """

    authority: str
    number: str
    revoked: list[RevokedAuthority]


class SignedList(BaseModel):
    """A revocation list: base64 of DER or of PEM text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    crl: Annotated[str, Field(max_length=1536 * 1024)]


class PublishedListAnswer(Answer):
    """A list that is published. `number` is decimal."""

    authority: str
    number: str
    this_update: Time
    next_update: Time
    revoked: int


@router.get("")
@needs(Permission.READ)
async def list_(request: Request, namespace: str) -> Listed[AuthorityAnswer]:
    """Every CA, oldest first; those that were revoked, too."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return Listed(value=[authority_body(a) for a in await services.registry.authorities(of)])


@router.get("/{authority_id}")
@needs(Permission.READ)
async def get(request: Request, namespace: str, authority_id: str) -> AuthorityWithChain:
    """One CA, with its certificate and those above it as PEM text."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    authority = await services.registry.authority(authority_id)
    if authority.namespace_id != of.id:
        raise NotFound(f"no certificate authority {authority_id}")
    chain = [authority.certificate, *authority.external_chain]
    if authority.issuer_id is not None:
        chain.append((await services.registry.authority(authority.issuer_id)).certificate)
    pem = to_pem(x509.load_der_x509_certificate(der) for der in chain)
    return AuthorityWithChain(**dict(authority_body(authority)), pem=pem)


@router.get("/{authority_id}/revocationList", responses=answers(409))
@needs(Permission.READ)
async def list_request(request: Request, namespace: str, authority_id: str) -> ListRequestAnswer:
    """What is to be signed where the key of an offline root is kept."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    asked = await services.offline_lists.request(of, authority_id)
    return ListRequestAnswer(
        authority=asked.authority.id,
        number=str(asked.number),
        revoked=[
            RevokedAuthority(serial=format(one.serial, "x"), at=one.at) for one in asked.revoked
        ],
    )


@router.put("/{authority_id}/revocationList", responses=answers(409))
@needs(Permission.WRITE_CREDENTIALS)
async def publish_list(
    request: Request, namespace: str, authority_id: str, body: SignedList
) -> PublishedListAnswer:
    """Publishes a list that an offline root signed."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    try:
        crl = base64.b64decode(body.crl, validate=True)
    except ValueError:
        raise InvalidArgument("crl: not base64") from None
    head = await services.offline_lists.publish(of, authority_id, crl, by=actor_of(request))
    return PublishedListAnswer(
        authority=head.authority_id,
        number=str(head.number),
        this_update=head.this_update,
        next_update=head.next_update,
        revoked=head.covers,
    )


def authority_body(authority: Authority) -> AuthorityAnswer:
    """A CA as JSON shows it."""
    certificate = x509.load_der_x509_certificate(authority.certificate)
    return AuthorityAnswer(
        id=authority.id,
        kind=authority.kind,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        key_type=authority.key_type,
        key_kept="elsewhere" if authority.is_offline else "here",
        sha256=authority.sha256,
        pki_url=authority.pki_url,
        not_before=authority.not_before,
        not_after=authority.not_after,
        revoked_at=authority.revoked_at,
    )
