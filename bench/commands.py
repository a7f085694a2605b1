"""Cloud-to-device messages at QoS 1: each is committed, sent, acknowledged and taken out, to one
device that listens and to many.

The server sends from within (`sending`); the devices acknowledge as fast as they read.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.load import Job
from bench.measure import Row, Scale, process_cpu, rate, take_turns
from bench.processes import Sender, generator

_CURVE = "P-256"


def rows(scale: Scale) -> list[Row]:
    """To one device, and to many."""
    with tempfile.TemporaryDirectory(prefix="fleetroot-bench-") as folder:
        sender = Sender(Path(folder) / "data")
        try:
            return [_row(sender, scale, devices) for devices in (1, scale.listeners)]
        finally:
            sender.stop()


def _row(sender: Sender, scale: Scale, devices: int) -> Row:
    messages = max(scale.messages, devices)
    with generator(sender, Job.LISTEN, _CURVE, devices, times=messages) as load:
        load.prepare()

        def cost() -> float:
            before = process_cpu(sender.pid)
            sender.begin(messages)
            done = load.go()
            sender.finish()
            return (process_cpu(sender.pid) - before) / done.count

        [used] = take_turns(scale.rounds, cost)
    to = "one device" if devices == 1 else f"{devices:,} devices"
    return Row(f"cloud-to-device messages at QoS 1, {to}", rate(used), "durable, sent from within")
