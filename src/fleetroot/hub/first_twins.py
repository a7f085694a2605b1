"""The twins that identities begin with: JSON objects of `{tags, properties: {desired}}`, as an
enrollment or a service says them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from fleetroot.hub import twins
from fleetroot.hub.model import Twin

EMPTY: Final = Twin(tags="{}", desired="{}", reported="{}", desired_version=1, reported_version=1)


def check(said: Mapping[str, Any]) -> None:
    """Raises:
    InvalidArgument: it breaks a rule of twins.
    """
    tags, desired = _sections(said)
    twins.check_section("tags", tags, twins.MAX_TAGS_BYTES)
    twins.check_section("desired", desired, twins.MAX_PROPERTIES_BYTES)


def made_of(said: Mapping[str, Any]) -> Twin:
    """The twin, of what was checked."""
    tags, desired = _sections(said)
    return Twin(
        tags=orjson.dumps(tags).decode(),
        desired=orjson.dumps(desired).decode(),
        reported="{}",
        desired_version=1,
        reported_version=1,
    )


def _sections(said: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return said.get("tags", {}), said.get("properties", {}).get("desired", {})
