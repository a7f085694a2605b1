"""Certificate authorities over the operator API: all that a namespace has and had."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from cryptography import x509
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.access import Permission
from fleetroot.api.access import NamespaceRoute, actor_of, needs
from fleetroot.api.services import services_of
from fleetroot.clock import iso8601
from fleetroot.errors import InvalidArgument, NotFound
from fleetroot.pki import to_pem
from fleetroot.registry.model import Authority

router = APIRouter(
    prefix="/fleetroot/namespaces/{namespace}/authorities", route_class=NamespaceRoute
)


class RevokedAuthority(BaseModel):
    """A CA that was revoked: its serial number, lower-case hexadecimal, and when."""

    serial: str
    at: str


class ListRequestBody(BaseModel):
    """What the next revocation list of an offline root is to say; `fleetroot ca sign-offline-crl`
    signs it.

    `number` is a decimal number as text: JSON's numbers lose digits in some readers.
    """

    authority: str
    number: str
    revoked: list[RevokedAuthority]


class SignedList(BaseModel):
    """A revocation list: base64 of DER or of PEM text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    crl: Annotated[str, Field(max_length=1536 * 1024)]


class PublishedListBody(BaseModel):
    """A list that is published."""

    authority: str
    number: str
    this_update: str = Field(serialization_alias="thisUpdate")
    next_update: str = Field(serialization_alias="nextUpdate")
    revoked: int


@router.get("")
@needs(Permission.READ)
async def list_(request: Request, namespace: str) -> dict[str, Any]:
    """Every CA, oldest first; those that were revoked, too."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    return {"value": [authority_body(a) for a in await services.registry.authorities(of)]}


@router.get("/{authority_id}")
@needs(Permission.READ)
async def get(request: Request, namespace: str, authority_id: str) -> dict[str, Any]:
    """One CA, with its certificate and those above it as PEM text."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    authority = await services.registry.authority(authority_id)
    if authority.namespace_id != of.id:
        raise NotFound(f"no certificate authority {authority_id}")
    chain = [authority.certificate, *authority.external_chain]
    if authority.issuer_id is not None:
        chain.append((await services.registry.authority(authority.issuer_id)).certificate)
    return authority_body(authority) | {
        "pem": to_pem(x509.load_der_x509_certificate(der) for der in chain)
    }


@router.get("/{authority_id}/revocationList")
@needs(Permission.READ)
async def list_request(request: Request, namespace: str, authority_id: str) -> ListRequestBody:
    """What is to be signed where the key of an offline root is kept."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    asked = await services.offline_lists.request(of, authority_id)
    return ListRequestBody(
        authority=asked.authority.id,
        number=str(asked.number),
        revoked=[
            RevokedAuthority(serial=format(one.serial, "x"), at=iso8601(one.at))
            for one in asked.revoked
        ],
    )


@router.put("/{authority_id}/revocationList")
@needs(Permission.WRITE_CREDENTIALS)
async def publish_list(
    request: Request, namespace: str, authority_id: str, body: SignedList
) -> PublishedListBody:
    """Publishes a list that an offline root signed."""
    services = services_of(request)
    of = await services.namespaces.get(namespace)
    try:
        crl = base64.b64decode(body.crl, validate=True)
    except binascii.Error:
        raise InvalidArgument("crl: not base64") from None
    head = await services.offline_lists.publish(of, authority_id, crl, by=actor_of(request))
    return PublishedListBody(
        authority=head.authority_id,
        number=str(head.number),
        this_update=iso8601(head.this_update),
        next_update=iso8601(head.next_update),
        revoked=head.covers,
    )


def authority_body(authority: Authority) -> dict[str, Any]:
    """A CA as JSON shows it."""
    certificate = x509.load_der_x509_certificate(authority.certificate)
    return {
        "id": authority.id,
        "kind": authority.kind.value,
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "keyType": authority.key_type.value,
        "keyKept": "elsewhere" if authority.is_offline else "here",
        "sha256": authority.sha256.hex(),
        "pkiUrl": authority.pki_url,
        "notBefore": iso8601(authority.not_before),
        "notAfter": iso8601(authority.not_after),
        "revokedAt": iso8601(authority.revoked_at) if authority.revoked_at else None,
    }
