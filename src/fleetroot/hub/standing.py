"""How a device stands on the hubs of its namespace: what would decide if it connected now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fleetroot.hub import hubs, identities
from fleetroot.hub.model import Hub, Identity, Pin
from fleetroot.ids import canonical
from fleetroot.registry import authorities, devices, inventory, uploaded_certificates
from fleetroot.registry.inventory import RevocationReason
from fleetroot.registry.model import Certificate, Device
from fleetroot.storage import Transaction

_NEWEST: Final = 20  # certificates of a device that are looked at


@dataclass(frozen=True, slots=True)
class IdentityStanding:
    """The device's identity on one hub.

    Attributes:
        against: the reasons for which it is refused now, whatever it shows, as refusals give them.
    """

    hub: Hub
    identity: Identity
    against: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceStanding:
    """One snapshot of what decides about a device.

    Attributes:
        device: as the registry has it; None: it does not know it, and no hub lets it in.
        identities: one for each hub that knows the device.
        certificates: its newest, the newest first.
    """

    device: Device | None
    identities: tuple[IdentityStanding, ...]
    certificates: tuple[Certificate, ...]


def read(tx: Transaction, namespace_id: str, device_id: str, now: datetime) -> DeviceStanding:
    """How the device of that id, in any spelling, stands on every hub of the namespace."""
    device = devices.find(tx, namespace_id, device_id)
    key = canonical(device_id)
    issued = inventory.page(tx, namespace_id, device_key=key, before=None, limit=_NEWEST)
    found = []
    for hub in hubs.of_namespace(tx, namespace_id):
        identity = identities.find(tx, hub.id, device_id)
        if identity is not None:
            trusted, listed = hubs.trusted(tx, hub.id), authorities.listed(tx, namespace_id)
            has_uploaded = bool(uploaded_certificates.verified(tx, hub.id))
            against = _against(identity, device, issued, trusted, listed, has_uploaded, now)
            found.append(IdentityStanding(hub, identity, tuple(against)))
    return DeviceStanding(device, tuple(found), tuple(issued))


def _against(
    identity: Identity,
    device: Device | None,
    issued: list[Certificate],
    trusted: frozenset[str],
    listed: frozenset[str],
    has_uploaded: bool,
    now: datetime,
) -> list[str]:
    found = []
    if device is None:
        found.append("device deleted")
    if not identity.enabled or (device is not None and not device.enabled):
        found.append("device disabled")
    if identity.pin is Pin.UPLOADED and not has_uploaded:
        found.append("no CA was uploaded and verified")
    if identity.pin is not Pin.POLICY:
        return found
    of_policy = [one for one in issued if one.policy_id == identity.policy_id]
    if not of_policy:
        found.append("no certificate was issued")
        return found
    # Each certificate is held against the rules by itself: any good one lets the device in.
    reasons = [_reason(one, device, trusted, listed, now) for one in of_policy]
    if None not in reasons:
        found.append(next(reason for reason in reasons if reason is not None))  # of the newest
    return found


def _reason(
    certificate: Certificate,
    device: Device | None,
    trusted: frozenset[str],
    listed: frozenset[str],
    now: datetime,
) -> str | None:
    if certificate.revocation_reason == RevocationReason.CA_COMPROMISE:
        return "issuing CA revoked"
    if certificate.authority_id not in trusted:
        return "issuing CA not synchronized to this hub"
    if certificate.authority_id in listed:
        return "issuing CA on a revocation list"
    of_now = None if device is None else device.generation
    if certificate.revoked_at is not None or certificate.generation != of_now:
        return "certificate revoked"
    return {"expired": "certificate expired", "pending": "certificate not yet valid"}.get(
        certificate.status(now)
    )
