"""The values that the registry gives to other rooms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from fleetroot.pki import KeyType

DEFAULT_LOCATION: Final = "local"
DEFAULT_ROOT_NAME: Final = "root"


@dataclass(frozen=True, slots=True)
class Namespace:
    """The tenancy and security boundary.

    Attributes:
        location: where it is, in the words of whoever made it; nothing is decided by it.
    """

    id: str
    name: str
    subscription_id: str
    resource_group: str
    created_at: datetime
    tags: Mapping[str, str]
    etag: str
    updated_at: datetime
    location: str = DEFAULT_LOCATION


class AuthorityKind(StrEnum):
    """What a certificate authority is for."""

    ROOT = "root"
    ISSUING = "issuing"


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: a certificate (DER), and its sealed key where it is kept here.

    Attributes:
        policy_id: of an issuing CA, the policy that it signs or signed for.
        external_chain: the CAs above it that are not ours (DER), lowest first; with a root that
            is not ours.
        listed_at: since when it, or a CA above it, stands on a list that was brought; None: on
            none.
    """

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
    policy_id: str | None = None
    external_chain: tuple[bytes, ...] = ()
    listed_at: datetime | None = None

    @property
    def is_offline(self) -> bool:
        """Whether its key is kept elsewhere."""
        return self.sealed_key is None


@dataclass(frozen=True, slots=True)
class AuthorityRequest:
    """A key that waits for its CA certificate; it becomes the `Authority` of the same id.

    Attributes:
        issuer_id: the namespace's own root, whose key is kept elsewhere; None: a root not ours.
        request: DER of the PKCS#10 request.
    """

    id: str
    namespace_id: str
    policy_id: str
    issuer_id: str | None
    request: bytes
    sealed_key: bytes = field(repr=False)
    key_type: KeyType
    pki_url: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Credential:
    """The root CA that is a namespace's own.

    Attributes:
        root_name: what the root is called, where roots and issuing CAs are in one list.
    """

    namespace_id: str
    root: Authority
    tags: Mapping[str, str]
    etag: str
    created_at: datetime
    updated_at: datetime
    root_name: str = DEFAULT_ROOT_NAME


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of the leaf certificates that one issuing CA signs, and which CA that is now.

    Attributes:
        authority_id: None until the policy has a CA.
        authority_key_type: of the CAs that are made for it.
        external_root: bring your own root: its CAs are signed by a root that is not ours.
        subject: of its CAs (RFC 4514); None: each gets a name of its own.
        deleted_at: it issues nothing any more.
    """

    id: str
    namespace_id: str
    name: str
    authority_id: str | None
    leaf_validity: timedelta
    leaf_key_types: frozenset[KeyType]
    etag: str
    created_at: datetime
    updated_at: datetime
    authority_key_type: KeyType
    external_root: bool
    subject: str | None
    deleted_at: datetime | None


class IssuerStatus(StrEnum):
    """How a policy stands with its CA, in the words of the management API."""

    PENDING_ACTIVATION = "PendingActivation"
    ACTIVE = "Active"
    ACTIVE_BUT_PENDING_RENEWAL = "ActiveButPendingRenewal"


@dataclass(frozen=True, slots=True)
class PolicyDetails:
    """A policy with its CA.

    Attributes:
        authority: who signs now; None until the first CA is activated.
        request: the key that waits for a certificate, if one does.
    """

    policy: Policy
    authority: Authority | None
    request: AuthorityRequest | None

    @property
    def issuer_status(self) -> IssuerStatus:
        """Whether it can issue, and whether a certificate is waited for."""
        if self.request is None:
            return IssuerStatus.ACTIVE
        if self.authority is None:
            return IssuerStatus.PENDING_ACTIVATION
        return IssuerStatus.ACTIVE_BUT_PENDING_RENEWAL


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
    """A row of the inventory. `certificate` is DER, `serial` lower-case hexadecimal.

    Attributes:
        enrollment: that its device provisioned under, in provisioning's own words; None where that
            is not known.
    """

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
    enrollment: str | None

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
