"""Twins: their table, and the rules of a patch.

Source: Azure IoT Hub, "Understand and use device twins": sizes, and the form of keys and values.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, select, update

from fleetroot.errors import InvalidArgument, MalformedJson
from fleetroot.hub.model import Identity, Twin
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import twins

MAX_TAGS_BYTES: Final = 8 * 1024
MAX_PROPERTIES_BYTES: Final = 32 * 1024  # desired and reported each
_MAX_DEPTH: Final = 10
_MAX_KEY_BYTES: Final = 1024
_MAX_STRING_BYTES: Final = 4096
_MAX_INTEGER: Final = 4503599627370495

_is_twin: Final = (twins.c.hub_id == bindparam("hub")) & (twins.c.device_key == bindparam("key"))
_GET: Final = Query(
    select(
        twins.c.tags,
        twins.c.desired,
        twins.c.reported,
        twins.c.desired_version,
        twins.c.reported_version,
    ).where(_is_twin),
    Twin,
)
_INSERT: Final = Command(insert_into(twins))
_REPORT: Final = Command(
    update(twins)
    .where(_is_twin)
    .values(
        reported=bindparam("new_reported"),
        reported_version=twins.c.reported_version + 1,
        updated_at=bindparam("now"),
    )
)


def insert(tx: Transaction, new: Iterable[tuple[Identity, Twin]], now: datetime) -> None:
    """Adds the twins of new identities."""
    tx.run_many(
        _INSERT,
        (
            {
                "hub_id": identity.hub_id,
                "device_key": identity.device_key,
                "tags": twin.tags,
                "desired": twin.desired,
                "reported": twin.reported,
                "desired_version": twin.desired_version,
                "reported_version": twin.reported_version,
                "updated_at": now,
            }
            for identity, twin in new
        ),
    )


def find(tx: Transaction, hub_id: str, device_key: str) -> Twin | None:
    """The device's twin."""
    return tx.first(_GET, hub=hub_id, key=device_key)


def parse_patch(body: bytes) -> dict[str, Any]:
    """A patch of reported properties.

    Raises:
        MalformedJson: it is not JSON.
        InvalidArgument: it is no object, is too large, or breaks a rule of twins.
    """
    if len(body) > MAX_PROPERTIES_BYTES:
        raise InvalidArgument(f"the patch is over {MAX_PROPERTIES_BYTES} bytes")
    try:
        patch = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedJson("the patch is not JSON") from None
    if not isinstance(patch, dict):
        raise InvalidArgument("the patch must be a JSON object")
    _check(patch, depth=1)
    return patch


def report(
    tx: Transaction, hub_id: str, device_key: str, patch: dict[str, Any], now: datetime
) -> int:
    """Merges a patch into the reported properties (null deletes) and returns their new version.

    Raises:
        InvalidArgument: they would be too large.
    """
    twin = find(tx, hub_id, device_key)
    if twin is None:
        raise InvalidArgument("the device has no twin")
    merged = orjson.dumps(merge(orjson.loads(twin.reported), patch))
    if len(merged) > MAX_PROPERTIES_BYTES:
        raise InvalidArgument(f"reported properties would be over {MAX_PROPERTIES_BYTES} bytes")
    tx.run(_REPORT, hub=hub_id, key=device_key, new_reported=merged.decode(), now=now)
    return twin.reported_version + 1


def merge(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The document with the patch applied: objects merge, null deletes, all else replaces."""
    merged = dict(document)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def check_section(name: str, section: dict[str, Any], max_bytes: int) -> None:
    """Checks a whole section of a twin.

    Raises:
        InvalidArgument: it is too large, or breaks a rule of twins.
    """
    if len(orjson.dumps(section)) > max_bytes:
        raise InvalidArgument(f"{name}: at most {max_bytes} bytes")
    _check(section, depth=1)


def _check(value: object, *, depth: int) -> None:
    match value:
        case dict() | list() if depth > _MAX_DEPTH:
            raise InvalidArgument(f"twin properties are at most {_MAX_DEPTH} levels deep")
        case dict():
            for key, below in value.items():
                _check_key(key)
                _check(below, depth=depth + 1)
        case list():
            for item in value:
                _check(item, depth=depth + 1)
        case str():
            if len(value.encode()) > _MAX_STRING_BYTES:
                raise InvalidArgument(f"twin strings are at most {_MAX_STRING_BYTES} bytes")
        case bool():
            return
        case int():
            if abs(value) > _MAX_INTEGER:
                raise InvalidArgument("a twin integer is out of range")


def _check_key(key: str) -> None:
    if not key or len(key.encode()) > _MAX_KEY_BYTES:
        raise InvalidArgument(f"twin keys are 1 to {_MAX_KEY_BYTES} bytes")
    if any(c in ".$ " or ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in key):
        raise InvalidArgument("twin keys have no dots, dollars, spaces or control characters")
