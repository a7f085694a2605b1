"""The inventory of certificates over the operator API."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Request

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, namespace_of, needs, of_namespaces
from fleetroot.api.answers import Answer, Hex, Limit, Page, RowNumber, Time
from fleetroot.api.description import operation_id
from fleetroot.api.services import services_of
from fleetroot.registry.model import Certificate, Origin

router = APIRouter(
    prefix="/fleetroot",
    route_class=OperatorRoute,
    generate_unique_id_function=partial(operation_id, area="operator"),
)
namespaced = of_namespaces("")


class CertificateAnswer(Answer):
    """A row of the inventory."""

    id: int
    device_id: str
    serial_number: str
    sha256: Hex
    status: str
    origin: Origin
    issuing_authority: str
    not_before: Time
    not_after: Time
    issued_at: Time
    revoked_at: Time | None


class CertificateDetails(CertificateAnswer):
    """A certificate, with its PEM text."""

    subject: str
    issuer: str
    pem: str


@router.get("/certificates")
@namespaced.get("/certificates")
@needs(Permission.READ)
async def certificates(
    request: Request,
    device: str | None = None,
    before: RowNumber = None,
    limit: Limit = 100,
) -> Page[CertificateAnswer, int]:
    """A page of the inventory, newest first; `next` is the `before` of the next page."""
    services = services_of(request)
    found = await services.registry.certificates(
        namespace_of(request), device_id=device, before=before, limit=limit
    )
    now = services.clock.now()
    return Page(
        value=[certificate_body(certificate, now) for certificate in found],
        next=found[-1].id if len(found) == limit else None,
    )


@router.get("/certificates/{name}")
@namespaced.get("/certificates/{name}")
@needs(Permission.READ)
async def certificate(request: Request, name: str) -> CertificateDetails:
    """One certificate, by serial number or fingerprint, with its PEM text."""
    services = services_of(request)
    found = await services.registry.certificate(namespace_of(request), name)
    parsed = x509.load_der_x509_certificate(found.certificate)
    return CertificateDetails(
        **dict(certificate_body(found, services.clock.now())),
        subject=parsed.subject.rfc4514_string(),
        issuer=parsed.issuer.rfc4514_string(),
        pem=parsed.public_bytes(Encoding.PEM).decode(),
    )


def certificate_body(certificate: Certificate, now: datetime) -> CertificateAnswer:
    """A row of the inventory as JSON shows it."""
    return CertificateAnswer(
        id=certificate.id,
        device_id=certificate.device_id,
        serial_number=certificate.serial,
        sha256=certificate.sha256,
        status=certificate.status(now),
        origin=certificate.origin,
        issuing_authority=certificate.authority_id,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        issued_at=certificate.issued_at,
        revoked_at=certificate.revoked_at,
    )
