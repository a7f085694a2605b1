"""What provisioning asks of hubs: to have an identity there, pinned to what the device has."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

import orjson

from fleetroot.custody import Sealer
from fleetroot.hub import first_twins, hubs, identities, twins
from fleetroot.hub.model import Identity, Pin, Twin
from fleetroot.ids import canonical, new_uuid
from fleetroot.registry import announcements, outbox
from fleetroot.registry.announcements import EventKind
from fleetroot.registry.assignment import (
    Assignment,
    KeysPin,
    PolicyPin,
    ThumbprintPin,
    UploadedPin,
)
from fleetroot.registry.devices import new_etag
from fleetroot.storage import Transaction


class Directory:
    """The identities of all hubs, for provisioning; implements its `HubDirectory`."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def check_initial_twin(self, initial_twin: str) -> None:
        """See `fleetroot.registry.assignment.HubDirectory.check_initial_twin`."""
        first_twins.check(orjson.loads(initial_twin))

    def assign(self, assignment: Assignment, now: datetime) -> Callable[[Transaction], None]:
        """See `fleetroot.registry.assignment.HubDirectory.assign`."""
        wanted, first = self._identity(assignment, now), _first_twin(assignment)

        def unit(tx: Transaction) -> None:
            there = identities.find(tx, wanted.hub_id, wanted.device_id)
            if there is None:
                identities.insert(tx, [wanted])
                if not _move_twin(tx, assignment, wanted, now):
                    twins.insert_new(tx, [(wanted, first)], now)
            elif not self._pinned_alike(there, assignment):
                identities.set_pin(tx, wanted, now)
                _tell_changed(tx, there, now)
                _announce(tx, EventKind.IDENTITY_CHANGED, wanted, now)
            for seat in assignment.leaves:
                left = identities.find(tx, seat.hub_id, seat.device_id)
                if left is not None:
                    identities.remove(tx, left)
                    _tell_changed(tx, left, now)
                    _announce(tx, EventKind.IDENTITY_DELETED, left, now)

        return unit

    def assign_first(
        self, assignments: Collection[Assignment], now: datetime
    ) -> Callable[[Transaction], bool]:
        """See `fleetroot.registry.assignment.HubDirectory.assign_first`."""
        wanted = [(self._identity(each, now), _first_twin(each)) for each in assignments]

        def unit(tx: Transaction) -> bool:
            if not identities.insert(tx, [identity for identity, _ in wanted]):
                return False
            twins.insert_new(tx, wanted, now)
            return True

        return unit

    def _identity(self, assignment: Assignment, now: datetime) -> Identity:
        primary = secondary = None
        thumbprints: tuple[str | None, str | None] = (None, None)
        pin = Pin.UPLOADED if isinstance(assignment.pin, UploadedPin) else Pin.POLICY
        if isinstance(assignment.pin, ThumbprintPin):
            pin, thumbprints = Pin.THUMBPRINTS, (assignment.pin.primary, assignment.pin.secondary)
        if isinstance(assignment.pin, KeysPin):
            pin, of = Pin.KEYS, (assignment.hub_id, canonical(assignment.device_id))
            keys = assignment.pin.keys
            primary = self._sealer.seal(identities.key_name(*of, "primary"), keys.primary)
            secondary = self._sealer.seal(identities.key_name(*of, "secondary"), keys.secondary)
        etag = new_etag()
        return Identity(
            hub_id=assignment.hub_id,
            device_key=canonical(assignment.device_id),
            device_id=assignment.device_id,
            generation_id=new_uuid(),
            enabled=True,
            pin=pin,
            policy_id=assignment.pin.policy_id if isinstance(assignment.pin, PolicyPin) else None,
            sealed_primary=primary,
            sealed_secondary=secondary,
            session_epoch=0,
            connected=False,
            connection_changed_at=None,
            etag=etag,
            pin_etag=etag,
            iot_edge=assignment.iot_edge,
            device_scope=_scope(assignment, now),
            created_at=now,
            updated_at=now,
            primary_thumbprint=thumbprints[0],
            secondary_thumbprint=thumbprints[1],
        )

    def _pinned_alike(self, there: Identity, assignment: Assignment) -> bool:
        match assignment.pin:
            case PolicyPin(policy_id):
                return there.pin is Pin.POLICY and there.policy_id == policy_id
            case KeysPin(keys):
                return there.pin is Pin.KEYS and identities.open_keys(self._sealer, there) == (
                    keys.primary,
                    keys.secondary,
                )
            case ThumbprintPin(primary, secondary):
                thumbprints = (there.primary_thumbprint, there.secondary_thumbprint)
                return there.pin is Pin.THUMBPRINTS and thumbprints == (primary, secondary)
            case UploadedPin():
                return there.pin is Pin.UPLOADED


def _move_twin(tx: Transaction, assignment: Assignment, to: Identity, now: datetime) -> bool:
    """Lets the twin come with a device from its last hub, if there is one and it is to come."""
    return assignment.migrate and any(
        twins.move(tx, seat.hub_id, canonical(seat.device_id), to, now)
        for seat in assignment.leaves
    )


def _scope(assignment: Assignment, now: datetime) -> str | None:
    return identities.edge_scope(assignment.device_id, now) if assignment.iot_edge else None


def _first_twin(assignment: Assignment) -> Twin:
    if assignment.initial_twin is None:
        return first_twins.EMPTY
    return first_twins.made_of(orjson.loads(assignment.initial_twin))


def _announce(tx: Transaction, kind: EventKind, identity: Identity, now: datetime) -> None:
    announcements.append(tx, identities.announcement(kind, identity, now))


def _tell_changed(tx: Transaction, identity: Identity, now: datetime) -> None:
    hub = hubs.get(tx, identity.hub_id)
    outbox.append(
        tx,
        outbox.Kind.IDENTITY_CHANGED,
        namespace_id=hub.namespace_id,
        subject=identity.device_key,
        now=now,
    )
