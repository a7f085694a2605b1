"""Direct methods: called over HTTPS by services that wait for the answer, sent to one device that
listens and to many, and back.

Services and devices share a process beside the server's, and its time is in that of a call.
"""

from __future__ import annotations

from bench.load import Job
from bench.measure import Row, Scale, Spread, process_cpu, rate, take_turns
from bench.processes import Server, generator, new_server

_CURVE = "P-256"
_TOGETHER = 16  # below what may wait for one device


def rows(scale: Scale) -> list[Row]:
    """One device, one call at a time and many; and many devices."""
    with new_server() as server:
        return [
            _row(server, scale, 1, 1),
            _row(server, scale, 1, _TOGETHER),
            _row(server, scale, scale.listeners, _TOGETHER),
        ]


def _row(server: Server, scale: Scale, devices: int, at_once: int) -> Row:
    calls = scale.messages // 2
    half, most = list[float](), list[float]()
    with generator(server, Job.METHODS, _CURVE, devices, at_once=at_once, times=calls) as load:
        load.prepare()

        def cost() -> float:
            before = process_cpu(server.pid)
            done = load.go()
            half.append(done.p50 * 1000)
            most.append(done.p99 * 1000)
            return (process_cpu(server.pid) - before) / done.count

        [used] = take_turns(scale.rounds, cost)
    to = "one device" if devices == 1 else f"{devices:,} devices"
    return Row(
        f"direct methods over HTTPS, {to}, {at_once} at a time",
        rate(used),
        f"round trip: median {Spread.of(half[1:]).show('.1f', ' ms')}, "
        f"p99 {Spread.of(most[1:]).show('.1f', ' ms')}",
    )
