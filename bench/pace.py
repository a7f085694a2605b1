"""Full onboardings by wall clock, where the load generator shares the machine: how many a second,
and how long one takes at half of that.
"""

from __future__ import annotations

import os
import statistics

from bench.load import Job
from bench.measure import Row, Scale, Spread
from bench.processes import Generator, Server, generator, new_server


def rows(scale: Scale) -> list[Row]:
    """Two rows for each curve."""
    with new_server() as server:
        return [row for curve in scale.curves for row in _of_curve(server, scale, curve)]


def _of_curve(server: Server, scale: Scale, curve: str) -> list[Row]:
    with generator(server, Job.ONBOARD, curve, scale.batch) as load:
        full = [_per_second(load) for _ in range(scale.rounds + 1)][1:]  # the first warms up
    half = statistics.median(full) / 2
    medians, worst = [], []
    with generator(server, Job.ONBOARD, curve, scale.batch) as load:
        for _ in range(scale.rounds):
            load.prepare()
            done = load.go(half)
            medians.append(done.p50 * 1000)
            worst.append(done.p99 * 1000)
    cores = len(os.sched_getaffinity(0))
    return [
        Row(
            f"full onboardings, {curve}, wall clock, {cores} cores with the load",
            Spread.of(full).show(".0f", " / s"),
        ),
        Row(
            f"one of them when {half:.0f} a second arrive",
            f"median {Spread.of(medians).show('.1f', ' ms')}",
            f"p99 {Spread.of(worst).show('.0f', ' ms')}",
        ),
    ]


def _per_second(load: Generator) -> float:
    load.prepare()
    done = load.go()
    return done.count / done.seconds
