"""Twins as services see and change them: tags, desired properties, and all that is known of the
device beside them.

Services change tags and desired properties, devices report. A change of a service has the etag of
what it saw, if it cares, and is durable before it is answered and before the device hears of it.
The etag stands for the generation of the identity and the services' changes of its twin; the
version counts those of both sides.

Source: Azure IoT Hub, "Understand and use device twins"; service REST API 2021-04-12,
"Get", "Update" and "Replace" of a twin.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from weakref import WeakValueDictionary

import orjson
from sqlalchemy import and_, bindparam, func, select, update

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.errors import NotFound
from fleetroot.hub import announced, twin_metadata
from fleetroot.hub import identities as identity_table
from fleetroot.hub.desired_changes import DesiredChange, DesiredChanges, way_between
from fleetroot.hub.live import LiveSession, LiveTable
from fleetroot.hub.model import Hub, Identity, Twin
from fleetroot.hub.twin_metadata import Stamp
from fleetroot.hub.twins import (
    MAX_PROPERTIES_BYTES,
    MAX_TAGS_BYTES,
    check_size,
    check_values,
    merge,
)
from fleetroot.registry import announcements, etags
from fleetroot.registry.announcements import Announcement
from fleetroot.storage import Command, Query, Store, Transaction
from fleetroot.storage.schema import commands, devices, identities, twins


@dataclass(frozen=True, slots=True)
class SectionChange:
    """What becomes of a section.

    Attributes:
        value: a patch (objects merge, null deletes); or, if `whole`, the section itself.
    """

    value: dict[str, Any]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class TwinChange:
    """What a service changes; None leaves a section as it is."""

    tags: SectionChange | None = None
    desired: SectionChange | None = None


@dataclass(frozen=True, slots=True)
class ServiceTwin:
    """A twin, and what services are told beside it.

    Attributes:
        revision: how often services changed it, plus one.
        desired_metadata, reported_metadata: JSON, see `twin_metadata`.
        model_id: a DTMI, if the device said one.
        known: the device's standing in the registry: None if it is not there, or whether enabled.
        waiting: cloud-to-device messages in its queue.
    """

    identity: Identity
    twin: Twin
    revision: int
    desired_metadata: str
    reported_metadata: str
    model_id: str | None
    known: bool | None
    waiting: int

    @property
    def etag(self) -> str:
        """Changes with each change of a service."""
        return twin_etag(self.identity.generation_id, self.revision)

    @property
    def version(self) -> int:
        """Rises with each change of either side."""
        return self.revision + self.twin.reported_version

    @property
    def enabled(self) -> bool:
        """Whether the device may connect, as far as its identity and the registry go."""
        return self.identity.enabled and bool(self.known)


def twin_etag(generation_id: str, revision: int) -> str:
    """The etag of a twin after `revision` changes of services, of an identity."""
    return f"{generation_id.replace('-', '')[:12]}-{revision}"


def row(
    tags: str,
    desired: str,
    reported: str,
    desired_version: int,
    reported_version: int,
    revision: int,
    desired_metadata: str,
    reported_metadata: str,
    model_id: str | None,
    known: bool | None,
    waiting: int,
    *identity: Any,
) -> ServiceTwin:
    """A twin from `COLUMNS`."""
    return ServiceTwin(
        identity_table.row(*identity),
        Twin(tags, desired, reported, desired_version, reported_version),
        revision,
        desired_metadata,
        reported_metadata,
        model_id,
        known,
        waiting,
    )


_waiting: Final = (
    select(func.count())
    .select_from(commands)
    .where(commands.c.hub_id == identities.c.hub_id)
    .where(commands.c.device_key == identities.c.device_key)
    .where(commands.c.expires_at > bindparam("now"))
    .scalar_subquery()
)
COLUMNS: Final = (
    twins.c.tags,
    twins.c.desired,
    twins.c.reported,
    twins.c.desired_version,
    twins.c.reported_version,
    twins.c.revision,
    twins.c.desired_metadata,
    twins.c.reported_metadata,
    twins.c.model_id,
    devices.c.enabled,
    _waiting,
    *identities.columns,
)
"""What `row` takes, of `FROM`; the parameter `now` says which messages wait."""
FROM: Final = twins.join(
    identities,
    and_(
        identities.c.hub_id == twins.c.hub_id,
        identities.c.device_key == twins.c.device_key,
    ),
).outerjoin(
    devices,
    and_(
        devices.c.namespace_id == bindparam("namespace"),
        # A module stands on its device.
        devices.c.device_key == func.coalesce(identities.c.parent_key, identities.c.device_key),
    ),
)
"""The parameter `namespace` is the hub's."""

_is_twin: Final = (twins.c.hub_id == bindparam("hub")) & (twins.c.device_key == bindparam("key"))
_GET: Final = Query(select(*COLUMNS).select_from(FROM).where(_is_twin), row)
_CHANGE: Final = Command(
    update(twins)
    .where(_is_twin)
    .values(
        tags=bindparam("new_tags"),
        desired=bindparam("new_desired"),
        desired_metadata=bindparam("new_metadata"),
        desired_version=bindparam("new_version"),
        revision=bindparam("new_revision"),
        updated_at=bindparam("now"),
    )
)


