"""Prints the benchmark's table."""

from __future__ import annotations

import sys
import time

import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from bench import room, wire
from bench.measure import Row


def main(wanted: list[str]) -> None:
    """Runs the parts that are wanted, or all."""
    start = time.monotonic()
    found: list[Row] = []
    if not wanted or "room" in wanted:
        found += uvloop.run(room.rows())
    if not wanted or "wire" in wanted:
        found += wire.rows()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("what", "measured", "beside", "ratio (lowest to highest)", "goal"):
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(row.what, row.measured, row.beside, row.ratio, row.goal)
    Console(width=120).print(table)
    print(f"{time.monotonic() - start:.0f} s in all; CPU-s are of the server process alone")


main(sys.argv[1:])
