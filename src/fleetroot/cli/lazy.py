"""Commands whose modules are imported when they are asked for: nobody waits for the imports of
commands that they did not type.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group, some of whose commands stand in `places`: by name, `module:attribute` below
    `fleetroot.cli`. They are listed in that order, before those that were added otherwise.
    """

    def __init__(self, *args: Any, places: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._places = dict(places or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as help shows them."""
        others = [name for name in super().list_commands(ctx) if name not in self._places]
        return [*self._places, *others]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in self._places:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._places[cmd_name].partition(":")
        command = getattr(import_module(f"fleetroot.cli.{module}"), attribute)
        assert isinstance(command, click.Command)  # noqa: S101
        return command