class ServiceTwins:
    """The twins of all hubs."""

    def __init__(self, store: Store, live: LiveTable, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._desired = DesiredChanges(live)
        # Of twins that are being changed: their devices are told in the order of versions.
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def get(self, hub: Hub, device_key: str) -> ServiceTwin:
        """The twin of a device.

        Raises:
            NotFound: the hub does not know the device.
        """
        now = self._clock.now()
        return await self._store.read(lambda tx: find(tx, hub, device_key, now))

    async def change(
        self,
        hub: Hub,
        device_key: str,
        change: TwinChange,
        *,
        if_match: str | None = None,
        by: Actor | None,
    ) -> ServiceTwin:
        """Changes a twin, and tells its device; the twin as it is then, durable.

        Args:
            if_match: the etag that the caller saw; `*` or None for any.
            by: for the audit log; None where it has the whole that this is a part of.

        Raises:
            NotFound: the hub does not know the device.
            EtagMismatch: another service changed the twin meanwhile.
            InvalidArgument: a section would be too large, or breaks a rule of twins.
        """
        for section in (change.tags, change.desired):
            if section is not None:
                check_values(section.value)
        turn = self._turns.setdefault((hub.id, device_key), asyncio.Lock())
        async with turn:
            now = self._clock.now()

            def unit(tx: Transaction) -> tuple[ServiceTwin, ServiceTwin]:
                before = find(tx, hub, device_key, now)
                etags.check(if_match, before.etag)
                after = _changed(before, change, now)
                if after is not before:
                    _save(tx, hub, device_key, after, now)
                    announcements.append(tx, _announcement(after, change, now))
                    if by is not None:
                        _log(tx, hub, before, change, by, now)
                return before, after

            before, after = await self._store.write(unit)
            if after.twin.desired_version != before.twin.desired_version:
                assert change.desired is not None  # noqa: S101 - or nothing would have changed
                told = DesiredChange(
                    before.twin.desired, after.twin.desired, after.twin.desired_version
                )
                patch = change.desired.value
                if change.desired.whole:
                    patch = way_between(orjson.loads(told.before), orjson.loads(told.after))
                self._desired.tell(hub, device_key, told, patch)
        return after

    def go_on(self, session: LiveSession) -> None:
        """A device's connection takes more again."""
        self._desired.go_on(session)

    def left(self, session: LiveSession) -> None:
        """A device's connection is over."""
        self._desired.left(session)


def find(tx: Transaction, hub: Hub, device_key: str, now: datetime) -> ServiceTwin:
    """The twin of a device.

    Raises:
        NotFound: the hub does not know the device.
    """
    found = tx.first(_GET, hub=hub.id, namespace=hub.namespace_id, key=device_key, now=now)
    if found is None:
        raise NotFound("no such device on this hub")
    return found


def _changed(before: ServiceTwin, change: TwinChange, now: datetime) -> ServiceTwin:
    twin = before.twin
    if change.tags is None and change.desired is None:
        return before
    tags, desired, metadata = twin.tags, twin.desired, before.desired_metadata
    version = twin.desired_version
    if change.tags is not None:
        made = _section(tags, change.tags)
        tags = check_size("tags", made, MAX_TAGS_BYTES)
    if change.desired is not None:
        made, version = _section(desired, change.desired), version + 1
        desired = check_size("desired", made, MAX_PROPERTIES_BYTES)
        stamp = Stamp(now, version)
        if change.desired.whole:
            stamped = twin_metadata.stamped_anew(made, stamp)
        else:
            stamped = twin_metadata.stamped(
                orjson.loads(metadata), change.desired.value, made, stamp
            )
        metadata = orjson.dumps(stamped).decode()
    return replace(
        before,
        twin=Twin(tags, desired, twin.reported, version, twin.reported_version),
        desired_metadata=metadata,
        revision=before.revision + 1,
    )


def _section(text: str, change: SectionChange) -> dict[str, Any]:
    """A section once it was changed; a null is no value of one."""
    return merge({} if change.whole else orjson.loads(text), change.value)


def _save(tx: Transaction, hub: Hub, device_key: str, after: ServiceTwin, now: datetime) -> None:
    tx.run(
        _CHANGE,
        hub=hub.id,
        key=device_key,
        new_tags=after.twin.tags,
        new_desired=after.twin.desired,
        new_metadata=after.desired_metadata,
        new_version=after.twin.desired_version,
        new_revision=after.revision,
        now=now,
    )


def _announcement(after: ServiceTwin, change: TwinChange, now: datetime) -> Announcement:
    identity = after.identity
    sections = {
        name: {"value": section.value, "replaced": section.whole}
        for name, section in (("tags", change.tags), ("desired", change.desired))
        if section is not None
    }
    return announced.changed(identity, after.twin.desired_version, sections, now)


def _log(
    tx: Transaction, hub: Hub, before: ServiceTwin, change: TwinChange, by: Actor, now: datetime
) -> None:
    sections = {"tags": change.tags, "desired": change.desired}
    details = {
        "hub": hub.name,
        "changed": [name for name, section in sections.items() if section is not None],
    }
    if before.identity.module_id is not None:
        details["module"] = before.identity.module_id
    about = f"device/{before.identity.device_id}"
    audit.append(tx, Entry(now, by, Action.CHANGE_TWIN, about, hub.namespace_id, details=details))
