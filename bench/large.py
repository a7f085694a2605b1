"""The same with a large store as with a small one: two servers side by side, in turns."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.load import Job
from bench.measure import Row, Scale, Spread, rate, ratio, take_turns
from bench.processes import Server, generator, new_server, server_on
from bench.store import large_store

_CURVE = "P-256"  # where the cryptography hides the store least
_JOBS = {
    Job.ISSUE: "certificates over kept MQTT",
    Job.ONBOARD: "full onboardings over MQTT",
    Job.CONNECT: "connections to the hub",
}
_LINES = 64


def rows(scale: Scale, folder: Path | None) -> list[Row]:
    """A row for each job, and one for starting on a large store.

    Args:
        scale: how much is done.
        folder: where the large store is kept; None makes it anew in a temporary folder.
    """
    with ExitStack() as running:
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="fleetroot-bench-")
            folder = Path(running.enter_context(made))
        start = time.perf_counter()
        data = large_store(folder, scale.stored)
        making = time.perf_counter() - start
        found = [_start_up(scale, data, making)]
        small = running.enter_context(new_server())
        large = running.enter_context(server_on(data))
        return found + [_row(small, large, scale, job) for job in _JOBS]


def _start_up(scale: Scale, data: Path, making: float) -> Row:
    took = []
    for _ in range(scale.rounds):
        with server_on(data) as server:
            took.append(server.start_up_seconds)
    return Row(
        f"start-up to ready with {scale.stored:,} devices",
        Spread.of(took).show(".2f", " s"),
        f"store made in {making:.0f} s",
        goal="3 s",
    )


def _row(small: Server, large: Server, scale: Scale, job: Job) -> Row:
    shape = {"devices": scale.batch, "at_once": 32}
    if job is Job.ISSUE:
        lines = min(_LINES, scale.batch)
        shape = {"devices": lines, "times": scale.batch // lines}
    with (
        generator(small, job, _CURVE, **shape) as to_small,
        generator(large, job, _CURVE, **shape) as to_large,
    ):
        few, many = take_turns(
            scale.rounds, lambda: to_small.cost(small.pid), lambda: to_large.cost(large.pid)
        )
    return Row(
        f"{_JOBS[job]}, {_CURVE}, {scale.stored:,} devices",
        rate(many),
        f"new store {rate(few)}",
        ratio(few, many),
        "90%",
    )
