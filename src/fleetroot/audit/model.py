"""The values of the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple


class ActorKind(StrEnum):
    """How an actor proved who it is."""

    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    OIDC = "oidc"
    SHARED_ACCESS = "sharedAccess"
    DEVICE = "device"
    SYSTEM = "system"  # the server itself: a duty, a first start
    UNKNOWN = "unknown"  # it did not


class Actor(NamedTuple):
    """Who asks, and from where.

    Attributes:
        name: a token's name, an OIDC subject, a shared access policy, a device or registration id.
        peer: host and port; None for the server itself.
        trace_id: of the connection or request; it stands in the log and in answers, too.
    """

    kind: ActorKind
    name: str
    peer: str | None = None
    trace_id: str | None = None


SYSTEM: Final = Actor(ActorKind.SYSTEM, "fleetroot")


class Outcome(StrEnum):
    """What came of it."""

    DONE = "done"
    REFUSED = "refused"


class Action(StrEnum):
    """What may be done, in the words of the management API. A refusal that is of no such action
    has the word by which it is counted: `connect`, `http`, `provisioning`, `tls`.
    """

    CREATE_NAMESPACE = "namespace.create"
    UPDATE_NAMESPACE = "namespace.update"
    DELETE_NAMESPACE = "namespace.delete"
    CREATE_CREDENTIAL = "credential.create"
    UPDATE_CREDENTIAL = "credential.update"
    DELETE_CREDENTIAL = "credential.delete"
    SYNCHRONIZE = "credential.synchronize"
    CREATE_POLICY = "policy.create"
    UPDATE_POLICY = "policy.update"
    DELETE_POLICY = "policy.delete"
    ROTATE_ISSUER = "policy.rotateIssuer"
    REQUEST_ISSUER = "policy.requestIssuer"
    REVOKE_ISSUER = "policy.revokeIssuer"
    ACTIVATE_ISSUER = "policy.activateBringYourOwnRoot"
    DISTRUST_ISSUER = "hub.distrustIssuer"

    REGISTER_DEVICE = "device.register"
    PUT_DEVICE = "device.put"
    DELETE_DEVICE = "device.delete"
    REVOKE_DEVICE = "device.revoke"
    ENABLE_DEVICE = "device.enable"
    DISABLE_DEVICE = "device.disable"
    CHANGE_TWIN = "device.changeTwin"
    PURGE_MESSAGES = "device.purgeMessages"
    CREATE_JOB = "job.create"
    CANCEL_JOB = "job.cancel"
    CREATE_IDENTITY = "identity.create"
    UPDATE_IDENTITY = "identity.update"
    DELETE_IDENTITY = "identity.delete"
    ISSUE_CERTIFICATE = "certificate.issue"
    REVOKE_CERTIFICATE = "certificate.revoke"
    START_REVOCATION = "revocation.start"
    CANCEL_REVOCATION = "revocation.cancel"
    FINISH_REVOCATION = "revocation.finish"

    CREATE_HUB = "hub.create"
    UPDATE_HUB = "hub.update"
    LINK_HUB = "hub.link"
    DELETE_HUB = "hub.delete"
    CREATE_PROVISIONING_SERVICE = "provisioning-service.create"
    UPDATE_PROVISIONING_SERVICE = "provisioning-service.update"
    LINK_PROVISIONING_SERVICE = "provisioning-service.link"
    DELETE_PROVISIONING_SERVICE = "provisioning-service.delete"
    PUT_REGION = "region.put"
    DELETE_REGION = "region.delete"
    READ_KEYS = "keys.read"
    ROTATE_KEY = "keys.rotate"
    UPLOAD_CERTIFICATE = "ca-certificate.upload"
    REQUEST_VERIFICATION = "ca-certificate.generateVerificationCode"
    VERIFY_CERTIFICATE = "ca-certificate.verify"
    DELETE_CERTIFICATE = "ca-certificate.delete"
    PUT_ENROLLMENT = "enrollment.put"
    DELETE_ENROLLMENT = "enrollment.delete"
    KEEP_STORAGE_ROOT = "enrollment.keepStorageRootKey"
    HOLD_REGISTRATION = "registration.hold"
    APPROVE_REGISTRATION = "registration.approve"
    REJECT_REGISTRATION = "registration.reject"
    DELETE_REGISTRATION = "registration.delete"

    CREATE_TOKEN = "token.create"  # noqa: S105
    ROTATE_TOKEN = "token.rotate"  # noqa: S105
    REVOKE_TOKEN = "token.revoke"  # noqa: S105
    PUT_OIDC_ISSUER = "oidc-issuer.put"
    DELETE_OIDC_ISSUER = "oidc-issuer.delete"

    REQUEST_APPROVAL = "approval.request"
    GIVE_APPROVAL = "approval.give"
    REJECT_APPROVAL = "approval.reject"
    USE_APPROVAL = "approval.use"

    UPLOAD_CRL = "crl.upload"
    DELETE_CRL = "crl.delete"
    PUBLISH_CRL = "crl.publish"

    ALERT_CERTIFICATE = "alert.certificateNotInInventory"

    TAKE_BACKUP = "backup.take"
    RESTORE = "backup.restore"
    CHANGE_MASTER_KEY = "master-key.change"
    FORGET_MASTER_KEY = "master-key.forget"
    EXPORT_AUDIT_LOG = "audit-log.export"


class Entry(NamedTuple):
    """One entry, to be appended. (A tuple, like `Actor`: each issuance makes one.)

    Attributes:
        namespace_id: None for what belongs to the installation.
        subject: a kind and an id, `device/dev-1`.
        reason: why it was refused.
        details: more, as JSON; no secrets.
    """

    at: datetime
    actor: Actor
    action: str
    subject: str
    namespace_id: str | None = None
    outcome: Outcome = Outcome.DONE
    reason: str | None = None
    details: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry of the log. `line` is what is hashed and exported: its canonical JSON (sorted names,
    no spaces, UTF-8).
    """

    seq: int
    at: datetime
    line: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """What was done, as it is found again.

    Attributes:
        namespace_id: in which namespace.
    """

    at: datetime
    namespace_id: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement about a stretch of the log.

    Attributes:
        statement: what was signed, canonical JSON; `chain.statement` has its fields.
        signature: ECDSA with the hash of the key's curve, DER.
    """

    number: int
    first_seq: int
    last_seq: int
    statement: bytes
    signature: bytes
