"""Twins: their table, the rules of a section, and what devices do with theirs.

A section is at most so large by the service's own measure, in which names and texts count by their
bytes, numbers 8, booleans 4, and punctuation nothing; its JSON is bounded as well, because a patch
of punctuation alone would weigh nothing.

Source: Azure IoT Hub, "Understand and use device twins": sizes, and the form of keys and values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from math import isfinite
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, insert, select, update

from fleetroot.errors import InvalidArgument, MalformedJson
from fleetroot.hub import twin_metadata
from fleetroot.hub.model import Identity, Twin
from fleetroot.hub.twin_metadata import Stamp
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import twins

MAX_TAGS_BYTES: Final = 8 * 1024
MAX_PROPERTIES_BYTES: Final = 32 * 1024  # desired and reported each
MAX_JSON_BYTES: Final = 128 * 1024  # of a patch, and of a section as it is kept
_MAX_DEPTH: Final = 10
_MAX_KEY_BYTES: Final = 1024
_MAX_STRING_BYTES: Final = 4096
_MAX_INTEGER: Final = 4503599627370495
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_IN_KEYS: Final = re.compile(r"[.$ \x00-\x1f\x7f-\x9f]")
_KEPT_BY_SERVICES: Final = ("revision", "desired_metadata", "reported_metadata", "model_id")

_MOVED_TO: Final = ("hub_id", "device_key", "updated_at")

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
_REPORTED: Final = Query(
    select(twins.c.reported, twins.c.reported_metadata, twins.c.reported_version).where(_is_twin),
    lambda *columns: columns,
)
# What services keep begins with the defaults of its columns.
_INSERT: Final = Command(insert_into(twins, leave_out=_KEPT_BY_SERVICES))
_REPORT: Final = Command(
    update(twins)
    .where(_is_twin)
    .values(
        reported=bindparam("new_reported"),
        reported_metadata=bindparam("new_metadata"),
        reported_version=bindparam("new_version"),
        updated_at=bindparam("now"),
    )
)
_SET_MODEL: Final = Command(
    update(twins)
    .where(_is_twin & twins.c.model_id.is_distinct_from(bindparam("new_model")))
    .values(model_id=bindparam("new_model"))
)
_MOVE: Final = Command(
    insert(twins).from_select(
        [c.name for c in twins.columns],
        select(
            *(
                bindparam(f"to_{c.name}", type_=c.type) if c.name in _MOVED_TO else c
                for c in twins.columns
            )
        ).where(_is_twin),
    )
)


def insert_new(tx: Transaction, new: Iterable[tuple[Identity, Twin]], now: datetime) -> None:
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


def move(tx: Transaction, hub_id: str, device_key: str, to: Identity, now: datetime) -> bool:
    """Gives an identity the twin that its device has elsewhere; False if it has none there."""
    moved = tx.run(
        _MOVE,
        hub=hub_id,
        key=device_key,
        to_hub_id=to.hub_id,
        to_device_key=to.device_key,
        to_updated_at=now,
    )
    return moved == 1


def find(tx: Transaction, hub_id: str, device_key: str) -> Twin | None:
    """The device's twin."""
    return tx.first(_GET, hub=hub_id, key=device_key)


def set_model(tx: Transaction, hub_id: str, device_key: str, model_id: str) -> None:
    """Keeps which model a device says that it implements."""
    tx.run(_SET_MODEL, hub=hub_id, key=device_key, new_model=model_id)


def parse_patch(body: bytes) -> dict[str, Any]:
    """A patch of reported properties.

    Raises:
        MalformedJson: it is not JSON.
        InvalidArgument: it is no object, is too large, or breaks a rule of twins.
    """
    if len(body) > MAX_JSON_BYTES:
        raise InvalidArgument(f"the patch is over {MAX_JSON_BYTES} bytes")
    try:
        patch = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedJson("the patch is not JSON") from None
    if not isinstance(patch, dict):
        raise InvalidArgument("the patch must be a JSON object")
    check_values(patch)
    return patch


