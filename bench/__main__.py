"""Runs the groups of rows that are named, or all, and prints the table."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from bench import (
    attestation,
    commands,
    connect,
    enrollments,
    herd,
    imports,
    large,
    messages,
    methods,
    pace,
    pages,
    pkcs11,
    postgresql,
    queries,
    rest,
    revocation,
    room,
    wire,
)
from bench.measure import Row, Scale

_WIDTH: Final = 100


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=Scale().rounds, help="rounds that count")
    parser.add_argument(
        "--store", type=Path, help="folder that keeps the large stores from run to run"
    )
    parser.add_argument("--database-url", help="an empty PostgreSQL database, for its rows")
    parser.add_argument("groups", nargs="*", help="which rows; without any, all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetroot-bench-") as made:
        groups = _groups(arguments.store or Path(made), arguments.database_url)
        if unknown := set(arguments.groups) - set(groups):
            parser.error(f"no such rows: {', '.join(unknown)}; there are {', '.join(groups)}")
        scale = Scale(rounds=arguments.rounds)
        start = time.monotonic()
        found: list[Row] = []
        for name in arguments.groups or groups:
            found += groups[name](scale)
    Console(width=_WIDTH).print(_table(found))
    print(
        f"{time.monotonic() - start:.0f} s in all, load average {os.getloadavg()[0]:.1f}; ratios"
        f" are medians of {scale.rounds} rounds; CPU-s: of the serving process alone"
    )


def _groups(store: Path, database_url: str | None) -> dict[str, Callable[[Scale], list[Row]]]:
    """The rows by name, in their order."""
    return {
        "room": room.rows,
        "wire": wire.mqtt_rows,
        "https": wire.https_rows,
        "attestation": attestation.rows,
        "connect": connect.rows,
        "pace": pace.rows,
        "herd": herd.rows,
        "messages": messages.rows,
        "commands": commands.rows,
        "methods": methods.rows,
        "rest": rest.rows,
        "revocation": revocation.rows,
        "pkcs11": pkcs11.rows,
        "import": imports.rows,
        "enrollments": lambda scale: enrollments.rows(scale, store),
        "large": lambda scale: large.rows(scale, store),
        "pages": lambda scale: pages.rows(scale, store),
        "queries": lambda scale: queries.rows(scale, store),
        "postgresql": lambda scale: postgresql.rows(scale, database_url),
    }


def _table(rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("what", "measured", "beside", "ratio (low to high)", "goal"):
        table.add_column(column, overflow="fold")
    for row in rows:
        shown = "" if row.ratio is None else row.ratio.show(".0%")
        table.add_row(row.what, row.measured, row.beside, shown, row.goal)
    return table


main()
