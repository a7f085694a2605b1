"""Devices as resources of the management API: made, described, changed and deleted there.

A device that came by provisioning has no description until somebody gives it one. Nothing that a
description holds decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import orjson
from sqlalchemy import bindparam, select

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.bus import OUTBOX, Bus
from fleetroot.clock import Clock
from fleetroot.errors import EtagMismatch, InvalidArgument, NotFound
from fleetroot.ids import canonical, check_device_id
from fleetroot.registry import devices, inventory, policies
from fleetroot.registry.inventory import RevocationReason
from fleetroot.registry.model import DEFAULT_LOCATION, Device, Namespace
from fleetroot.storage import Command, Query, Store, Transaction
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import device_resources

MAX_PAGE: Final = 1000
MAX_BYTES: Final = 64 * 1024  # of a description, as JSON
_MAX_TAGS: Final = 50  # Azure Resource Manager, "Use tags to organize your resources"
_MAX_TAG_NAME: Final = 512
_MAX_TAG_VALUE: Final = 256
_ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Description:
    """What the management API was told of a device: JSON values, by their names there."""

    location: str = DEFAULT_LOCATION
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DescribedDevice:
    """A device with its description."""

    device: Device
    description: Description


_table: Final = device_resources
_of_device: Final = (_table.c.namespace_id == bindparam("namespace")) & (
    _table.c.device_key == bindparam("key")
)
_GET: Final = Query(
    select(_table.c.location, _table.c.tags, _table.c.properties).where(_of_device),
    lambda location, tags, properties: Description(
        location, orjson.loads(tags), orjson.loads(properties)
    ),
)
_PUT: Final = Command(upsert_into(_table))


class DeviceResources:
    """What the management API asks about devices."""

    def __init__(self, store: Store, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock

    async def get(self, namespace: Namespace, device_id: str) -> DescribedDevice:
        """The device of that id.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(
            lambda tx: _described(tx, devices.get(tx, namespace.id, device_id))
        )

    async def page(self, namespace: Namespace, *, after: str, limit: int) -> list[DescribedDevice]:
        """Up to `limit` devices behind the device id `after`, in the order of their ids."""
        key = canonical(after)
        return await self._store.read(
            lambda tx: [
                _described(tx, device)
                for device in devices.page(tx, namespace.id, after=key, limit=min(limit, MAX_PAGE))
            ]
        )

    async def put(
        self,
        namespace: Namespace,
        device_id: str,
        description: Description,
        *,
        enabled: bool,
        policy: str | None,
        if_match: str | None,
        create_only: bool,
        by: Actor,
    ) -> tuple[DescribedDevice, bool]:
        """Creates a device, or replaces the description of one that is there; whether it was
        created, too. A device that is there keeps its policy where `policy` is None.

        Args:
            policy: the policy's name.
            if_match: the etag that must be there, or `*`.
            create_only: nothing may be there.

        Raises:
            InvalidArgument: an id, a policy or the description cannot be.
            EtagMismatch: another version is there, or none, or one where none may be.
        """
        check_device_id(device_id)
        _check(description)
        now = self._clock.now()

        def unit(tx: Transaction) -> tuple[DescribedDevice, bool]:
            there = devices.find(tx, namespace.id, device_id)
            _check_precondition(there, if_match, create_only=create_only)
            policy_id = _policy_id(tx, namespace, policy)
            if there is None:
                made = devices.draft(
                    namespace.id,
                    device_id,
                    policy_id=policy_id,
                    enrollment=None,
                    hub_id=None,
                    now=now,
                )
                made = replace(made, enabled=enabled)
                devices.register(tx, [made])
            else:
                self._change(tx, there, enabled=enabled, policy_id=policy_id, now=now)
            _describe(tx, namespace.id, device_id, description)
            self._log(tx, Action.PUT_DEVICE, namespace, device_id, by, now)
            return _described(tx, devices.get(tx, namespace.id, device_id)), there is None

        put = await self._store.write(unit)
        self._bus.hint(OUTBOX)
        return put

    async def update(
        self,
        namespace: Namespace,
        device_id: str,
        *,
        tags: Mapping[str, str] | None,
        properties: Mapping[str, Any],
        enabled: bool | None,
        policy: str | None,
        if_match: str | None,
        by: Actor,
    ) -> DescribedDevice:
        """Changes what is given: `tags` as a whole, each of `properties` by itself (None removes
        it).

        Raises:
            NotFound: there is no such device.
            InvalidArgument, EtagMismatch: as `put`.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> DescribedDevice:
            device = devices.get(tx, namespace.id, device_id)
            _check_precondition(device, if_match)
            before = _described(tx, device).description
            merged = {**before.properties, **properties}
            after = Description(
                before.location,
                before.tags if tags is None else tags,
                {name: value for name, value in merged.items() if value is not None},
            )
            _check(after)
            self._change(
                tx,
                device,
                enabled=device.enabled if enabled is None else enabled,
                policy_id=_policy_id(tx, namespace, policy),
                now=now,
            )
            _describe(tx, namespace.id, device_id, after)
            self._log(tx, Action.PUT_DEVICE, namespace, device_id, by, now)
            return _described(tx, devices.get(tx, namespace.id, device_id))

        updated = await self._store.write(unit)
        self._bus.hint(OUTBOX)
        return updated

    async def delete(
        self, namespace: Namespace, device_id: str, *, if_match: str | None, by: Actor
    ) -> bool:
        """Deletes a device: its certificates are revoked and its connection ends. It may provision
        again, as a new device, while its enrollment lets it. Whether there was one.

        Raises:
            EtagMismatch: another version is there.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> bool:
            device = devices.find(tx, namespace.id, device_id)
            if device is None:
                return False
            _check_precondition(device, if_match)
            inventory.revoke_all_of(tx, device, RevocationReason.CESSATION_OF_OPERATION, now)
            devices.remove(tx, device, now)
            self._log(tx, Action.DELETE_DEVICE, namespace, device_id, by, now)
            return True

        deleted = await self._store.write(unit)
        self._bus.hint(OUTBOX)
        return deleted

    @staticmethod
    def _change(
        tx: Transaction, device: Device, *, enabled: bool, policy_id: str | None, now: datetime
    ) -> None:
        after = replace(device, policy_id=policy_id or device.policy_id)
        if after.policy_id != device.policy_id:
            # What another policy issued does not count any more.
            after = replace(after, generation=uuid4())
        devices.place(tx, device, after, now)
        if device.enabled != enabled:
            devices.set_enabled(tx, device, enabled, now)

    @staticmethod
    def _log(
        tx: Transaction,
        action: Action,
        namespace: Namespace,
        device_id: str,
        by: Actor,
        now: datetime,
    ) -> None:
        audit.append(tx, Entry(now, by, action, f"device/{device_id}", namespace.id))


