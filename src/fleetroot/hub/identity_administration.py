"""Identities as services create, change and delete them.

Every identity stands on a device of the registry, or a hub lets nobody in by it. Creating one
enters its device there, if the registry does not know it; from then on the registry's word counts
beside the hub's: what is disabled or deleted there stays out, whatever is said here. Deleting an
identity leaves the registry's device, and its certificates, as they are.

What lets a device in may be changed by whoever may write identities: to keys, to thumbprints, to
certificates. The live connection ends, and the audit log has both kinds of proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.bus import OUTBOX, Bus
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import (
    AlreadyExists,
    Conflict,
    EtagMismatch,
    FleetrootError,
    InvalidArgument,
    NotFound,
)
from fleetroot.hub import (
    command_queue,
    first_twins,
    hubs,
    identities,
    twins,
    wanted_identities,
)
from fleetroot.hub.model import Hub, Identity, Pin
from fleetroot.hub.wanted_identities import Prepared, WantedIdentity
from fleetroot.ids import canonical, identity_key
from fleetroot.registry import announcements, devices, outbox
from fleetroot.registry.announcements import EventKind
from fleetroot.storage import Store, Transaction

MAX_PAGE: Final = 1000
MAX_ITEMS: Final = 100  # of a bulk call
MAX_MODULES: Final = 50  # of a device
_ANY: Final = "*"
_SHOWN: Final = {
    Pin.KEYS: "sas",
    Pin.THUMBPRINTS: "selfSigned",
    Pin.UPLOADED: "certificateAuthority",
    Pin.POLICY: "certificateAuthority",
}


class Mode(StrEnum):
    """What an item of a bulk call is to do."""

    CREATE = "create"
    UPDATE = "update"
    UPDATE_IF_MATCH = "updateIfMatchETag"
    DELETE = "delete"
    DELETE_IF_MATCH = "deleteIfMatchETag"


@dataclass(frozen=True, slots=True)
class ShownIdentity:
    """An identity as services see it.

    Attributes:
        authentication: `sas`, `selfSigned` or `certificateAuthority`.
        keys: raw; None where it has none.
        messages: cloud-to-device messages that wait for it.
    """

    identity: Identity
    authentication: str
    keys: tuple[bytes, bytes] | None = field(repr=False)
    messages: int


@dataclass(frozen=True, slots=True)
class Item:
    """One of a bulk call: what is wanted, or why it could not even be read."""

    mode: Mode
    wanted: WantedIdentity
    etag: str | None = None
    error: FleetrootError | None = None


@dataclass(frozen=True, slots=True)
class NotDone:
    """An item that was not done, and why."""

    item: Item
    error: FleetrootError


class IdentityAdministration:
    """What services ask about identities."""

    def __init__(self, store: Store, sealer: Sealer, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._sealer = sealer
        self._bus = bus
        self._clock = clock

    async def get(self, hub: Hub, device_id: str, module_id: str | None = None) -> ShownIdentity:
        """The identity of a device, or of its module.

        Raises:
            NotFound: there is none.
        """
        now = self._clock.now()

        def read(tx: Transaction) -> tuple[Identity, int]:
            found = _get(tx, hub, device_id, module_id)
            return found, command_queue.count(tx, hub.id, found.device_key, now)

        return self._shown(*await self._store.read(read))

    async def page(self, hub: Hub, *, after: str = "", limit: int) -> list[ShownIdentity]:
        """Up to `limit` devices behind that id, in the order of their ids; one more than a page, so
        that it is seen whether there are more.
        """
        now, key = self._clock.now(), canonical(after)

        def read(tx: Transaction) -> list[tuple[Identity, int]]:
            found = identities.page(tx, hub.id, after=key, limit=min(limit, MAX_PAGE + 1))
            waiting = dict[str, int]()
            if found:
                first, last = found[0].device_key, found[-1].device_key
                waiting = command_queue.counts(tx, hub.id, first, last, now)
            return [(each, waiting.get(each.device_key, 0)) for each in found]

        return [self._shown(*each) for each in await self._store.read(read)]

    async def modules(self, hub: Hub, device_id: str) -> list[ShownIdentity]:
        """The modules of a device, by their ids.

        Raises:
            NotFound: there is no such device.
        """

        def read(tx: Transaction) -> list[Identity]:
            device = _get(tx, hub, device_id, None)
            return identities.modules(tx, hub.id, device.device_key)

        return [self._shown(each, 0) for each in await self._store.read(read)]

    async def put(
        self, hub: Hub, wanted: WantedIdentity, *, if_match: str | None, by: Actor
    ) -> ShownIdentity:
        """Creates an identity; with `if_match`, changes the one that is there.

        Raises:
            As `create` and `update`.
        """
        if if_match is None:
            return await self.create(hub, wanted, by=by)
        return await self.update(hub, wanted, if_match=if_match, by=by)

    async def create(self, hub: Hub, wanted: WantedIdentity, *, by: Actor) -> ShownIdentity:
        """Creates an identity, and enters its device in the registry, if it is not there.

        Raises:
            InvalidArgument: an id, a key or a thumbprint cannot be.
            AlreadyExists: it is there.
            NotFound: it is of a module, and its device is not.
            Conflict: the device has too many modules.
        """
        prepared, now = wanted_identities.prepare(self._sealer, hub.id, wanted), self._clock.now()
        made = await self._store.write(lambda tx: _create(tx, hub, prepared, by, now))
        return self._shown(made, 0)

    async def update(
        self, hub: Hub, wanted: WantedIdentity, *, if_match: str, by: Actor
    ) -> ShownIdentity:
        """Changes what is wanted of an identity. Its connection ends if it was let in by something
        that counts no more, or is disabled.

        Args:
            if_match: the etag that must be there, or `*`.

        Raises:
            InvalidArgument: an id, a key or a thumbprint cannot be.
            NotFound: there is none.
            EtagMismatch: another version is there.
        """
        prepared, now = wanted_identities.prepare(self._sealer, hub.id, wanted), self._clock.now()

        def unit(tx: Transaction) -> tuple[Identity, int]:
            after = self._update(tx, hub, prepared, if_match, by, now)
            return after, command_queue.count(tx, hub.id, after.device_key, now)

        changed = await self._store.write(unit)
        self._bus.hint(OUTBOX)
        return self._shown(*changed)

    async def delete(
        self,
        hub: Hub,
        device_id: str,
        module_id: str | None = None,
        *,
        if_match: str = _ANY,
        by: Actor,
    ) -> None:
        """Deletes an identity with its modules, twins and messages; connections end. The registry
        keeps the device.

        Raises:
            NotFound: there is none.
            EtagMismatch: another version is there.
        """
        now = self._clock.now()
        await self._store.write(
            lambda tx: _delete(tx, hub, (device_id, module_id), if_match, by, now)
        )
        self._bus.hint(OUTBOX)

    async def change_many(self, hub: Hub, items: Sequence[Item], *, by: Actor) -> list[NotDone]:
        """Does each item by itself, in one unit of work; those that could not be done.

        Raises:
            InvalidArgument: there are too many.
        """
        if not 1 <= len(items) <= MAX_ITEMS:
            raise InvalidArgument(f"there must be 1 to {MAX_ITEMS} identities")
        now = self._clock.now()
        prepared: list[Prepared | FleetrootError] = []
        seen = set[str]()
        for each in items:
            key = identity_key(each.wanted.device_id, each.wanted.module_id)
            prepared.append(each.error or self._prepared(hub, each))
            if key in seen:
                prepared[-1] = InvalidArgument("the identity comes twice")
            seen.add(key)

        def unit(tx: Transaction) -> list[NotDone]:
            not_done = []
            for item, ready in zip(items, prepared, strict=True):
                try:
                    if isinstance(ready, FleetrootError):
                        raise ready
                    # Whatever an item breaks is found before anything of it is written.
                    self._do(tx, hub, item, ready, by, now)
                except FleetrootError as error:
                    not_done.append(NotDone(item, error))
            return not_done

        not_done = await self._store.write(unit)
        self._bus.hint(OUTBOX)
        return not_done

    def _prepared(self, hub: Hub, item: Item) -> Prepared | FleetrootError:
        try:
            return wanted_identities.prepare(self._sealer, hub.id, item.wanted)
        except FleetrootError as error:
            return error

    def _do(
        self, tx: Transaction, hub: Hub, item: Item, prepared: Prepared, by: Actor, now: datetime
    ) -> None:
        wanted, if_match = item.wanted, _ANY
        if item.mode in (Mode.UPDATE_IF_MATCH, Mode.DELETE_IF_MATCH):
            if item.etag is None:
                raise InvalidArgument("eTag: required")
            if_match = item.etag
        match item.mode:
            case Mode.CREATE:
                _create(tx, hub, prepared, by, now)
            case Mode.UPDATE | Mode.UPDATE_IF_MATCH:
                self._update(tx, hub, prepared, if_match, by, now)
            case Mode.DELETE | Mode.DELETE_IF_MATCH:
                _delete(tx, hub, (wanted.device_id, wanted.module_id), if_match, by, now)

    def _update(
        self,
        tx: Transaction,
        hub: Hub,
        prepared: Prepared,
        if_match: str,
        by: Actor,
        now: datetime,
    ) -> Identity:
        wanted = prepared.wanted
        there = _get(tx, hub, wanted.device_id, wanted.module_id)
        _check_etag(there, if_match)
        policy_id = _policy_of(tx, hub, there.device_id)
        after = wanted_identities.changed(self._sealer, there, prepared, policy_id, now)
        identities.change(tx, after, now)
        announcements.append(tx, identities.announcement(EventKind.IDENTITY_CHANGED, after, now))
        details: dict[str, Any] = {}
        if after.pin_etag != there.pin_etag:
            details |= {"authentication": _SHOWN[after.pin], "before": _SHOWN[there.pin]}
        if after.enabled != there.enabled:
            details |= {"status": "enabled" if after.enabled else "disabled"}
        _log(tx, Action.UPDATE_IDENTITY, hub, after, by, now, details)
        if after.pin_etag != there.pin_etag or (there.enabled and not after.enabled):
            _tell_changed(tx, hub, after, now)
        return after

    def _shown(self, identity: Identity, messages: int) -> ShownIdentity:
        keys = identities.open_keys(self._sealer, identity)
        return ShownIdentity(identity, _SHOWN[identity.pin], keys, messages)


def _get(tx: Transaction, hub: Hub, device_id: str, module_id: str | None) -> Identity:
    found = identities.find(tx, hub.id, device_id, module_id)
    if found is None and module_id is not None and identities.find(tx, hub.id, device_id):
        raise NotFound(f"the device {device_id} has no module {module_id}")
    if found is None or (module_id is None and found.is_module):
        raise NotFound(f"there is no device {device_id} on the hub {hub.name}")
    return found


def _create(tx: Transaction, hub: Hub, prepared: Prepared, by: Actor, now: datetime) -> Identity:
    wanted = prepared.wanted
    living = hubs.by_name(tx, hub.name)
    if living is None or living.id != hub.id:
        raise NotFound(f"there is no hub {hub.name}")
    hub = living  # without devices it may have come to another namespace
    if wanted.module_id is not None:
        parent = _get(tx, hub, wanted.device_id, None)
        if identities.count_modules(tx, hub.id, parent.device_key) >= MAX_MODULES:
            raise Conflict(f"the device has {MAX_MODULES} modules already")
    if identities.find(tx, hub.id, wanted.device_id, wanted.module_id) is not None:
        what = "device" if wanted.module_id is None else "module"
        raise AlreadyExists(f"the {what} {wanted.module_id or wanted.device_id} exists already")
    new = wanted_identities.made_of(prepared, hub.id, _policy_of(tx, hub, wanted.device_id), now)
    details: dict[str, Any] = {"authentication": _SHOWN[new.pin]}
    if not new.is_module:
        drafted = devices.draft(
            hub.namespace_id, new.device_id, policy_id=None, enrollment=None, hub_id=None, now=now
        )
        details["entersRegistry"] = devices.register(tx, [drafted])
    identities.insert(tx, [new])
    twin = first_twins.EMPTY if wanted.twin is None else first_twins.made_of(wanted.twin)
    twins.insert_new(tx, [(new, twin)], now)
    _log(tx, Action.CREATE_IDENTITY, hub, new, by, now, details)
    return new


def _delete(
    tx: Transaction,
    hub: Hub,
    of: tuple[str, str | None],
    if_match: str,
    by: Actor,
    now: datetime,
) -> None:
    there = _get(tx, hub, *of)
    _check_etag(there, if_match)
    identities.remove(tx, there)
    announcements.append(tx, identities.announcement(EventKind.IDENTITY_DELETED, there, now))
    _log(tx, Action.DELETE_IDENTITY, hub, there, by, now, {})
    _tell_changed(tx, hub, there, now)


def _policy_of(tx: Transaction, hub: Hub, device_id: str) -> str | None:
    device = devices.find(tx, hub.namespace_id, device_id)
    return None if device is None else device.policy_id


def _check_etag(there: Identity, if_match: str) -> None:
    """RFC 9110 §13.1.1."""
    if if_match not in (_ANY, there.etag):
        raise EtagMismatch("the identity is of another version")


def _log(
    tx: Transaction,
    action: Action,
    hub: Hub,
    identity: Identity,
    by: Actor,
    now: datetime,
    details: dict[str, Any],
) -> None:
    about = {"hub": hub.name, **details}
    if identity.module_id is not None:
        about["module"] = identity.module_id
    subject = f"device/{identity.device_id}"
    audit.append(tx, Entry(now, by, action, subject, hub.namespace_id, details=about))


def _tell_changed(tx: Transaction, hub: Hub, identity: Identity, now: datetime) -> None:
    outbox.append(
        tx,
        outbox.Kind.IDENTITY_CHANGED,
        namespace_id=hub.namespace_id,
        subject=identity.device_key,
        now=now,
    )
