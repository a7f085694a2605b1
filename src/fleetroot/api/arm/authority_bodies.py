"""Certificate authorities of the management API, as they are sent and shown."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from cryptography import x509
from pydantic import Field

from fleetroot.api.arm.key_types import WireKeyType
from fleetroot.api.arm.resources import SUCCEEDED, Location, Resource, Sent, Shown, Tags
from fleetroot.clock import iso8601
from fleetroot.registry.model import DEFAULT_LOCATION, Authority


class AuthorityType(StrEnum):
    """Which of both a CA is."""

    ROOT = "Root"
    ICA = "ICA"


class IssuerType(StrEnum):
    """Who signs an ICA."""

    MICROSOFT = "Microsoft"
    EXTERNAL = "External"


class Issuer(Sent):
    """Who is to sign an ICA."""

    issuer_type: Annotated[IssuerType, Field(strict=False)]
    certificate_authority_resource_id: str | None = Field(default=None, max_length=1024)


class AuthorityProperties(Sent):
    """A CA's properties, as they are sent."""

    certificate_authority_type: Annotated[AuthorityType, Field(strict=False)]
    key_type: WireKeyType | None = None
    issuer: Issuer | None = None
    subject: str | None = Field(default=None, max_length=256)


class AuthorityBody(Sent):
    """A CA, as it is sent."""

    location: Location = DEFAULT_LOCATION
    tags: Tags | None = None
    properties: AuthorityProperties


class AuthorityUpdate(Sent):
    """What changes of a CA."""

    tags: Tags | None = None


class ShownIssuer(Shown):
    """Who signed an ICA, and what waits to be signed."""

    issuer_type: IssuerType
    certificate_authority_resource_id: str | None = None
    certificate_signing_request: str | None = None
    thumbprint: str | None = None
    status: str | None = None


class ShownProperties(Shown):
    """A CA's properties."""

    provisioning_state: str = SUCCEEDED
    uuid: str
    certificate_authority_type: AuthorityType
    key_type: str
    subject: str | None = None
    validity_not_before: str | None = None
    validity_not_after: str | None = None
    issuer: ShownIssuer | None = None


class AuthorityResource(Resource):
    """A CA."""

    properties: ShownProperties


def with_certificate(shown: ShownProperties, authority: Authority | None) -> ShownProperties:
    """With what the CA's certificate says, where it has one."""
    if authority is not None:
        certificate = x509.load_der_x509_certificate(authority.certificate)
        shown.subject = certificate.subject.rfc4514_string()
        shown.validity_not_before = iso8601(authority.not_before)
        shown.validity_not_after = iso8601(authority.not_after)
    return shown
