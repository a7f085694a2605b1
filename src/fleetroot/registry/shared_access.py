"""Shared access policies of hubs and provisioning services: a name, rights and two sealed keys.

A token signed with one of the keys acts with the policy's rights, and nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import bindparam, select

from fleetroot import sas
from fleetroot.custody import RecordName, Sealer
from fleetroot.errors import Forbidden, TokenInvalid
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import shared_access_policies


class Right(StrEnum):
    """What a shared access policy may allow, by the names that Azure gives them."""

    REGISTRY_READ = "RegistryRead"
    REGISTRY_WRITE = "RegistryWrite"
    SERVICE_CONNECT = "ServiceConnect"
    DEVICE_CONNECT = "DeviceConnect"
    SERVICE_CONFIG = "ServiceConfig"
    ENROLLMENT_READ = "EnrollmentRead"
    ENROLLMENT_WRITE = "EnrollmentWrite"
    REGISTRATION_STATUS_READ = "RegistrationStatusRead"
    REGISTRATION_STATUS_WRITE = "RegistrationStatusWrite"


HUB_POLICIES: Final[dict[str, frozenset[Right]]] = {
    "iothubowner": frozenset(
        {Right.REGISTRY_READ, Right.REGISTRY_WRITE, Right.SERVICE_CONNECT, Right.DEVICE_CONNECT}
    ),
    "service": frozenset({Right.SERVICE_CONNECT}),
    "device": frozenset({Right.DEVICE_CONNECT}),
    "registryRead": frozenset({Right.REGISTRY_READ}),
    "registryReadWrite": frozenset({Right.REGISTRY_READ, Right.REGISTRY_WRITE}),
}
PROVISIONING_POLICIES: Final[dict[str, frozenset[Right]]] = {
    "provisioningserviceowner": frozenset(
        {
            Right.SERVICE_CONFIG,
            Right.ENROLLMENT_READ,
            Right.ENROLLMENT_WRITE,
            Right.REGISTRATION_STATUS_READ,
            Right.REGISTRATION_STATUS_WRITE,
            Right.DEVICE_CONNECT,
        }
    ),
}


@dataclass(frozen=True, slots=True)
class SharedAccessPolicy:
    """A shared access policy; its keys are raw."""

    name: str
    rights: frozenset[Right]
    primary_key: bytes = field(repr=False)
    secondary_key: bytes = field(repr=False)


_INSERT: Final = Command(insert_into(shared_access_policies))
_GET: Final = Query(
    select(shared_access_policies).where(
        (shared_access_policies.c.owner_id == bindparam("owner"))
        & (shared_access_policies.c.name == bindparam("name"))
    ),
    lambda owner, name, rights, primary, secondary: (rights, primary, secondary),
)


def create(
    tx: Transaction, sealer: Sealer, owner_id: str, policies: dict[str, frozenset[Right]]
) -> None:
    """Gives a hub or a provisioning service its policies, with new keys."""
    for name, rights in policies.items():
        tx.run(
            _INSERT,
            owner_id=owner_id,
            name=name,
            rights=" ".join(sorted(rights)),
            sealed_primary=sealer.seal(key_name(owner_id, name, "primary"), sas.new_key()),
            sealed_secondary=sealer.seal(key_name(owner_id, name, "secondary"), sas.new_key()),
        )


def find(tx: Transaction, sealer: Sealer, owner_id: str, name: str) -> SharedAccessPolicy | None:
    """The policy of that name, with its keys opened."""
    row = tx.first(_GET, owner=owner_id, name=name)
    if row is None:
        return None
    rights, primary, secondary = row
    return SharedAccessPolicy(
        name,
        frozenset(Right(right) for right in rights.split()),
        sealer.open(key_name(owner_id, name, "primary"), primary),
        sealer.open(key_name(owner_id, name, "secondary"), secondary),
    )


def authorize(
    policy: SharedAccessPolicy | None,
    token: sas.SasToken,
    *,
    resource: str,
    right: Right,
    now: datetime,
) -> None:
    """Checks that `token` was signed by `policy`, is in time, and reaches `resource` with `right`.

    Raises:
        TokenInvalid: it was not signed by the policy, is expired or is for another resource.
        Forbidden: the policy lacks the right.
    """
    if policy is None:
        raise TokenInvalid("no such shared access policy")
    if not (token.is_signed_by(policy.primary_key) | token.is_signed_by(policy.secondary_key)):
        raise TokenInvalid("token signed with another key")
    token.check_not_expired(now)
    if not sas.covers(token.resource, resource):
        raise TokenInvalid("token is for another resource")
    if right not in policy.rights:
        raise Forbidden(f"the shared access policy {policy.name} does not allow {right}")


def key_name(owner_id: str, name: str, which: str) -> RecordName:
    return RecordName(kind=f"shared-access-key-{which}", namespace=owner_id, id=name, version=1)
