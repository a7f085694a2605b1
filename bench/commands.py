"""Cloud-to-device messages at QoS 1, to one device that listens and to many, against Mosquitto.

Ours are committed, sent, acknowledged and taken out, and sent from within (`sending`); those of
Mosquitto, which keeps nothing, come over one plain connection. The devices acknowledge as fast as
they read.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.load import Job
from bench.measure import Row, Scale, Side, process_cpu, rate, ratio, take_turns
from bench.processes import Mosquitto, Sender, generator, mosquitto_beside

_CURVE = "P-256"


def rows(scale: Scale) -> list[Row]:
    """To one device, and to many."""
    with tempfile.TemporaryDirectory(prefix="fleetroot-bench-") as folder:
        sender = Sender(Path(folder) / "data")
        try:
            with mosquitto_beside(sender) as broker:
                counts = (1, scale.listeners)
                return [_row(sender, broker, scale, devices) for devices in counts]
        finally:
            sender.stop()


def _row(sender: Sender, broker: Mosquitto | None, scale: Scale, devices: int) -> Row:
    messages = max(scale.messages, devices)
    with ExitStack() as running:
        shape: dict[str, Any] = {"devices": devices, "times": messages}
        load = running.enter_context(generator(sender, Job.LISTEN, _CURVE, **shape))
        load.prepare()

        def cost() -> float:
            before = process_cpu(sender.pid)
            sender.begin(messages)
            done = load.go()
            sender.finish()
            return (process_cpu(sender.pid) - before) / done.count

        sides: list[Side] = [cost]
        if broker is not None:
            pid = broker.pid
            peer: dict[str, Any] = {
                "broker": broker.port,
                "broker_trust": broker.trust,
                "plain": broker.plain_port,
            }
            theirs = running.enter_context(generator(sender, Job.LISTEN, _CURVE, **shape, **peer))
            sides.append(lambda: theirs.cost(pid))
        used, *others = take_turns(scale.rounds, *sides)
    to = "one device" if devices == 1 else f"{devices:,} devices"
    what = f"messages out at QoS 1, {to}"
    if not others:
        return Row(what, rate(used), "mosquitto: not installed")
    return Row(what, rate(used), f"mosquitto {rate(others[0])}", ratio(others[0], used))
