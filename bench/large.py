"""The same with a large store as with a small one: two servers side by side, in turns."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from bench.load import Job
from bench.measure import Row, Scale, Spread, rate, ratio, take_turns
from bench.processes import Server, generator, server_on
from bench.store import PKI_URL, large_store

_CURVE = "P-256"  # where the cryptography hides the store least
_JOBS = {
    Job.ISSUE: "certificates over kept MQTT",
    Job.ONBOARD: "full onboardings over MQTT",
    Job.CONNECT: "connections to the hub",
    Job.PUBLISH: "messages in at QoS 1",
    Job.REPORT: "reported patches",
}
_LINES = 64


def rows(scale: Scale, folder: Path) -> list[Row]:
    """A row for each job, and one for starting on a large store.

    Args:
        scale: how much is done.
        folder: where the large store is kept.
    """
    with ExitStack() as running:
        large_data = large_store(folder, scale.stored)
        made = tempfile.TemporaryDirectory(prefix="fleetroot-bench-")
        small_data = Path(running.enter_context(made))
        found = [_start_up(scale, small_data, large_data)]
        small = running.enter_context(_server_on(small_data))
        large = running.enter_context(_server_on(large_data))
        return found + [_row(small, large, scale, job) for job in _JOBS]


def _server_on(data: Path) -> AbstractContextManager[Server]:
    return server_on(data, "--pki-url", PKI_URL)


def _start_up(scale: Scale, small: Path, large: Path) -> Row:
    def seconds(data: Path) -> float:
        with _server_on(data) as server:
            return server.start_up_seconds

    few, many = take_turns(scale.rounds, lambda: seconds(small), lambda: seconds(large))
    return Row(
        f"start-up to ready, {scale.stored:,} devices",
        Spread.of(many).show(".2f", " s"),
        f"new store {Spread.of(few).median:.2f} s",
        goal="3 s",
    )


def _row(small: Server, large: Server, scale: Scale, job: Job) -> Row:
    shape = {"devices": scale.batch, "at_once": 32}
    if job in (Job.PUBLISH, Job.REPORT):
        shape = {"devices": min(_LINES, scale.batch), "times": scale.messages}
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
