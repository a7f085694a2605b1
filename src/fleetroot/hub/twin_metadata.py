"""When each property of a twin was last written, and by which version of its section.

Kept as a JSON object beside the section. It has the section's keys where anything was written since
the twin was made, and under the empty key, which no property has, the stamp of the object or value
that it stands for: `[microseconds since the epoch, version]`. What has no stamp is as old as the
twin. Arrays are values.

Source: Azure IoT Hub, "Understand and use device twins", "Device twin metadata".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from fleetroot.clock import iso8601
from fleetroot.storage.types import from_microseconds, to_microseconds

_STAMP: Final = ""


class Stamp(NamedTuple):
    """When something was written, and as which version of its section."""

    at: datetime
    version: int


def stamped(
    metadata: Mapping[str, Any], patch: Mapping[str, Any], section: Mapping[str, Any], stamp: Stamp
) -> dict[str, Any]:
    """The metadata once `patch` was merged, which made `section`."""
    return _stamped(metadata, patch, section, [to_microseconds(stamp.at), stamp.version])


def stamped_anew(section: Mapping[str, Any], stamp: Stamp) -> dict[str, Any]:
    """The metadata of a section that was written as a whole."""
    return _anew(section, [to_microseconds(stamp.at), stamp.version])


def shown(
    metadata: Mapping[str, Any],
    section: Mapping[str, Any],
    first: Stamp,
    *,
    versions: bool,
) -> dict[str, Any]:
    """The `$metadata` of a section, as services see it.

    Args:
        first: of what has no stamp.
        versions: whether to say by which version, as desired properties do.
    """
    at, version = metadata.get(_STAMP) or (None, first.version)
    seen: dict[str, Any] = {
        "$lastUpdated": iso8601(first.at if at is None else from_microseconds(at))
    }
    if versions:
        seen["$lastUpdatedVersion"] = version
    for key, value in section.items():
        below = value if isinstance(value, dict) else {}
        seen[key] = shown(metadata.get(key, {}), below, first, versions=versions)
    return seen


def _stamped(
    metadata: Mapping[str, Any], patch: Mapping[str, Any], section: Mapping[str, Any], stamp: Any
) -> dict[str, Any]:
    made = {key: value for key, value in metadata.items() if key in section}
    made[_STAMP] = stamp
    for key, value in patch.items():
        if key not in section:
            continue  # deleted
        below = section[key]
        if isinstance(value, dict) and isinstance(below, dict):
            made[key] = _stamped(metadata.get(key, {}), value, below, stamp)
        else:
            made[key] = {_STAMP: stamp}
    return made


def _anew(section: Mapping[str, Any], stamp: Any) -> dict[str, Any]:
    made: dict[str, Any] = {_STAMP: stamp}
    for key, value in section.items():
        made[key] = _anew(value, stamp) if isinstance(value, dict) else {_STAMP: stamp}
    return made
