"""When this installation was restored from a backup, and what may have been issued in between.

A certificate that the same CAs issued after the backup was taken is not in the inventory any more.
Its serial number begins with the time at which it was issued (`pki.new_leaf_serial`), which tells
it from one that somebody made with a stolen key. Neither is let in; only the second is an alarm. A
thief who knows of the restore can write such a time, and is then not told apart.

Issuing CAs that a restore revokes get no successor here, where no key can be used: the next start
makes it (`Lifecycle.renew_due`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from fleetroot import audit
from fleetroot.audit import SYSTEM, Action, Entry
from fleetroot.errors import NotFound
from fleetroot.pki import issued_at
from fleetroot.registry import authorities, policies, succession
from fleetroot.registry.hub_trust import HubTrust
from fleetroot.registry.model import Policy
from fleetroot.storage import Transaction, installation

_ROW: Final = "restores"


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore epoch: what was issued after `taken_at` and before `restored_at` is not known."""

    taken_at: datetime
    restored_at: datetime


def every(tx: Transaction) -> list[Restore]:
    """Every restore, the first one first."""
    row = installation.get(tx, _ROW)
    return [
        Restore(datetime.fromisoformat(one["takenAt"]), datetime.fromisoformat(one["restoredAt"]))
        for one in orjson.loads(row or b"[]")
    ]


def record(tx: Transaction, restore: Restore) -> None:
    """Adds a restore."""
    rows = [
        {"takenAt": one.taken_at.isoformat(), "restoredAt": one.restored_at.isoformat()}
        for one in [*every(tx), restore]
    ]
    installation.put(tx, _ROW, orjson.dumps(rows))


def lost(tx: Transaction, serial: int) -> bool:
    """Whether a certificate of this serial number may be one that a restore lost."""
    at = issued_at(serial)
    return at is not None and any(one.taken_at <= at <= one.restored_at for one in every(tx))


def revoke_again(
    tx: Transaction,
    trust: HubTrust,
    namespace_id: str,
    policy: str,
    revoked: Collection[str],
    now: datetime,
) -> None:
    """Revokes the CAs of a policy whose revocation a restore lost.

    Args:
        policy: its name.
        revoked: the ids of the CAs that were revoked.

    Raises:
        NotFound: it has none of these CAs.
    """
    found = policies.by_name(tx, namespace_id, policy)
    if not {each.id for each in authorities.of_policy(tx, namespace_id, found.id)} & {*revoked}:
        raise NotFound(f"the policy {policy} is another one")
    _revoke(tx, trust, found, now, "revoked again after a restore")


def revoke_every_issuer(tx: Transaction, trust: HubTrust, now: datetime) -> list[str]:
    """Revokes the CAs of every policy; those of roots that are not ours stay, which is for whoever
    has the root to do.

    Returns:
        The names of the policies whose CAs were revoked.
    """
    found = [each for each in policies.living(tx) if each.authority_id and not each.external_root]
    for each in found:
        _revoke(tx, trust, each, now, "rotated with a restore")
    return [each.name for each in found]


def _revoke(tx: Transaction, trust: HubTrust, policy: Policy, now: datetime, why: str) -> None:
    gone = [each.id for each in succession.revoke_all(tx, trust, policy, now)]
    subject, details = f"policy/{policy.name}", {"revoked": gone, "why": why}
    audit.append(
        tx,
        Entry(now, SYSTEM, Action.REVOKE_ISSUER, subject, policy.namespace_id, details=details),
    )
