"""Identities: their table."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, select, update

from fleetroot.custody import RecordName, Sealer
from fleetroot.hub.model import Identity, Pin
from fleetroot.ids import identity_key
from fleetroot.registry import announcements
from fleetroot.registry.announcements import Announcement, EventKind
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
    *more: Any,
) -> Identity:
    """An identity from the columns of its table, in their order."""
    return Identity(hub_id, device_key, device_id, generation_id, enabled, Pin(pin), *more)


_is_identity: Final = (identities.c.hub_id == bindparam("hub")) & (
    identities.c.device_key == bindparam("key")
)
_GET: Final = Query(select(identities).where(_is_identity), row)
_INSERT_IF_ABSENT: Final = Command(insert_if_absent(identities))
_of_hub: Final = identities.c.hub_id == bindparam("hub")
_is_module: Final = identities.c.parent_key.is_not(None)  # as the index of modules has it
_DELETE: Final = Command(delete(identities).where(_is_identity))
_modules: Final = _of_hub & (identities.c.parent_key == bindparam("parent")) & _is_module
_DELETE_MODULES: Final = Command(delete(identities).where(_modules))
_MODULES: Final = Query(select(identities).where(_modules).order_by(identities.c.device_key), row)
_COUNT_MODULES: Final = Query(select(func.count()).select_from(identities).where(_modules), int)
_DEVICES: Final = Query(
    select(identities)
    .where(_of_hub & ~_is_module & (identities.c.device_key > bindparam("after")))
    .order_by(identities.c.device_key)
    .limit(bindparam("limit")),
    row,
)
_ANY: Final = Query(select(identities.c.device_key).where(_of_hub).limit(1), str)
_ANY_CONNECTED: Final = Query(
    select(identities.c.device_key).where(_of_hub & identities.c.connected).limit(1), str
)
_DELETE_ALL: Final = Command(delete(identities).where(_of_hub))
_pin: Final[dict[str, Any]] = {
    "pin": bindparam("new_pin"),
    "policy_id": bindparam("policy"),
    "sealed_primary": bindparam("primary"),
    "sealed_secondary": bindparam("secondary"),
    "primary_thumbprint": bindparam("first_thumbprint"),
    "secondary_thumbprint": bindparam("second_thumbprint"),
    "pin_etag": bindparam("new_pin_etag"),
    "etag": bindparam("new_etag"),
    "updated_at": bindparam("now"),
}
_SET_PIN: Final = Command(update(identities).where(_is_identity).values(_pin))
_CHANGE: Final = Command(
    update(identities)
    .where(_is_identity)
    .values(
        {
            **_pin,
            "enabled": bindparam("is_enabled"),
            "status_reason": bindparam("reason"),
            "status_changed_at": bindparam("status_at"),
            "iot_edge": bindparam("edge"),
            "device_scope": bindparam("scope"),
            "parent_scopes": bindparam("parents"),
            "managed_by": bindparam("manager"),
        }
    )
)


def find(
    tx: Transaction, hub_id: str, device_id: str, module_id: str | None = None
) -> Identity | None:
    """The identity of that device id, or of its module, in any spelling."""
    return tx.first(_GET, hub=hub_id, key=identity_key(device_id, module_id))


def page(tx: Transaction, hub_id: str, *, after: str, limit: int) -> list[Identity]:
    """Up to `limit` devices, and no modules, whose key sorts behind `after` (empty: from the
    first).
    """
    return tx.all(_DEVICES, hub=hub_id, after=after, limit=limit)


def modules(tx: Transaction, hub_id: str, device_key: str) -> list[Identity]:
    """The modules of a device, by their ids."""
    return tx.all(_MODULES, hub=hub_id, parent=device_key)


def count_modules(tx: Transaction, hub_id: str, device_key: str) -> int:
    """How many modules a device has."""
    return tx.first(_COUNT_MODULES, hub=hub_id, parent=device_key) or 0


def insert(tx: Transaction, new: Collection[Identity]) -> bool:
    """Adds identities; False if one of that place was already there, which is left as it is."""
    if tx.run_many(_INSERT_IF_ABSENT, map(_parameters, new)) != len(new):
        return False
    announcements.append_many(
        tx, [announcement(EventKind.IDENTITY_CREATED, each, each.created_at) for each in new]
    )
    return True


def announcement(kind: EventKind, identity: Identity, now: datetime) -> Announcement:
    """What is told of an identity that was made, changed or deleted."""
    body = announcements.body_of(
        moduleId=identity.module_id,
        generationId=identity.generation_id,
        enabled=identity.enabled,
        authentication=identity.pin.value,
        etag=identity.etag,
    )
    of = (identity.device_key, identity.device_id)
    return Announcement(kind, now, *of, body, identity.hub_id)


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
        "module_id": identity.module_id,
        "parent_key": identity.parent_key,
        "pin_etag": identity.pin_etag,
        "status_reason": identity.status_reason,
        "status_changed_at": identity.status_changed_at,
        "iot_edge": identity.iot_edge,
        "device_scope": identity.device_scope,
        "parent_scopes": identity.parent_scopes,
        "managed_by": identity.managed_by,
    }


def set_pin(tx: Transaction, identity: Identity, now: datetime) -> None:
    """Changes the identity that is there to the pin, policy, keys and thumbprints of `identity`."""
    tx.run(_SET_PIN, **_of_pin(identity, now))


def change(tx: Transaction, identity: Identity, now: datetime) -> None:
    """Changes the identity that is there to all of `identity` that services decide."""
    tx.run(
        _CHANGE,
        **_of_pin(identity, now),
        is_enabled=identity.enabled,
        reason=identity.status_reason,
        status_at=identity.status_changed_at,
        edge=identity.iot_edge,
        scope=identity.device_scope,
        parents=identity.parent_scopes,
        manager=identity.managed_by,
    )


def _of_pin(identity: Identity, now: datetime) -> dict[str, Any]:
    return {
        "hub": identity.hub_id,
        "key": identity.device_key,
        "new_pin": identity.pin.value,
        "policy": identity.policy_id,
        "primary": identity.sealed_primary,
        "secondary": identity.sealed_secondary,
        "first_thumbprint": identity.primary_thumbprint,
        "second_thumbprint": identity.secondary_thumbprint,
        "new_pin_etag": identity.pin_etag,
        "new_etag": identity.etag,
        "now": now,
    }


def remove(tx: Transaction, identity: Identity) -> None:
    """Deletes the identity, its modules, and all that hangs on them."""
    if not identity.is_module:
        tx.run(_DELETE_MODULES, hub=identity.hub_id, parent=identity.device_key)
    tx.run(_DELETE, hub=identity.hub_id, key=identity.device_key)


def are_there(tx: Transaction, hub_id: str) -> bool:
    """Whether the hub has any."""
    return tx.first(_ANY, hub=hub_id) is not None


def are_connected(tx: Transaction, hub_id: str) -> bool:
    """Whether a device is connected to the hub."""
    return tx.first(_ANY_CONNECTED, hub=hub_id) is not None


def remove_all(tx: Transaction, hub_id: str) -> None:
    """Deletes every identity of the hub and all that hangs on them."""
    tx.run(_DELETE_ALL, hub=hub_id)


def edge_scope(device_id: str, now: datetime) -> str:
    """The scope that a new edge device gets; it never changes."""
    return f"ms-azure-iot-edge://{device_id}-{int(now.timestamp() * 10**7)}"


def key_name(hub_id: str, device_key: str, which: str) -> RecordName:
    """What an identity's sealed key is bound to."""
    return RecordName(kind=f"identity-key-{which}", namespace=hub_id, id=device_key, version=1)


def open_keys(sealer: Sealer, identity: Identity) -> tuple[bytes, bytes] | None:
    """The identity's raw keys; None if it has none."""
    if identity.sealed_primary is None or identity.sealed_secondary is None:
        return None
    of = identity.hub_id, identity.device_key
    return (
        sealer.open(key_name(*of, "primary"), identity.sealed_primary),
        sealer.open(key_name(*of, "secondary"), identity.sealed_secondary),
    )
