"""Certificate authorities over the operator API: all that a namespace has and had."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from fastapi import APIRouter, Request

from fleetroot.access import Permission
from fleetroot.api.access import NamespaceRoute, needs
from fleetroot.api.services import services_of
from fleetroot.clock import iso8601
from fleetroot.errors import NotFound
from fleetroot.pki import to_pem
from fleetroot.registry.model import Authority

router = APIRouter(
    prefix="/fleetroot/namespaces/{namespace}/authorities", route_class=NamespaceRoute
)


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
