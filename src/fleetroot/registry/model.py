"""The values that the registry gives to other rooms."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from fleetroot.pki import KeyType


@dataclass(frozen=True, slots=True)
class Namespace:
    """The tenancy and security boundary."""

    id: str
    name: str
    subscription_id: str
    resource_group: str
    created_at: datetime


class AuthorityKind(StrEnum):
    """What a certificate authority is for."""

    ROOT = "root"
    ISSUING = "issuing"


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: a certificate (DER), and its sealed key where it is kept here."""

    id: str
    namespace_id: str
    kind: AuthorityKind
    issuer_id: str | None
    certificate: bytes
    sha256: bytes
    sealed_key: bytes | None = field(repr=False)
    key_type: KeyType
    pki_url: str
    crl_shards: int
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of the leaf certificates that one issuing CA signs, and which CA that is now."""

    id: str
    namespace_id: str
    name: str
    authority_id: str
    leaf_validity: timedelta
    leaf_key_types: frozenset[KeyType]
    etag: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Device:
    """The registry's entity. `device_key` is the canonical form of `device_id`.

    Attributes:
        enrollment: the enrollment that it provisions under, in provisioning's own words; None if
            it never did.
        hub_id: the hub that provisioning put it on; None like `enrollment`.
    """

    namespace_id: str
    device_key: str
    device_id: str
    uuid: str
    generation: UUID
    enabled: bool
    policy_id: str | None
    enrollment: str | None
    hub_id: str | None
    etag: str
    version: int
    created_at: datetime
    updated_at: datetime


class Origin(StrEnum):
    """How a certificate came to be issued."""

    PROVISIONING = "provisioning"
    RENEWAL = "renewal"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A row of the inventory. `certificate` is DER, `serial` lower-case hexadecimal."""

    id: int
    sha256: bytes
    namespace_id: str
    authority_id: str
    policy_id: str
    device_key: str
    device_id: str
    generation: UUID
    serial: str
    certificate: bytes
    origin: Origin
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    expired_at: datetime | None
    revoked_at: datetime | None
    revocation_reason: str | None

    def status(self, now: datetime) -> str:
        """`revoked`, `expired`, `pending` (not yet valid) or `valid`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expired_at is not None or now > self.not_after:
            return "expired"
        return "pending" if now < self.not_before else "valid"


@dataclass(frozen=True, slots=True)
class IssuedChain:
    """What a device is given: DER certificates, leaf first, root last."""

    certificates: tuple[bytes, ...]
    not_before: datetime
    not_after: datetime
