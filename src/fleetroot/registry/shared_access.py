"""Shared access policies of hubs and provisioning services: a name, rights and two sealed keys.

A token signed with one of the keys acts with the policy's rights, and nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import bindparam, delete, select

from fleetroot import sas
from fleetroot.custody import RecordName, Sealer
from fleetroot.errors import Forbidden, InvalidArgument, NotFound, TokenInvalid
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import upsert_into
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
HUB_RIGHTS: Final = HUB_POLICIES["iothubowner"]
PROVISIONING_RIGHTS: Final = PROVISIONING_POLICIES["provisioningserviceowner"]
MAX_POLICIES: Final = 16
_NAME: Final = re.compile(r"[A-Za-z0-9!._\-]{1,64}", re.ASCII)


class WhichKey(StrEnum):
    """One of a policy's two keys: while one is replaced, the other is good."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


@dataclass(frozen=True, slots=True)
class WantedPolicy:
    """A policy as it shall be. A key that is None is kept, or drawn where there is none."""

    name: str
    rights: frozenset[Right]
    primary_key: bytes | None = field(default=None, repr=False)
    secondary_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SharedAccessPolicy:
    """A shared access policy; its keys are raw."""

    name: str
    rights: frozenset[Right]
    primary_key: bytes = field(repr=False)
    secondary_key: bytes = field(repr=False)


_of_owner: Final = shared_access_policies.c.owner_id == bindparam("owner")
_is_named: Final = _of_owner & (shared_access_policies.c.name == bindparam("name"))
_PUT: Final = Command(upsert_into(shared_access_policies))
_GET: Final = Query(
    select(shared_access_policies).where(_is_named),
    lambda owner, name, rights, primary, secondary: (rights, primary, secondary),
)
_NAMES: Final = Query(
    select(shared_access_policies.c.name).where(_of_owner).order_by(shared_access_policies.c.name),
    str,
)
_REMOVE: Final = Command(delete(shared_access_policies).where(_is_named))


def create(
    tx: Transaction, sealer: Sealer, owner_id: str, policies: dict[str, frozenset[Right]]
) -> None:
    """Gives a hub or a provisioning service its policies, with new keys."""
    for name, rights in policies.items():
        _put(tx, sealer, owner_id, name, rights, sas.new_key(), sas.new_key())


def _put(
    tx: Transaction,
    sealer: Sealer,
    owner_id: str,
    name: str,
    rights: frozenset[Right],
    primary: bytes,
    secondary: bytes,
) -> None:
    tx.run(
        _PUT,
        owner_id=owner_id,
        name=name,
        rights=" ".join(sorted(rights)),
        sealed_primary=sealer.seal(key_name(owner_id, name, "primary"), primary),
        sealed_secondary=sealer.seal(key_name(owner_id, name, "secondary"), secondary),
    )


def all_(tx: Transaction, sealer: Sealer, owner_id: str) -> list[SharedAccessPolicy]:
    """Every policy of a hub or provisioning service by its name, with its keys opened."""
    found = (find(tx, sealer, owner_id, name) for name in tx.all(_NAMES, owner=owner_id))
    return [policy for policy in found if policy is not None]


def check(wanted: Sequence[WantedPolicy], allowed: frozenset[Right]) -> None:
    """Lets policies pass that a hub or provisioning service may have.

    Raises:
        InvalidArgument: they are too many, share a name, or one has no name, no rights or others
            than the service has.
    """
    if len(wanted) > MAX_POLICIES:
        raise InvalidArgument(f"authorizationPolicies: at most {MAX_POLICIES}")
    names = [policy.name for policy in wanted]
    if len(set(names)) != len(names):
        raise InvalidArgument("authorizationPolicies: a keyName comes twice")
    for policy in wanted:
        if not _NAME.fullmatch(policy.name):
            raise InvalidArgument("keyName: must be 1 to 64 letters, digits and ! . _ -")
        if not policy.rights or not policy.rights <= allowed:
            raise InvalidArgument(f"rights: must be of {', '.join(sorted(allowed))}")


def replace_all(
    tx: Transaction, sealer: Sealer, owner_id: str, wanted: Sequence[WantedPolicy]
) -> list[str]:
    """Makes the policies those of `wanted`, which have been checked; the names of those that
    changed, were added or are gone.
    """
    before = {policy.name: policy for policy in all_(tx, sealer, owner_id)}
    changed = sorted(before.keys() - {policy.name for policy in wanted})
    for name in changed:
        tx.run(_REMOVE, owner=owner_id, name=name)
    for policy in wanted:
        there = before.get(policy.name)
        after = SharedAccessPolicy(
            policy.name,
            policy.rights,
            policy.primary_key or (there.primary_key if there else sas.new_key()),
            policy.secondary_key or (there.secondary_key if there else sas.new_key()),
        )
        if after != there:
            keys = (after.primary_key, after.secondary_key)
            _put(tx, sealer, owner_id, after.name, after.rights, *keys)
            changed.append(after.name)
    return changed


def rotate(
    tx: Transaction, sealer: Sealer, owner_id: str, name: str, which: WhichKey
) -> SharedAccessPolicy:
    """Draws one of a policy's keys anew.

    Raises:
        NotFound: there is no policy of that name.
    """
    there = get(tx, sealer, owner_id, name)
    primary, secondary = there.primary_key, there.secondary_key
    if which is WhichKey.PRIMARY:
        primary = sas.new_key()
    else:
        secondary = sas.new_key()
    _put(tx, sealer, owner_id, name, there.rights, primary, secondary)
    return SharedAccessPolicy(name, there.rights, primary, secondary)


def remove_all(tx: Transaction, owner_id: str) -> None:
    """Removes every policy of a hub or provisioning service that goes."""
    for name in tx.all(_NAMES, owner=owner_id):
        tx.run(_REMOVE, owner=owner_id, name=name)


def get(tx: Transaction, sealer: Sealer, owner_id: str, name: str) -> SharedAccessPolicy:
    """The policy of that name, with its keys opened.

    Raises:
        NotFound: there is none.
    """
    found = find(tx, sealer, owner_id, name)
    if found is None:
        raise NotFound(f"there is no shared access policy {name[:64]}")
    return found


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
