"""Roles and what they permit, tokens, and callers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from fleetroot.audit import Actor
from fleetroot.errors import Forbidden

EVERYWHERE: Final = None
"""The scope of a role that is good for every namespace, and for what belongs to none."""


class Permission(StrEnum):
    """What a call needs, of a role on the namespace that it is about."""

    READ = "read"  # everything but secrets
    READ_SECRETS = "secrets.read"  # keys of enrollments, shared access policies
    WRITE_DEVICES = "devices.write"  # also to revoke one
    WRITE_ENROLLMENTS = "enrollments.write"
    WRITE_CREDENTIALS = "credentials.write"  # authorities, policies, synchronization
    WRITE_SERVICES = "services.write"  # namespaces, hubs, provisioning services
    WRITE_ACCESS = "access.write"  # tokens, OIDC issuers
    APPROVE = "approve"
    READ_AUDIT_LOG = "audit.read"
    BACK_UP = "backup"


class Role(StrEnum):
    """What a token or a claim gives its bearer."""

    READER = "reader"
    DEVICE_CONTRIBUTOR = "device-contributor"
    CREDENTIALS_CONTRIBUTOR = "credentials-contributor"
    OWNER = "owner"

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the role carries."""
        return _PERMISSIONS[self]


_READER: Final = frozenset({Permission.READ})
_PERMISSIONS: Final = {
    Role.READER: _READER,
    Role.DEVICE_CONTRIBUTOR: _READER
    | {Permission.WRITE_DEVICES, Permission.WRITE_ENROLLMENTS, Permission.READ_SECRETS},
    Role.CREDENTIALS_CONTRIBUTOR: _READER
    | {Permission.WRITE_CREDENTIALS, Permission.APPROVE, Permission.READ_AUDIT_LOG},
    Role.OWNER: frozenset(Permission),
}


@dataclass(frozen=True, slots=True)
class Grant:
    """A role on a namespace, or `EVERYWHERE`."""

    role: Role
    namespace_id: str | None


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is listed; its secret is nowhere.

    Attributes:
        created_by: the name of who made it.
        former_until: until when the secret before the last rotation is good, too.
        last_used_at: to the minute or so.
    """

    id: str
    name: str
    grant: Grant
    created_by: str
    created_at: datetime
    rotated_at: datetime | None
    expires_at: datetime
    former_until: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def status(self, now: datetime) -> str:
        """`revoked`, `expired` or `active`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if now >= self.expires_at else "active"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who was authenticated, and what was granted to them."""

    actor: Actor
    grants: tuple[Grant, ...]

    def may(self, permission: Permission, namespace_id: str | None) -> bool:
        """Whether one of the grants carries the permission there; `EVERYWHERE` asks for a grant on
        everything.
        """
        return any(
            permission in grant.role.permissions
            and grant.namespace_id in (EVERYWHERE, namespace_id)
            for grant in self.grants
        )

    def require(self, permission: Permission, namespace_id: str | None) -> None:
        """Lets the caller pass.

        Raises:
            Forbidden: no grant carries the permission there.
        """
        if not self.may(permission, namespace_id):
            raise Forbidden(f"this needs {permission.value}", reason="role too small")

    def require_somewhere(self, permission: Permission) -> None:
        """Lets a caller pass who may see a part.

        Raises:
            Forbidden: no grant carries the permission, on whatever.
        """
        if not any(permission in grant.role.permissions for grant in self.grants):
            raise Forbidden(f"this needs {permission.value}", reason="role too small")
