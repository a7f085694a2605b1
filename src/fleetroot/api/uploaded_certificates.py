"""CA certificates of hubs and provisioning services over the operator API."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from cryptography import x509
from fastapi import APIRouter, Request, Response
from pydantic import Field

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.answers import Answer, Hex, Listed, Time
from fleetroot.api.bodies import Body
from fleetroot.api.description import answers, operation_id, replaced
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.service_routes import HubRoute, ServiceRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.pki import MAX_CERTIFICATE_TEXT, sha256_fingerprint, to_pem
from fleetroot.registry.uploaded_certificates import UploadedCertificate

_Text = Annotated[str, Field(max_length=MAX_CERTIFICATE_TEXT)]


class UploadBody(Body):
    """A CA's certificate: PEM text, or base64 of DER or of PEM text; `isVerified` where no proof is
    needed.
    """

    certificate: _Text
    is_verified: bool = False


class ProofBody(Body):
    """A certificate that the CA signed, in the same forms; its common name is the code."""

    certificate: _Text


class UploadedCertificateAnswer(Answer):
    """A CA's certificate."""

    name: str
    subject: str
    sha256: Hex
    is_verified: bool
    not_after: Time
    etag: str
    created_at: Time
    updated_at: Time
    pem: str
    verification_code: str | None = None
    code_expires_at: Time | None = None


def _routes(name: str, prefix: str, route_class: type[HubRoute | ServiceRoute]) -> APIRouter:
    router = APIRouter(
        prefix=prefix + "/certificates",
        route_class=route_class,
        generate_unique_id_function=partial(operation_id, router=name),
    )

    @router.get("")
    @needs(Permission.READ)
    async def list_(request: Request) -> Listed[UploadedCertificateAnswer]:
        """Every certificate, by name."""
        owner = described_of(request).owner
        found = await services_of(request).uploaded_certificates.list_all(owner)
        return Listed(value=[_shown(each) for each in found])

    @router.get("/{certificate}")
    @needs(Permission.READ)
    async def get(request: Request, certificate: str) -> UploadedCertificateAnswer:
        """One certificate."""
        owner = described_of(request).owner
        return _shown(await services_of(request).uploaded_certificates.get(owner, certificate))

    @router.put(
        "/{certificate}",
        status_code=201,
        responses=replaced(UploadedCertificateAnswer) | answers(409, 412),
    )
    @needs(Permission.WRITE_SERVICES)
    async def put(
        request: Request,
        certificate: str,
        body: UploadBody,
        response: Response,
        if_match: IfMatch = None,
    ) -> UploadedCertificateAnswer:
        """Uploads a certificate, or another in the place of the one that If-Match names."""
        put, is_new = await services_of(request).uploaded_certificates.upload(
            described_of(request).owner,
            certificate,
            body.certificate,
            verified=body.is_verified,
            if_match=if_match,
            by=actor_of(request),
        )
        if not is_new:
            response.status_code = 200
        return _shown(put)

    @router.delete("/{certificate}", status_code=204, responses=answers(412))
    @needs(Permission.WRITE_SERVICES)
    async def delete(request: Request, certificate: str, if_match: IfMatch = None) -> Response:
        """Deletes a certificate."""
        owner = described_of(request).owner
        await services_of(request).uploaded_certificates.delete(
            owner, certificate, if_match=if_match, by=actor_of(request)
        )
        return Response(status_code=204)

    @router.post("/{certificate}/generateVerificationCode", responses=answers(412))
    @needs(Permission.WRITE_SERVICES)
    async def generate_verification_code(
        request: Request, certificate: str, if_match: IfMatch = None
    ) -> UploadedCertificateAnswer:
        """Draws a code that the CA's key is to sign; it is shown here and never again."""
        owner = described_of(request).owner
        return _shown(
            await services_of(request).uploaded_certificates.new_code(
                owner, certificate, if_match=if_match, by=actor_of(request)
            ),
            with_code=True,
        )

    @router.post("/{certificate}/verify", responses=answers(412))
    @needs(Permission.WRITE_SERVICES)
    async def verify(
        request: Request, certificate: str, body: ProofBody, if_match: IfMatch = None
    ) -> UploadedCertificateAnswer:
        """Takes the proof that the CA's key is the uploader's."""
        return _shown(
            await services_of(request).uploaded_certificates.verify(
                described_of(request).owner,
                certificate,
                body.certificate,
                if_match=if_match,
                by=actor_of(request),
            )
        )

    return router


of_hubs: Final = _routes("of_hubs", "/fleetroot/hubs/{hub}", HubRoute)
of_services: Final = _routes(
    "of_services", "/fleetroot/provisioning-services/{service}", ServiceRoute
)


def _shown(found: UploadedCertificate, *, with_code: bool = False) -> UploadedCertificateAnswer:
    certificate = x509.load_der_x509_certificate(found.certificate)
    return UploadedCertificateAnswer(
        name=found.name,
        subject=certificate.subject.rfc4514_string(),
        sha256=sha256_fingerprint(certificate),
        is_verified=found.verified,
        not_after=certificate.not_valid_after_utc,
        etag=found.etag,
        created_at=found.created_at,
        updated_at=found.updated_at,
        pem=to_pem([certificate]),
        verification_code=found.code if with_code else None,
        code_expires_at=found.code_expires_at if with_code else None,
    )
