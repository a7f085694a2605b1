"""What a server costs that does nothing: to start, and to hold connections."""

from __future__ import annotations

import time

from bench.load import Job
from bench.measure import Row, Scale, Spread, process_memory
from bench.processes import generator, new_server


def rows(scale: Scale) -> list[Row]:
    """One row each."""
    return [_start_up(scale), _memory(scale)]


def _start_up(scale: Scale) -> Row:
    took = []
    for _ in range(scale.rounds):
        with new_server() as server:
            took.append(server.start_up_seconds)
    return Row(
        "start-up to ready, in an empty folder", Spread.of(took).show(".2f", " s"), goal="3 s"
    )


def _memory(scale: Scale) -> Row:
    with new_server() as server, generator(server, Job.IDLE, "P-256", scale.idle) as load:
        load.prepare()
        before = process_memory(server.pid)
        load.go()
        time.sleep(1)
        each = (process_memory(server.pid) - before) / scale.idle
    return Row(
        f"memory of an idle connection, {scale.idle:,} of them",
        f"{each / 1024:.0f} KB",
        goal="64 KB",
    )
