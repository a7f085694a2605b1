"""What devices send over connections that stay: telemetry at QoS 1 against Mosquitto, which keeps
nothing, and patches of reported properties; from one device, and from many.

Each message is in the event log, and each patch in the twin, durable, before it is acknowledged.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from bench.load import Job
from bench.measure import Row, Scale, Side, rate, ratio, take_turns
from bench.processes import Mosquitto, Server, generator, mosquitto_beside, new_server

_CURVE = "P-256"


def rows(scale: Scale) -> list[Row]:
    """In at QoS 1, and reported patches, each from one device and from many."""
    with new_server() as server, mosquitto_beside(server) as broker:
        counts = (1, scale.listeners)
        return [_telemetry(server, broker, scale, devices) for devices in counts] + [
            _reports(server, scale, devices) for devices in counts
        ]


def _telemetry(server: Server, broker: Mosquitto | None, scale: Scale, devices: int) -> Row:
    what = f"messages in at QoS 1, {_from(devices)}"
    with ExitStack() as running:
        shape: dict[str, Any] = {"devices": devices, "times": max(scale.messages, devices)}
        ours = running.enter_context(generator(server, Job.PUBLISH, _CURVE, **shape))
        sides: list[Side] = [lambda: ours.cost(server.pid)]
        if broker is not None:
            pid = broker.pid
            peer: dict[str, Any] = {"broker": broker.port, "broker_trust": broker.trust}
            theirs = running.enter_context(generator(server, Job.PUBLISH, _CURVE, **shape, **peer))
            sides.append(lambda: theirs.cost(pid))
        used, *others = take_turns(scale.rounds, *sides)
    if not others:
        return Row(what, rate(used), "mosquitto: not installed")
    return Row(what, rate(used), f"mosquitto {rate(others[0])}", ratio(others[0], used))


def _reports(server: Server, scale: Scale, devices: int) -> Row:
    times = max(scale.messages, devices)
    with generator(server, Job.REPORT, _CURVE, devices, times=times) as load:
        [used] = take_turns(scale.rounds, lambda: load.cost(server.pid))
    return Row(f"reported patches, {_from(devices)}", rate(used), "durable before the answer")


def _from(devices: int) -> str:
    return "one device" if devices == 1 else f"{devices:,} devices"
