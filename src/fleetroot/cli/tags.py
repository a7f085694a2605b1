"""Tags, as commands take and show them."""

from __future__ import annotations

from typing import Any

import click


def parse_tags(tags: tuple[str, ...], option: str = "--tag") -> dict[str, str]:
    """Tags as they are typed, `NAME=VALUE`."""
    found = {}
    for tag in tags:
        name, equals, value = tag.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} {tag} is not NAME=VALUE")
        found[name] = value
    return found


def shown_tags(shown: dict[str, Any]) -> str:
    """The tags of what an answer shows, on one line."""
    return ", ".join(f"{name}={value}" for name, value in shown["tags"].items()) or "-"
