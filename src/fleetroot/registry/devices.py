"""Devices: the statements over their table, and what a transaction may do to one."""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import bindparam, delete, func, select, update

from fleetroot.errors import NotFound
from fleetroot.ids import canonical, new_uuid
from fleetroot.registry import inventory, outbox
from fleetroot.registry.model import Device
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_if_absent
from fleetroot.storage.schema import devices


def row(
    namespace_id: str,
    device_key: str,
    device_id: str,
    uuid: str,
    generation: str,
    enabled: bool,
    policy_id: str | None,
    enrollment: str | None,
    hub_id: str | None,
    etag: str,
    version: int,
    created_at: datetime,
    updated_at: datetime,
) -> Device:
    """A device from the columns of its table, in their order."""
    return Device(
        namespace_id,
        device_key,
        device_id,
        uuid,
        UUID(generation),
        enabled,
        policy_id,
        enrollment,
        hub_id,
        etag,
        version,
        created_at,
        updated_at,
    )


_is_device: Final = (devices.c.namespace_id == bindparam("namespace")) & (
    devices.c.device_key == bindparam("key")
)
_GET: Final = Query(select(devices).where(_is_device), row)
_LIST: Final = Query(
    select(devices)
    .where(
        (devices.c.namespace_id == bindparam("namespace"))
        & (devices.c.device_key > bindparam("after"))
    )
    .order_by(devices.c.device_key)
    .limit(bindparam("limit")),
    row,
)
_COUNT: Final = Query(select(func.count()).select_from(devices), int)
_INSERT_IF_ABSENT: Final = Command(insert_if_absent(devices))
_PLACE: Final = Command(
    update(devices)
    .where(_is_device)
    .values(
        policy_id=bindparam("policy"),
        enrollment=bindparam("of_enrollment"),
        hub_id=bindparam("on_hub"),
        generation=bindparam("new_generation"),
        etag=bindparam("new_etag"),
        version=devices.c.version + 1,
        updated_at=bindparam("now"),
    )
)
_ETAG: Final = Query(select(devices.c.etag).where(_is_device), str)
_SET_ENABLED: Final = Command(
    update(devices)
    .where(_is_device)
    .values(
        enabled=bindparam("is_enabled"),
        etag=bindparam("new_etag"),
        version=devices.c.version + 1,
        updated_at=bindparam("now"),
    )
)
_ROTATE: Final = Command(
    update(devices)
    .where(_is_device)
    .values(
        generation=bindparam("new_generation"),
        etag=bindparam("new_etag"),
        version=devices.c.version + 1,
        updated_at=bindparam("now"),
    )
)

_REMOVE: Final = Command(delete(devices).where(_is_device))


def find(tx: Transaction, namespace_id: str, device_id: str) -> Device | None:
    """The device of that id, in any spelling."""
    return tx.first(_GET, namespace=namespace_id, key=canonical(device_id))


def get(tx: Transaction, namespace_id: str, device_id: str) -> Device:
    """Like `find`.

    Raises:
        NotFound: there is no such device.
    """
    device = find(tx, namespace_id, device_id)
    if device is None:
        raise NotFound(f"Device {device_id} is not registered")
    return device


def page(tx: Transaction, namespace_id: str, *, after: str, limit: int) -> list[Device]:
    """Up to `limit` devices whose key sorts behind `after` (empty: from the first)."""
    return tx.all(_LIST, namespace=namespace_id, after=after, limit=limit)


def count(tx: Transaction) -> int:
    """How many devices there are."""
    return tx.first(_COUNT) or 0


def draft(
    namespace_id: str,
    device_id: str,
    *,
    policy_id: str | None,
    enrollment: str | None,
    hub_id: str | None,
    now: datetime,
) -> Device:
    """A device that is not registered yet, with the generation its first certificate will carry."""
    return Device(
        namespace_id=namespace_id,
        device_key=canonical(device_id),
        device_id=device_id,
        uuid=new_uuid(),
        generation=uuid4(),
        enabled=True,
        policy_id=policy_id,
        enrollment=enrollment,
        hub_id=hub_id,
        etag=new_etag(),
        version=1,
        created_at=now,
        updated_at=now,
    )


def register(tx: Transaction, new: Collection[Device]) -> bool:
    """Inserts the devices; False if one of that id was already there, which is left as it is."""
    return tx.run_many(_INSERT_IF_ABSENT, map(_parameters, new)) == len(new)


def _parameters(device: Device) -> dict[str, Any]:
    return {
        "namespace_id": device.namespace_id,
        "device_key": device.device_key,
        "device_id": device.device_id,
        "uuid": device.uuid,
        "generation": str(device.generation),
        "enabled": device.enabled,
        "policy_id": device.policy_id,
        "enrollment": device.enrollment,
        "hub_id": device.hub_id,
        "etag": device.etag,
        "version": device.version,
        "created_at": device.created_at,
        "updated_at": device.updated_at,
    }


def is_current(tx: Transaction, device: Device) -> bool:
    """Whether nothing changed the device since it was read."""
    return tx.first(_ETAG, namespace=device.namespace_id, key=device.device_key) == device.etag


def place(tx: Transaction, before: Device, after: Device, now: datetime) -> None:
    """Puts the device under the enrollment and policy, and on the hub, of `after`. With another
    generation, what it was issued before is revoked, which is told through the outbox.
    """
    tx.run(
        _PLACE,
        namespace=before.namespace_id,
        key=before.device_key,
        policy=after.policy_id,
        of_enrollment=after.enrollment,
        on_hub=after.hub_id,
        new_generation=str(after.generation),
        new_etag=new_etag(),
        now=now,
    )
    if after.generation != before.generation:
        inventory.revoke_all_of(tx, before, inventory.RevocationReason.SUPERSEDED, now)
        _tell_revoked(tx, before, now)


def set_enabled(tx: Transaction, device: Device, enabled: bool, now: datetime) -> None:
    """Enables or disables the device; disabling is told through the outbox."""
    tx.run(
        _SET_ENABLED,
        namespace=device.namespace_id,
        key=device.device_key,
        is_enabled=enabled,
        new_etag=new_etag(),
        now=now,
    )
    if not enabled:
        outbox.append(
            tx,
            outbox.Kind.DEVICE_DISABLED,
            namespace_id=device.namespace_id,
            subject=device.device_key,
            now=now,
        )


def rotate_generation(tx: Transaction, device: Device, now: datetime) -> None:
    """Gives the device a new generation: what was issued under the old one no longer counts. Told
    through the outbox.
    """
    tx.run(
        _ROTATE,
        namespace=device.namespace_id,
        key=device.device_key,
        new_generation=str(uuid4()),
        new_etag=new_etag(),
        now=now,
    )
    _tell_revoked(tx, device, now)


def remove(tx: Transaction, device: Device, now: datetime) -> None:
    """Removes the device, whose certificates are revoked already. Told through the outbox."""
    tx.run(_REMOVE, namespace=device.namespace_id, key=device.device_key)
    _tell_revoked(tx, device, now)


def _tell_revoked(tx: Transaction, device: Device, now: datetime) -> None:
    outbox.append(
        tx,
        outbox.Kind.DEVICE_REVOKED,
        namespace_id=device.namespace_id,
        subject=device.device_key,
        now=now,
    )


def new_etag() -> str:
    """An opaque value that no earlier version of a resource had."""
    return os.urandom(8).hex()
