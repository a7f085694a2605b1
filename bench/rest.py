"""What a server costs that does nothing: to start, and to hold connections."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from bench.load import Job
from bench.measure import (
    Row,
    Scale,
    Side,
    Spread,
    process_memory,
    rate,
    ratio,
    take_turns,
)
from bench.processes import Mosquitto, Server, generator, mosquitto_beside, new_server

_CURVE = "P-256"
_PINGS = 5  # of a connection in a round


def rows(scale: Scale) -> list[Row]:
    """One row each."""
    with new_server() as server, mosquitto_beside(server) as broker:
        found = [_memory(server, broker, scale), _pings(server, broker, scale)]
    return [_start_up(scale), *found]


def _start_up(scale: Scale) -> Row:
    took = []
    for _ in range(scale.rounds):
        with new_server() as server:
            took.append(server.start_up_seconds)
    return Row(
        "start-up to ready, in an empty folder", Spread.of(took).show(".2f", " s"), goal="3 s"
    )


def _memory(server: Server, broker: Mosquitto | None, scale: Scale) -> Row:
    def each(pid: int, **peer: Any) -> float:
        with generator(server, Job.IDLE, _CURVE, scale.idle, **peer) as load:
            load.prepare()
            before = process_memory(pid)
            load.go()
            time.sleep(1)
            return (process_memory(pid) - before) / scale.idle

    ours = each(server.pid)
    beside = "mosquitto: not installed"
    if broker is not None:
        theirs = each(broker.pid, broker=broker.port, broker_trust=broker.trust)
        beside = f"mosquitto {theirs / 1024:.0f} KB"
    what = f"memory of an idle connection, {scale.idle:,} of them"
    return Row(what, f"{ours / 1024:.0f} KB", beside, goal="64 KB")


def _pings(server: Server, broker: Mosquitto | None, scale: Scale) -> Row:
    what = f"keep-alive pings of {scale.idle:,} connections"
    with ExitStack() as running:
        shape: dict[str, Any] = {"devices": scale.idle, "times": _PINGS * scale.idle}
        ours = running.enter_context(generator(server, Job.PING, _CURVE, **shape))
        sides: list[Side] = [lambda: ours.cost(server.pid)]
        if broker is not None:
            pid = broker.pid
            peer: dict[str, Any] = {"broker": broker.port, "broker_trust": broker.trust}
            theirs = running.enter_context(generator(server, Job.PING, _CURVE, **shape, **peer))
            sides.append(lambda: theirs.cost(pid))
        used, *others = take_turns(scale.rounds, *sides)
    if not others:
        return Row(what, rate(used), "mosquitto: not installed")
    return Row(what, rate(used), f"mosquitto {rate(others[0])}", ratio(others[0], used))
