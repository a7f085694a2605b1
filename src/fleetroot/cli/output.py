"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])

_STYLES = {"valid": "green", "yes": "green", "revoked": "red", "expired": "yellow", "no": "red"}


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")(
        function
    )


def print_json(value: Any) -> None:
    """Prints JSON on stdout."""
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Prints a table; `empty` when there are no rows. Nothing is cut: what does not fit wraps."""
    made = list(rows)
    if not made:
        click.echo(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in made:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console().print(table)


def print_fields(fields: Mapping[str, str]) -> None:
    """Prints names and values, one to a line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        click.echo(f"{name:<{width}}  {value}")


def print_paragraph(text: str, indent: int = 0) -> None:
    """Prints text, wrapped at 80 columns; a word is never cut."""
    pad = " " * indent
    click.echo(
        textwrap.fill(
            text,
            80,
            initial_indent=pad,
            subsequent_indent=pad,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def printable(text: str) -> str:
    """What a device wrote, with everything escaped that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def when(text: str | None) -> str:
    """A time as people read it: UTC, to the second."""
    if not text:
        return "-"
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%SZ")


def short(fingerprint: str) -> str:
    """As many digits of a fingerprint as tell certificates apart."""
    return fingerprint[:16]


def yes_no(value: bool) -> str:
    """`yes` or `no`."""
    return "yes" if value else "no"
