"""A herd: devices that arrive at once, as after a power cut, each from an address of its own, and
come back as they are told until they have a certificate. The load generator shares the machine.
"""

from __future__ import annotations

import os

from bench.load import Job
from bench.measure import Row, Scale, process_cpu, process_memory
from bench.processes import generator, new_server

_GOAL_SECONDS = 120


def rows(scale: Scale) -> list[Row]:
    """How long it took until all were in, and what it took."""
    with new_server() as server, generator(server, Job.HERD, "P-256", scale.herd) as load:
        load.prepare()
        cpu = process_cpu(server.pid)
        done = load.go()
        cpu = process_cpu(server.pid) - cpu
        peak = process_memory(server.pid, peak=True) / 2**20
    cores = len(os.sched_getaffinity(0))
    return [
        Row(
            f"herd of {scale.herd:,}, P-256, {cores} cores with the load",
            f"{done.count:,} in after {done.seconds:.1f} s",
            f"{done.retries:,} attempts more; {cpu:.1f} s of CPU",
            goal=f"all in {_GOAL_SECONDS} s",
        ),
        Row(
            "until a device of it has its certificate",
            f"median {done.p50:.1f} s, p99 {done.p99:.1f} s",
            f"peak memory of the server {peak:.0f} MB",
        ),
    ]