def _described(tx: Transaction, device: Device) -> DescribedDevice:
    found = tx.first(_GET, namespace=device.namespace_id, key=device.device_key)
    return DescribedDevice(device, found or Description())


def _describe(tx: Transaction, namespace_id: str, device_id: str, description: Description) -> None:
    tx.run(
        _PUT,
        namespace_id=namespace_id,
        device_key=canonical(device_id),
        location=description.location,
        tags=orjson.dumps(dict(description.tags)).decode(),
        properties=orjson.dumps(dict(description.properties)).decode(),
    )


def _policy_id(tx: Transaction, namespace: Namespace, name: str | None) -> str | None:
    if name is None:
        return None
    try:
        return policies.by_name(tx, namespace.id, name).id
    except NotFound as error:
        raise InvalidArgument(f"policy: {error.message}") from error


def _check(description: Description) -> None:
    """Raises:
    InvalidArgument: it is out of the documented bounds.
    """
    tags = description.tags
    if len(tags) > _MAX_TAGS:
        raise InvalidArgument(f"tags: at most {_MAX_TAGS}")
    if any(len(n) > _MAX_TAG_NAME or len(v) > _MAX_TAG_VALUE for n, v in tags.items()):
        raise InvalidArgument(
            f"tags: names have at most {_MAX_TAG_NAME} characters, values {_MAX_TAG_VALUE}"
        )
    if not description.location or len(description.location) > 64:
        raise InvalidArgument("location: must be 1 to 64 characters")
    try:
        size = len(orjson.dumps(dict(description.properties)))
    except orjson.JSONEncodeError:
        raise InvalidArgument("properties: a value is out of range") from None
    if size > MAX_BYTES:
        raise InvalidArgument(f"properties: at most {MAX_BYTES} bytes")


def _check_precondition(
    there: Device | None, if_match: str | None, *, create_only: bool = False
) -> None:
    """RFC 9110 §13.1."""
    if create_only and there is not None:
        raise EtagMismatch("the device exists")
    if if_match is not None and (there is None or if_match not in (_ANY, there.etag)):
        raise EtagMismatch("the device is of another version")