def report(
    tx: Transaction, hub_id: str, device_key: str, patch: dict[str, Any], now: datetime
) -> int:
    """Merges a patch into the reported properties (null deletes) and returns their new version.

    Raises:
        InvalidArgument: they would be too large.
    """
    found = tx.first(_REPORTED, hub=hub_id, key=device_key)
    if found is None:
        raise InvalidArgument("the device has no twin")
    reported, metadata, version = found
    merged = merge(orjson.loads(reported), patch)
    text = check_size("reported", merged, MAX_PROPERTIES_BYTES)
    stamped = twin_metadata.stamped(orjson.loads(metadata), patch, merged, Stamp(now, version + 1))
    tx.run(
        _REPORT,
        hub=hub_id,
        key=device_key,
        new_reported=text,
        new_metadata=orjson.dumps(stamped).decode(),
        new_version=version + 1,
        now=now,
    )
    return int(version) + 1


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
    check_values(section)
    check_size(name, section, max_bytes)


def check_values(patch: dict[str, Any]) -> None:
    """Checks the keys and values of a section, or of a patch of one.

    Raises:
        InvalidArgument: one breaks a rule of twins.
    """
    _check(patch)


def check_size(name: str, section: dict[str, Any], max_bytes: int) -> str:
    """The section as JSON.

    Raises:
        InvalidArgument: it is too large.
    """
    text = orjson.dumps(section)
    # No value weighs more than four times what it takes as JSON: `1,` is 8.
    if len(text) > max_bytes // 4 and size_of(section) > max_bytes:
        raise InvalidArgument(f"{name}: at most {max_bytes} bytes")
    if len(text) > MAX_JSON_BYTES:
        raise InvalidArgument(f"{name}: at most {MAX_JSON_BYTES} bytes as JSON")
    return text.decode()


def size_of(value: object) -> int:
    """How large a value is, by the measure of twins."""
    size = 0
    left = [value]
    for each in left:  # grows while it is gone through: recursion would cost several times as much
        kind = type(each)
        if kind is str:
            size += _length(each)  # type: ignore[arg-type]
        elif kind is bool:
            size += 4
        elif kind is int or kind is float:
            size += 8
        elif isinstance(each, dict):
            size += sum(map(_length, each))
            left += each.values()
        elif isinstance(each, list):
            left += each
    return size


def _length(text: str) -> int:
    """In bytes of UTF-8, without control characters."""
    if text.isascii() and text.isprintable():
        return len(text)
    return len(_CONTROLS.sub("", text).encode())


def _check(section: dict[str, Any]) -> None:
    level: list[object] = [section]
    depth = 1
    while level:
        below: list[object] = []
        for each in level:
            kind = type(each)
            if kind is int:
                if not -_MAX_INTEGER <= each <= _MAX_INTEGER:  # type: ignore[operator]
                    raise InvalidArgument("a twin integer is out of range")
            elif isinstance(each, str):
                if len(each) > _MAX_STRING_BYTES // 4 and len(each.encode()) > _MAX_STRING_BYTES:
                    raise InvalidArgument(f"twin strings are at most {_MAX_STRING_BYTES} bytes")
            elif isinstance(each, dict | list):
                if depth > _MAX_DEPTH:
                    raise InvalidArgument(f"twin properties are at most {_MAX_DEPTH} levels deep")
                if isinstance(each, dict):
                    for key in each:
                        _check_key(key)
                    below += each.values()
                else:
                    below += each
            elif isinstance(each, float) and not isfinite(each):
                raise InvalidArgument("a twin number is out of range")
        level = below
        depth += 1


def _check_key(key: str) -> None:
    if not key or (len(key) > _MAX_KEY_BYTES // 4 and len(key.encode()) > _MAX_KEY_BYTES):
        raise InvalidArgument(f"twin keys are 1 to {_MAX_KEY_BYTES} bytes")
    if _NOT_IN_KEYS.search(key):
        raise InvalidArgument("twin keys have no dots, dollars, spaces or control characters")
