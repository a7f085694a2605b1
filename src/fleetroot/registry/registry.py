"""The room's face for devices and certificates, and for whoever looks something up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.bus import OUTBOX, Bus
from fleetroot.clock import Clock
from fleetroot.errors import NotFound
from fleetroot.ids import canonical
from fleetroot.registry import authorities, devices, inventory, namespaces, policies
from fleetroot.registry.expiring import DayCount, Expiring, Place
from fleetroot.registry.inventory import RevocationReason
from fleetroot.registry.model import (
    Authority,
    Certificate,
    Device,
    Namespace,
    Policy,
)
from fleetroot.storage import Store, Transaction, installation

MAX_PAGE: Final = 1000
_SEARCH_SECONDS: Final = 30.0
_PING: Final = "ping"
_WRITE_EVERY: Final = 3.0  # seconds between pings that write


@dataclass(frozen=True, slots=True)
class Revocation:
    """What revoking a device did."""

    device: Device
    certificates: int  # how many were not revoked before


class Registry:
    """Devices and their certificates, and what they are under."""

    def __init__(self, store: Store, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._wrote_at: float | None = None  # when a ping last wrote, by the monotonic clock

    # --- authorities, policies

    async def namespace(self, name: str) -> Namespace:
        """The namespace of that name.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda tx: namespaces.by_name(tx, name))

    async def authorities(self, namespace: Namespace) -> list[Authority]:
        """Every CA of the namespace, oldest first."""
        return await self._store.read(lambda tx: authorities.of_namespace(tx, namespace.id))

    async def authority(self, authority_id: str) -> Authority:
        """The CA of that id.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda tx: authorities.get(tx, authority_id))

    async def policies(self, namespace: Namespace) -> list[Policy]:
        """Every policy of the namespace, by name."""
        return await self._store.read(lambda tx: policies.of_namespace(tx, namespace.id))

    async def policy(self, namespace: Namespace, name: str) -> Policy:
        """The policy of that name.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda tx: policies.by_name(tx, namespace.id, name))

    # --- devices

    async def devices(
        self, namespace: Namespace, *, after: str = "", limit: int = 100
    ) -> list[Device]:
        """Up to `limit` devices behind the device id `after`, in the order of their ids."""
        key = canonical(after)
        return await self._store.read(
            lambda tx: devices.page(tx, namespace.id, after=key, limit=min(limit, MAX_PAGE))
        )

    async def device(self, namespace: Namespace, device_id: str) -> Device:
        """The device of that id, in any spelling.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda tx: devices.get(tx, namespace.id, device_id))

    async def set_enabled(
        self, namespace: Namespace, device_id: str, enabled: bool, *, by: Actor
    ) -> Device:
        """Enables a device; or disables it: its connections are refused and its live one ends,
        while its certificates stay as they are.

        Raises:
            NotFound: there is none.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> Device:
            device = devices.get(tx, namespace.id, device_id)
            if device.enabled != enabled:
                devices.set_enabled(tx, device, enabled, now)
                action = Action.ENABLE_DEVICE if enabled else Action.DISABLE_DEVICE
                audit.append(tx, Entry(now, by, action, _about(device), namespace.id))
            return devices.get(tx, namespace.id, device_id)

        device = await self._store.write(unit)
        self._bus.hint(OUTBOX)
        return device

    async def revoke(
        self, namespace: Namespace, device_id: str, *, disable: bool = False, by: Actor
    ) -> Revocation:
        """Revokes every certificate ever issued to a device and rotates its generation, in one
        transaction; its live connection ends. It may provision again unless `disable`.

        Raises:
            NotFound: there is none.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> Revocation:
            device = devices.get(tx, namespace.id, device_id)
            revoked = inventory.revoke_all_of(tx, device, RevocationReason.UNSPECIFIED, now)
            devices.rotate_generation(tx, device, now)
            if disable and device.enabled:
                devices.set_enabled(tx, device, False, now)
            details = {"certificates": revoked, "disable": disable}
            audit.append(
                tx,
                Entry(now, by, Action.REVOKE_DEVICE, _about(device), namespace.id, details=details),
            )
            return Revocation(devices.get(tx, namespace.id, device_id), revoked)

        revocation = await self._store.write(unit)
        self._bus.hint(OUTBOX)
        return revocation

    # --- certificates

    async def certificates(
        self,
        namespace: Namespace,
        *,
        device_id: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Certificate]:
        """Up to `limit` certificates, newest first, with inventory ids below `before`; of one
        device, or all.
        """
        key = None if device_id is None else canonical(device_id)
        return await self._store.read(
            lambda tx: inventory.page(
                tx, namespace.id, device_key=key, before=before, limit=min(limit, MAX_PAGE)
            )
        )

    async def certificate(self, namespace: Namespace, name: str) -> Certificate:
        """The certificate that `name` means: a serial number in hexadecimal, a SHA-256 fingerprint,
        or the first eight or more digits of it.

        Raises:
            NotFound: none, or more than one.
        """
        found = await self._store.read(lambda tx: inventory.find_by_name(tx, namespace.id, name))
        if len(found) != 1:
            what = "more than one certificate" if found else "no certificate"
            raise NotFound(f"{what} of that serial number or fingerprint")
        return found[0]

    async def expiring(
        self,
        namespace: Namespace,
        within: timedelta,
        *,
        policy: str | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> list[Certificate]:
        """Up to `limit` certificates behind a place that end within a time and whose devices have
        no newer one, the first to end first; of the policy of that name, or of all.

        Raises:
            NotFound: there is no such policy.
            TimedOut: there are too many.
        """
        meant = await self._expiring(namespace, within, policy)
        most = min(limit, MAX_PAGE)
        return await self._store.search(lambda tx: meant.page(tx, after, most), _SEARCH_SECONDS)

    async def expiring_counts(
        self, namespace: Namespace, within: timedelta, *, policy: str | None = None
    ) -> list[DayCount]:
        """How many there are of these, by day and policy.

        Raises:
            NotFound: there is no such policy.
            TimedOut: there are too many.
        """
        meant = await self._expiring(namespace, within, policy)
        return await self._store.search(meant.counts, _SEARCH_SECONDS)

    async def _expiring(
        self, namespace: Namespace, within: timedelta, policy: str | None
    ) -> Expiring:
        now = self._clock.now()
        id_ = None if policy is None else (await self.policy(namespace, policy)).id
        return Expiring(namespace.id, now, now + within, id_)

    async def mark_expired(self) -> None:
        """Marks certificates whose time is over, so that a clock that is set back later does not
        revive them.
        """
        now = self._clock.now()
        while await self._store.write(lambda tx: inventory.mark_expired(tx, now)):
            pass

    async def ping(self) -> None:
        """Asks the database for something, and has it keep something, which a full disk does not;
        the latter once in a few seconds, because anybody may ask for it.

        Raises:
            Unavailable: it cannot do so now.
        """
        await self._store.read(lambda tx: installation.get(tx, _PING))
        now = self._clock.monotonic()
        if self._wrote_at is not None and now - self._wrote_at < _WRITE_EVERY:
            return
        value = uuid4().bytes  # SQLite writes nothing where nothing changes
        await self._store.write(lambda tx: installation.put(tx, _PING, value))
        self._wrote_at = now

    async def totals(self) -> tuple[int, int]:
        """How many devices are registered, and how many certificates were ever issued."""
        return await self._store.read(lambda tx: (devices.count(tx), inventory.count(tx)))


def _about(device: Device) -> str:
    return f"device/{device.device_id}"
