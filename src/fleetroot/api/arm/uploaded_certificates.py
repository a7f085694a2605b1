"""CA certificates of hubs and provisioning services: `…/certificates`.

Source: Azure IoT Hub and Device Provisioning Service resource provider REST APIs. Dates are RFC
1123, a thumbprint is the SHA-1 of the certificate, as both have it.
"""

from __future__ import annotations

import base64
from datetime import datetime
from email.utils import format_datetime
from functools import partial
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from fastapi import APIRouter, Request, Response
from pydantic import Field

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.arm.resources import Page, Sent, Shown
from fleetroot.api.arm.routing import CHANGES, if_match
from fleetroot.api.arm.service_bodies import path_of, type_of
from fleetroot.api.arm.service_routing import (
    HUBS,
    SERVICES,
    DevicesRoute,
    HubRoute,
    ServiceRoute,
)
from fleetroot.api.description import answers, operation_id, replaced
from fleetroot.api.service_routes import described_of
from fleetroot.api.services import services_of
from fleetroot.pki import MAX_CERTIFICATE_TEXT
from fleetroot.registry.resource_administration import Described
from fleetroot.registry.uploaded_certificates import UploadedCertificate

_Text = Annotated[str, Field(max_length=MAX_CERTIFICATE_TEXT)]


class CertificateWish(Sent):
    """A CA's certificate, as it is sent: PEM text, or base64 of DER or of PEM text."""

    certificate: _Text
    is_verified: bool | None = None


class CertificateBody(Sent):
    """A certificate to upload."""

    properties: CertificateWish


class ProofBody(Sent):
    """A certificate that the CA signed, in the same forms; its common name is the code."""

    certificate: _Text


class CertificateProperties(Shown):
    """A CA's certificate, as it is shown; `certificate` is base64 of DER."""

    subject: str
    expiry: str
    thumbprint: str
    is_verified: bool
    created: str
    updated: str
    certificate: str
    verification_code: str | None = None


class CertificateResource(Shown):
    """A certificate as a resource."""

    id: str
    name: str
    type: str
    etag: str
    properties: CertificateProperties


def _routes(name: str, below: str, route_class: type[DevicesRoute], *, created: int) -> APIRouter:
    """The routes of hubs or of provisioning services; `created` is the status of a new one."""
    router = APIRouter(
        route_class=route_class, generate_unique_id_function=partial(operation_id, router=name)
    )
    one = below + "/certificates/{certificate}"

    @router.get(below + "/certificates", response_model_exclude_none=True)
    @needs(Permission.READ)
    async def list_(request: Request) -> Page[CertificateResource]:
        """Every certificate, by name."""
        of = described_of(request)
        found = await services_of(request).uploaded_certificates.list_all(of.owner)
        return Page(value=[_body(of, each) for each in found])

    @router.get(one, response_model_exclude_none=True)
    @needs(Permission.READ)
    async def get(request: Request, certificate: str) -> CertificateResource:
        """One certificate."""
        of = described_of(request)
        found = await services_of(request).uploaded_certificates.get(of.owner, certificate)
        return _body(of, found)

    @router.put(
        one,
        status_code=created,
        response_model_exclude_none=True,
        dependencies=CHANGES,
        responses=(replaced(CertificateResource) if created != 200 else {}) | answers(409, 412),
    )
    @needs(Permission.WRITE_SERVICES)
    async def put(
        request: Request,
        certificate: str,
        body: CertificateBody,
        response: Response,
    ) -> CertificateResource:
        """Uploads a certificate, or another in its place."""
        of = described_of(request)
        put, is_new = await services_of(request).uploaded_certificates.upload(
            of.owner,
            certificate,
            body.properties.certificate,
            verified=body.properties.is_verified is True,
            if_match=if_match(request),
            by=actor_of(request),
        )
        if not is_new:
            response.status_code = 200
        return _body(of, put)

    @router.delete(one, status_code=204, dependencies=CHANGES, responses=answers(412))
    @needs(Permission.WRITE_SERVICES)
    async def delete(request: Request, certificate: str) -> Response:
        """Deletes a certificate."""
        await services_of(request).uploaded_certificates.delete(
            described_of(request).owner,
            certificate,
            if_match=if_match(request),
            by=actor_of(request),
        )
        return Response(status_code=204)

    @router.post(
        one + "/generateVerificationCode",
        response_model_exclude_none=True,
        dependencies=CHANGES,
        responses=answers(412),
    )
    @needs(Permission.WRITE_SERVICES)
    async def generate_verification_code(request: Request, certificate: str) -> CertificateResource:
        """Draws a code that the CA's key is to sign."""
        of = described_of(request)
        found = await services_of(request).uploaded_certificates.new_code(
            of.owner, certificate, if_match=if_match(request), by=actor_of(request)
        )
        return _body(of, found, with_code=True)

    @router.post(
        one + "/verify",
        response_model_exclude_none=True,
        dependencies=CHANGES,
        responses=answers(412),
    )
    @needs(Permission.WRITE_SERVICES)
    async def verify(request: Request, certificate: str, body: ProofBody) -> CertificateResource:
        """Takes the proof that the CA's key is the uploader's."""
        of = described_of(request)
        found = await services_of(request).uploaded_certificates.verify(
            of.owner,
            certificate,
            body.certificate,
            if_match=if_match(request),
            by=actor_of(request),
        )
        return _body(of, found)

    return router


# The SDK of provisioning services takes nothing but 200.
of_hubs: Final = _routes("of_hubs", HUBS + "/{hub}", HubRoute, created=201)
of_services: Final = _routes("of_services", SERVICES + "/{service}", ServiceRoute, created=200)


def _body(
    of: Described, found: UploadedCertificate, *, with_code: bool = False
) -> CertificateResource:
    certificate = x509.load_der_x509_certificate(found.certificate)
    return CertificateResource(
        id=f"{path_of(of)}/certificates/{found.name}",
        name=found.name,
        type=f"{type_of(of)}/Certificates",
        etag=found.etag,
        properties=CertificateProperties(
            subject=certificate.subject.rfc4514_string(),
            expiry=_rfc1123(certificate.not_valid_after_utc),
            thumbprint=certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303
            is_verified=found.verified,
            created=_rfc1123(found.created_at),
            updated=_rfc1123(found.updated_at),
            certificate=base64.b64encode(found.certificate).decode(),
            verification_code=found.code if with_code else None,
        ),
    )


def _rfc1123(at: datetime) -> str:
    return format_datetime(at.replace(microsecond=0), usegmt=True)
