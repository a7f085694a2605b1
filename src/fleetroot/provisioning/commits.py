"""Making registrations known: device, certificate, hub identity and registration together, in one
unit of work, or nothing of them.

Devices that were never seen before are most of an onboarding, and writing them differs in nothing
but values. Those of one turn of the loop share a unit of work, each statement run over many rows.
If any of them turns out not to be new, nothing of that unit is kept and each registration gets a
unit of its own. `docs/decisions/0007-first-registrations.md` has the figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.bus import OUTBOX, Bus
from fleetroot.provisioning import enrollments, pending, registrations, tpm_attestation
from fleetroot.provisioning.attestation import TpmProof
from fleetroot.provisioning.configuration import Configuration
from fleetroot.provisioning.model import Enrollment, EnrollmentKind, Registration
from fleetroot.provisioning.pending import PendingRegistration
from fleetroot.registry import devices
from fleetroot.registry.assignment import Assignment, HubDirectory
from fleetroot.registry.issuance import DeviceChanged, Issuance, SignedLeaf
from fleetroot.registry.model import Device, Origin
from fleetroot.storage import Store, Transaction
from fleetroot.storage.configuration import version


class Changed(Exception):
    """What a decision rested on is not so any more."""


class Provision(NamedTuple):
    """What a registration makes known.

    Attributes:
        configuration, enrollment: what the decision rested on.
        before: the device as it was; None for one that is new.
        device: the device as it will be.
        former: the device that the registration was before; None if it was none, or this one.
        by: who asked for it.
        leaf: the certificate that was signed for it, if it asked for one.
        waited: what was decided about it while it waited; None if it did not wait.
        tpm: what its TPM proved, if it has one.
    """

    configuration: Configuration
    enrollment: Enrollment
    before: Device | None
    device: Device
    former: Device | None
    by: Actor
    leaf: SignedLeaf | None
    assignment: Assignment
    registration: Registration
    waited: PendingRegistration | None
    tpm: TpmProof | None

    @property
    def is_first(self) -> bool:
        """Whether nothing is known of the device yet, and nothing of its enrollment changes."""
        return not (self.before or self.former or self.waited or self.tpm)


class Commits:
    """Commits what was decided, if what the decision rested on is still so."""

    def __init__(
        self, store: Store, issuance: Issuance, hub_directory: HubDirectory, bus: Bus
    ) -> None:
        self._store = store
        self._issuance = issuance
        self._hub_directory = hub_directory
        self._bus = bus

    async def make_known(
        self, provisions: Sequence[Provision | Exception], now: datetime
    ) -> Sequence[Exception | None]:
        """None for each that is durable now; for another, why it is not, which may stand in its
        place already.

        DeviceChanged: the device is not as it was read. Changed: the enrollment or the
        configuration is not. Unavailable: the database cannot answer now.
        """
        decided = [each for each in provisions if isinstance(each, Provision)]
        first = [each for each in decided if each.is_first]
        others = [each for each in decided if not each.is_first]
        of_first, of_others = map(
            iter,
            await asyncio.gather(
                self._commit_first(first, now), self._commit_each_alone(others, now)
            ),
        )
        return [
            each if isinstance(each, Exception) else next(of_first if each.is_first else of_others)
            for each in provisions
        ]

    async def _commit_first(
        self, provisions: Sequence[Provision], now: datetime
    ) -> Sequence[Exception | None]:
        if not provisions:
            return []
        try:
            await self._store.write(self._unit_of_first(provisions, now))
        except (Changed, DeviceChanged):
            return await self._commit_each_alone(provisions, now)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            return [error] * len(provisions)
        return [None] * len(provisions)

    async def _commit_each_alone(
        self, provisions: Sequence[Provision], now: datetime
    ) -> Sequence[Exception | None]:
        return await asyncio.gather(*(self._commit_alone(each, now) for each in provisions))

    async def _commit_alone(self, provision: Provision, now: datetime) -> Exception | None:
        try:
            await self._store.write(self._unit_of_one(provision, now))
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            return error
        # Nobody needs to be told of a device that nobody knew: only these write to the outbox.
        self._bus.hint(OUTBOX)
        return None

    def _unit_of_first(
        self, provisions: Sequence[Provision], now: datetime
    ) -> Callable[[Transaction], None]:
        assign = self._hub_directory.assign_first([each.assignment for each in provisions], now)
        leaves = [each.leaf for each in provisions if each.leaf is not None]

        def unit(tx: Transaction) -> None:
            _check_current(tx, provisions)
            if not devices.register(tx, [each.device for each in provisions]):
                raise DeviceChanged
            self._issuance.record(tx, leaves, Origin.PROVISIONING, now)
            if not assign(tx):
                raise DeviceChanged
            registrations.save(tx, [each.registration for each in provisions])
            _note(tx, provisions, now)

        return unit

    def _unit_of_one(self, provision: Provision, now: datetime) -> Callable[[Transaction], None]:
        assign = self._hub_directory.assign(provision.assignment, now)

        def unit(tx: Transaction) -> None:
            _check_current(tx, [provision])
            before, device, former = provision.before, provision.device, provision.former
            if before is None:
                if not devices.register(tx, [device]):
                    raise DeviceChanged
            elif not devices.is_current(tx, before):
                raise DeviceChanged
            elif device != before:
                devices.place(tx, before, device, now)
            if former is not None:
                if not devices.is_current(tx, former):
                    raise DeviceChanged
                nowhere = replace(former, enrollment=None, hub_id=None, generation=uuid4())
                devices.place(tx, former, nowhere, now)
            if provision.leaf is not None:
                self._issuance.record(tx, [provision.leaf], Origin.PROVISIONING, now)
            assign(tx)
            registrations.save(tx, [provision.registration])
            _stop_waiting(tx, provision)
            tpm_attestation.keep(tx, provision.tpm, device.namespace_id, now, provision.by)
            _note(tx, [provision], now)

        return unit


def _stop_waiting(tx: Transaction, provision: Provision) -> None:
    """Raises:
    Changed: it was decided about anew.
    """
    waited = provision.waited
    if waited is None:
        return
    there = pending.find(tx, waited.service_id, waited.registration_id)
    if there is None or there.decision != waited.decision:
        raise Changed
    pending.remove(tx, waited.service_id, waited.registration_id)


def _note(tx: Transaction, provisions: Sequence[Provision], now: datetime) -> None:
    """Puts registrations into the audit log that issue nothing; an issuance has its own entry."""
    entries = [
        Entry(
            now,
            each.by,
            Action.REGISTER_DEVICE,
            f"device/{each.device.device_id}",
            each.device.namespace_id,
            details={"enrollment": each.device.enrollment, "hub": each.device.hub_id},
        )
        for each in provisions
        if each.leaf is None
    ]
    if entries:
        audit.append_many(tx, entries)


def _check_current(tx: Transaction, provisions: Sequence[Provision]) -> None:
    is_now = version(tx)
    for each in provisions:
        _check(tx, is_now, each.configuration, each.enrollment)


def check_current(tx: Transaction, configuration: Configuration, enrollment: Enrollment) -> None:
    """Raises:
    Changed: the configuration or an individual enrollment was changed since it was read.
    """
    _check(tx, version(tx), configuration, enrollment)


def _check(
    tx: Transaction, is_now: bytes, configuration: Configuration, enrollment: Enrollment
) -> None:
    if configuration.version != is_now:
        raise Changed
    of_one = enrollment.kind is EnrollmentKind.INDIVIDUAL
    if of_one and not enrollments.is_current(tx, enrollment):
        raise Changed
