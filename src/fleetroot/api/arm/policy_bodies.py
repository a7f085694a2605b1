"""Policies of the management API, as they are sent and shown.

Azure's shape, and beside it: `keyType` by our names, `subject` when a policy is made, and of leaves
`validityPeriodInHours` and `keyTypes`. Hours are shown where the validity is no whole number of
days; `validityPeriodInDays` is rounded up then.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field, model_validator

from fleetroot.api.arm.key_types import WireKeyType, wire_name
from fleetroot.api.arm.resources import SUCCEEDED, Resource, Sent, Shown, SystemData
from fleetroot.clock import iso8601
from fleetroot.pki import KeyType
from fleetroot.registry.model import Policy, PolicyDetails

TYPE: Final = "Microsoft.DeviceRegistry/namespaces/credentials/policies"
_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)

PolicyTags = Annotated[dict[str, str], Field(max_length=0)]  # it keeps none
_KeyTypes = Annotated[
    frozenset[Annotated[KeyType, Field(strict=False)]], Field(strict=False, min_length=1)
]


class LeafConfiguration(Sent):
    """What is to be said of leaves."""

    validity_period_in_days: Annotated[int, Field(gt=0, le=10_000)] | None = None
    validity_period_in_hours: Annotated[float, Field(ge=0.01, le=240_000)] | None = None
    key_types: _KeyTypes | None = None

    @model_validator(mode="after")
    def _agree(self) -> LeafConfiguration:
        hours = self.validity_period_in_hours
        if hours is not None and self.validity_period_in_days not in (
            None,
            days_of(timedelta(hours=hours)),
        ):
            raise ValueError("validityPeriodInDays and validityPeriodInHours do not agree")
        return self

    @property
    def validity(self) -> timedelta | None:
        """In whole seconds; None where nothing is said."""
        if self.validity_period_in_hours is not None:
            return timedelta(seconds=round(self.validity_period_in_hours * 3600))
        if self.validity_period_in_days is not None:
            return self.validity_period_in_days * _DAY
        return None


class RootConfiguration(Sent):
    """Whether the root is one that is not ours."""

    enabled: bool = False


class AuthorityConfiguration(Sent):
    """What is to be said of the policy's CAs, when it is made."""

    key_type: WireKeyType | None = None
    subject: str | None = Field(default=None, max_length=256)
    bring_your_own_root: RootConfiguration | None = None


class CertificateConfiguration(Sent):
    """What a policy is to say of its CAs and leaves."""

    certificate_authority_configuration: AuthorityConfiguration = Field(
        default_factory=AuthorityConfiguration
    )
    leaf_certificate_configuration: LeafConfiguration = Field(default_factory=LeafConfiguration)


class PolicyProperties(Sent):
    """A policy's properties, as they are sent."""

    certificate: CertificateConfiguration = Field(default_factory=CertificateConfiguration)


class PolicyBody(Sent):
    """A policy, or a change of one. Policies of the first generation had tags."""

    tags: PolicyTags | None = None
    properties: PolicyProperties = Field(default_factory=PolicyProperties)


class ActivateBody(Sent):
    """The chain that was signed: PEM, the issuing CA first, up to and optionally with the root."""

    certificate_chain: str = Field(max_length=64 * 1024)


class ShownRoot(Shown):
    """Where the root of a policy's CAs is, and what waits to be signed there."""

    enabled: bool
    certificate_signing_request: str | None = None
    issuing_certificate_thumbprint: str | None = None
    status: str | None = None


class ShownAuthority(Shown):
    """A policy's CA."""

    key_type: str
    subject: str | None = None
    validity_not_before: str | None = None
    validity_not_after: str | None = None
    bring_your_own_root: ShownRoot


class ShownLeaf(Shown):
    """What a policy says of leaves."""

    validity_period_in_days: int
    validity_period_in_hours: float | None = None
    key_types: list[str]


class ShownCertificate(Shown):
    """What a policy says of its CAs and leaves."""

    certificate_authority_configuration: ShownAuthority
    leaf_certificate_configuration: ShownLeaf


class ShownProperties(Shown):
    """A policy's properties."""

    provisioning_state: str = SUCCEEDED
    certificate: ShownCertificate


class PolicyResource(Resource):
    """A policy."""

    properties: ShownProperties


def days_of(validity: timedelta) -> int:
    """The validity in days, rounded up."""
    return -(-validity // _DAY)


def csr_of(details: PolicyDetails) -> str | None:
    """The request that waits to be signed, PEM."""
    if details.request is None:
        return None
    request = x509.load_der_x509_csr(details.request.request)
    return request.public_bytes(Encoding.PEM).decode()


def shown_leaf(policy: Policy) -> ShownLeaf:
    """What a policy says of leaves."""
    validity = policy.leaf_validity
    return ShownLeaf(
        validity_period_in_days=days_of(validity),
        validity_period_in_hours=validity / _HOUR if validity % _DAY else None,
        key_types=sorted(policy.leaf_key_types),
    )


def shown_policy(path: str, details: PolicyDetails) -> PolicyResource:
    """A policy as it is shown; `path` is its credential's."""
    policy = details.policy
    return PolicyResource(
        id=f"{path}/policies/{policy.name}",
        name=policy.name,
        type=TYPE,
        system_data=SystemData.of(policy.created_at, policy.updated_at),
        etag=policy.etag,
        properties=ShownProperties(
            certificate=ShownCertificate(
                certificate_authority_configuration=_shown_authority(details),
                leaf_certificate_configuration=shown_leaf(policy),
            )
        ),
    )


def _shown_authority(details: PolicyDetails) -> ShownAuthority:
    policy, authority = details.policy, details.authority
    is_signed_elsewhere = policy.external_root or details.request is not None
    root = ShownRoot(
        enabled=policy.external_root,
        certificate_signing_request=csr_of(details),
        issuing_certificate_thumbprint=(
            authority.sha256.hex() if authority and is_signed_elsewhere else None
        ),
        status=details.issuer_status.value if is_signed_elsewhere else None,
    )
    shown = ShownAuthority(
        key_type=wire_name(policy.authority_key_type),
        subject=policy.subject,
        bring_your_own_root=root,
    )
    if authority is None:
        return shown
    certificate = x509.load_der_x509_certificate(authority.certificate)
    return shown.model_copy(
        update={
            "subject": certificate.subject.rfc4514_string(),
            "validity_not_before": iso8601(authority.not_before),
            "validity_not_after": iso8601(authority.not_after),
        }
    )
