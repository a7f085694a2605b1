"""Times as people type them: `7d`."""

from __future__ import annotations

import re
from typing import Final

import click

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_FORM: Final = re.compile(r"([0-9]{1,9})([smhdw])")


class Duration(click.ParamType[int]):
    """A number of seconds, minutes, hours, days or weeks; its value is in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """See `click.ParamType.convert`."""
        if isinstance(value, int):
            return value
        found = _FORM.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is not a time such as 30m, 12h or 7d.", param, ctx)
        return int(found[1]) * _SECONDS[found[2]]
