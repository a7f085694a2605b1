"""A herd: devices that arrive at once, as after a power cut, and come back later each time, or as
they are told, until they have a certificate. Each has an address of its own; or all are behind one.
The server has its default limits, and the load generator shares the machine.
"""

from __future__ import annotations

import os

from bench.load import Job
from bench.measure import Row, Scale, process_cpu, process_memory
from bench.processes import generator, new_server

_GOAL_SECONDS = 60


def rows(scale: Scale) -> list[Row]:
    """How long it took until all were in, and what it took."""
    goal = f"all in {_GOAL_SECONDS} s"
    return [
        *_herd(f"herd of {scale.herd:,}", scale.herd, scale.herd, goal),
        *_herd(f"{scale.behind_nat:,} behind one address", scale.behind_nat, 1, goal),
    ]


def _herd(who: str, devices: int, addresses: int, goal: str) -> list[Row]:
    with (
        new_server(one_source=False) as server,
        generator(server, Job.HERD, "P-256", devices, addresses=addresses) as load,
    ):
        load.prepare()
        cpu = process_cpu(server.pid)
        done = load.go()
        cpu = process_cpu(server.pid) - cpu
        peak = process_memory(server.pid, peak=True) / 2**20
        refused = server.refusals()
    cores = len(os.sched_getaffinity(0))
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in refused.items())
    return [
        Row(
            f"{who}, P-256, {cores} cores with the load",
            f"{done.count:,} in after {done.seconds:.1f} s",
            f"{done.retries:,} attempts more (refused: {reasons or 'none'});"
            f" {cpu:.1f} s of CPU, {cpu / devices * 1000:.1f} ms each",
            goal=goal,
        ),
        Row(
            "until a device of it has its certificate",
            f"median {done.p50:.1f} s, p99 {done.p99:.1f} s",
            f"peak memory of the server {peak:.0f} MB",
        ),
    ]
