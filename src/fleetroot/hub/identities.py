"""Identities: their table."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, delete, select, update

from fleetroot.custody import RecordName, Sealer
from fleetroot.hub.model import Identity, Pin
from fleetroot.ids import canonical
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_if_absent
from fleetroot.storage.schema import identities


def row(
    hub_id: str,
    device_key: str,
    device_id: str,
    generation_id: str,
    enabled: bool,
    pin: str,
    policy_id: str | None,
    sealed_primary: bytes | None,
    sealed_secondary: bytes | None,
    session_epoch: int,
    connected: bool,
    connection_changed_at: datetime | None,
    etag: str,
    created_at: datetime,
    updated_at: datetime,
    primary_thumbprint: str | None,
    secondary_thumbprint: str | None,
) -> Identity:
    """An identity from the columns of its table, in their order."""
    return Identity(
        hub_id,
        device_key,
        device_id,
        generation_id,
        enabled,
        Pin(pin),
        policy_id,
        sealed_primary,
        sealed_secondary,
        session_epoch,
        connected,
        connection_changed_at,
        etag,
        created_at,
        updated_at,
        primary_thumbprint,
        secondary_thumbprint,
    )


_is_identity: Final = (identities.c.hub_id == bindparam("hub")) & (
    identities.c.device_key == bindparam("key")
)
_GET: Final = Query(select(identities).where(_is_identity), row)
_INSERT_IF_ABSENT: Final = Command(insert_if_absent(identities))
_DELETE: Final = Command(delete(identities).where(_is_identity))
_of_hub: Final = identities.c.hub_id == bindparam("hub")
_ANY: Final = Query(select(identities.c.device_key).where(_of_hub).limit(1), str)
_ANY_CONNECTED: Final = Query(
    select(identities.c.device_key).where(_of_hub & identities.c.connected).limit(1), str
)
_DELETE_ALL: Final = Command(delete(identities).where(_of_hub))
_SET_PIN: Final = Command(
    update(identities)
    .where(_is_identity)
    .values(
        pin=bindparam("new_pin"),
        policy_id=bindparam("policy"),
        sealed_primary=bindparam("primary"),
        sealed_secondary=bindparam("secondary"),
        primary_thumbprint=bindparam("first_thumbprint"),
        secondary_thumbprint=bindparam("second_thumbprint"),
        etag=bindparam("new_etag"),
        updated_at=bindparam("now"),
    )
)


def find(tx: Transaction, hub_id: str, device_id: str) -> Identity | None:
    """The identity of that device id, in any spelling."""
    return tx.first(_GET, hub=hub_id, key=canonical(device_id))


def insert(tx: Transaction, new: Collection[Identity]) -> bool:
    """Adds identities; False if one of that place was already there, which is left as it is."""
    return tx.run_many(_INSERT_IF_ABSENT, map(_parameters, new)) == len(new)


def _parameters(identity: Identity) -> dict[str, Any]:
    return {
        "hub_id": identity.hub_id,
        "device_key": identity.device_key,
        "device_id": identity.device_id,
        "generation_id": identity.generation_id,
        "enabled": identity.enabled,
        "pin": identity.pin.value,
        "policy_id": identity.policy_id,
        "sealed_primary": identity.sealed_primary,
        "sealed_secondary": identity.sealed_secondary,
        "session_epoch": identity.session_epoch,
        "connected": identity.connected,
        "connection_changed_at": identity.connection_changed_at,
        "etag": identity.etag,
        "created_at": identity.created_at,
        "updated_at": identity.updated_at,
        "primary_thumbprint": identity.primary_thumbprint,
        "secondary_thumbprint": identity.secondary_thumbprint,
    }


def set_pin(tx: Transaction, identity: Identity, now: datetime) -> None:
    """Changes the identity that is there to the pin, policy, keys and thumbprints of `identity`."""
    tx.run(
        _SET_PIN,
        hub=identity.hub_id,
        key=identity.device_key,
        new_pin=identity.pin.value,
        policy=identity.policy_id,
        primary=identity.sealed_primary,
        secondary=identity.sealed_secondary,
        first_thumbprint=identity.primary_thumbprint,
        second_thumbprint=identity.secondary_thumbprint,
        new_etag=identity.etag,
        now=now,
    )


def remove(tx: Transaction, hub_id: str, device_id: str) -> None:
    """Deletes the identity and all that hangs on it."""
    tx.run(_DELETE, hub=hub_id, key=canonical(device_id))


def are_there(tx: Transaction, hub_id: str) -> bool:
    """Whether the hub has any."""
    return tx.first(_ANY, hub=hub_id) is not None


def are_connected(tx: Transaction, hub_id: str) -> bool:
    """Whether a device is connected to the hub."""
    return tx.first(_ANY_CONNECTED, hub=hub_id) is not None


def remove_all(tx: Transaction, hub_id: str) -> None:
    """Deletes every identity of the hub and all that hangs on them."""
    tx.run(_DELETE_ALL, hub=hub_id)


def key_name(hub_id: str, device_id: str, which: str) -> RecordName:
    """What an identity's sealed key is bound to."""
    return RecordName(
        kind=f"identity-key-{which}", namespace=hub_id, id=canonical(device_id), version=1
    )


def open_keys(sealer: Sealer, identity: Identity) -> tuple[bytes, bytes] | None:
    """The identity's raw keys; None if it has none."""
    if identity.sealed_primary is None or identity.sealed_secondary is None:
        return None
    return (
        sealer.open(
            key_name(identity.hub_id, identity.device_id, "primary"), identity.sealed_primary
        ),
        sealer.open(
            key_name(identity.hub_id, identity.device_id, "secondary"), identity.sealed_secondary
        ),
    )
