"""Announcements: what happened to devices that others may want to hear, on its way to event logs.

Whoever changes something writes a row here in the same transaction, so that what is committed is
announced, and nothing else is. The hub moves rows into the event logs of the hubs concerned, in
the order in which they were written, and removes them. Nothing here waits for anybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, delete, select

from fleetroot.errors import InvalidArgument
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import announcements


class EventKind(StrEnum):
    """What an event of a hub tells. Telemetry is not announced, it is logged as it comes."""

    TELEMETRY = "telemetry"
    CONNECTED = "device.connected"
    DISCONNECTED = "device.disconnected"
    IDENTITY_CREATED = "identity.created"
    IDENTITY_CHANGED = "identity.changed"
    IDENTITY_DELETED = "identity.deleted"
    TWIN_REPORTED = "twin.reported"  # by the device
    TWIN_CHANGED = "twin.changed"  # by a service
    CERTIFICATE_ISSUED = "certificate.issued"
    CERTIFICATE_REVOKED = "certificate.revoked"
    CERTIFICATE_EXPIRED = "certificate.expired"  # the newest one of its device


ALL_KINDS: Final = frozenset(EventKind)
GROUPS: Final = {
    "telemetry": frozenset({EventKind.TELEMETRY}),
    "lifecycle": frozenset(k for k in EventKind if k.startswith(("device.", "identity."))),
    "twin": frozenset(k for k in EventKind if k.startswith("twin.")),
    "certificate": frozenset(k for k in EventKind if k.startswith("certificate.")),
    "all": ALL_KINDS,
}
"""Kinds of events by the names that people give several of them."""


def parse_kinds(names: Iterable[str]) -> frozenset[EventKind]:
    """The kinds of those names, each of a kind or of a group.

    Raises:
        InvalidArgument: there is none of a name.
    """
    found: set[EventKind] = set()
    for name in names:
        if name in GROUPS:
            found |= GROUPS[name]
        elif name in ALL_KINDS:
            found.add(EventKind(name))
        else:
            known = ", ".join([*GROUPS, *(k for k in EventKind if k not in GROUPS)])
            raise InvalidArgument(f"there is no kind of events {name[:50]!r}: {known}")
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Announcement:
    """Something that happened to a device.

    Attributes:
        namespace_id: with `hub_id` None, of the hubs concerned: those that know the device.
        body: a JSON object.
    """

    kind: EventKind
    at: datetime
    device_key: str
    device_id: str
    body: str
    hub_id: str | None = None
    namespace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Announced:
    """An announcement as it waits."""

    seq: int
    at: datetime
    kind: str
    hub_id: str | None
    namespace_id: str | None
    device_key: str
    device_id: str
    body: str


columns: Final = [c.name for c in announcements.columns if c.name != "seq"]
"""For statements that announce what they select."""
_APPEND: Final = Command(insert_into(announcements, leave_out=["seq"]))
_FIRST: Final = Query(
    select(announcements).order_by(announcements.c.seq).limit(bindparam("limit")), Announced
)
_ANY: Final = Query(select(announcements.c.seq).limit(1), int)
_REMOVE: Final = Command(delete(announcements).where(announcements.c.seq <= bindparam("last")))


def body_of(**said: Any) -> str:
    """A body that says this, and leaves out what is None."""
    told = {name: value for name, value in said.items() if value is not None}
    return orjson.dumps(told, option=orjson.OPT_UTC_Z).decode()


def append(tx: Transaction, *new: Announcement) -> None:
    """Announces something."""
    append_many(tx, new)


def append_many(tx: Transaction, new: Iterable[Announcement]) -> None:
    """Announces things, in their order."""
    tx.run_many(
        _APPEND,
        (
            {
                "at": each.at,
                "kind": each.kind.value,
                "hub_id": each.hub_id,
                "namespace_id": each.namespace_id,
                "device_key": each.device_key,
                "device_id": each.device_id,
                "body": each.body,
            }
            for each in new
        ),
    )


def wait(tx: Transaction) -> bool:
    """Whether there are any."""
    return tx.first(_ANY) is not None


def take(tx: Transaction, limit: int) -> list[Announced]:
    """The oldest, at most `limit`, which are gone then."""
    found = tx.all(_FIRST, limit=limit)
    if found:
        tx.run(_REMOVE, last=found[-1].seq)
    return found
