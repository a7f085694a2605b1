"""The honest fleet, a process of its own: devices that are connected and send, and newcomers that
provision, connect, send and go.

Orders: `start` {devices, interval, newcomer_interval, idle} brings them up, and so many more that
only stay; `report` gives what was
measured since the last report, and goes on.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

from devices import Place, connect, provision
from fleet import Closed, Mqtt, Refused
from fleetroot.limits import raise_open_files
from processes import answer, orders

_AT_ONCE = 16
_TRIES = 5  # of a newcomer, with a second in between, as an agent would


@dataclass
class Fleet:
    """All of them, and what they measured."""

    place: Place
    trust: ssl.SSLContext
    pubacks: list[float] = field(default_factory=list)
    newcomers: list[float] = field(default_factory=list)
    newcomers_retried: int = 0
    newcomers_failed: int = 0
    disconnects: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    connected: int = 0
    idle: int = 0

    async def start(
        self, devices: int, interval: float, newcomer_interval: float, idle: int = 0
    ) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def bring_up(device_id: str) -> tuple[str, Mqtt]:
            async with gate:
                context = await provision(self.place, self.trust, device_id)
                return device_id, await connect(self.place, context, device_id)

        stay = await asyncio.gather(*(bring_up(f"idle-{number}") for number in range(idle)))
        self.idle = len(stay)
        self.tasks += [asyncio.create_task(self._stay(*each)) for each in stay]
        lines = await asyncio.gather(*(bring_up(f"honest-{number}") for number in range(devices)))
        self.connected = len(lines)
        for number, (device_id, mqtt) in enumerate(lines):
            delay = interval * number / devices
            self.tasks.append(asyncio.create_task(self._send(device_id, mqtt, delay, interval)))
        self.tasks.append(asyncio.create_task(self._newcomers(newcomer_interval)))

    async def _stay(self, device_id: str, mqtt: Mqtt) -> None:
        data = await mqtt.reader.read(1)
        self.disconnects.append(f"{device_id}: {data!r}")
        self.idle -= 1

    async def _send(self, device_id: str, mqtt: Mqtt, delay: float, interval: float) -> None:
        topic = f"devices/{device_id}/messages/events/"
        try:
            await asyncio.sleep(delay)
            while True:
                started = time.perf_counter()
                await mqtt.publish(topic, b"23.5", qos=1)
                self.pubacks.append(time.perf_counter() - started)
                await asyncio.sleep(max(interval - (time.perf_counter() - started), 0))
        except (Closed, TimeoutError, ConnectionError, ssl.SSLError) as error:
            self.disconnects.append(f"{device_id}: {error!r}")
            self.connected -= 1

    async def _newcomers(self, interval: float) -> None:
        number = 0
        pending: set[asyncio.Task[None]] = set()
        while True:
            number += 1
            task = asyncio.create_task(self._newcomer(f"newcomer-{number}"))
            pending.add(task)
            task.add_done_callback(pending.discard)
            await asyncio.sleep(interval)

    async def _newcomer(self, device_id: str) -> None:
        started = time.perf_counter()
        for attempt in range(_TRIES):
            try:
                async with asyncio.timeout(30):
                    context = await provision(self.place, self.trust, device_id)
                    mqtt = await connect(self.place, context, device_id)
                    await mqtt.publish(f"devices/{device_id}/messages/events/", b"hello", qos=1)
                    await mqtt.close()
                self.newcomers.append(time.perf_counter() - started)
                return
            except (Closed, Refused, OSError, ssl.SSLError, TimeoutError):
                self.newcomers_retried += not attempt
                await asyncio.sleep(1)
        self.newcomers_failed += 1

    def report(self) -> dict[str, Any]:
        pubacks, self.pubacks = sorted(self.pubacks), []
        newcomers, self.newcomers = sorted(self.newcomers), []
        retried, self.newcomers_retried = self.newcomers_retried, 0
        return {
            "connected": self.connected,
            "idle": self.idle,
            "disconnects": self.disconnects,
            "messages": len(pubacks),
            "p50": _quantile(pubacks, 0.5),
            "p99": _quantile(pubacks, 0.99),
            "max": pubacks[-1] if pubacks else None,
            "newcomers": len(newcomers),
            "newcomerMax": newcomers[-1] if newcomers else None,
            "newcomersRetried": retried,
            "newcomersFailed": self.newcomers_failed,
        }


def _quantile(values: list[float], quantile: float) -> float | None:
    return values[min(int(len(values) * quantile), len(values) - 1)] if values else None


async def main() -> None:
    fleet: Fleet | None = None
    async for order in orders():
        if fleet is None:
            raise_open_files()
            place = Place(order["bootstrap"], "127.0.0.1")
            fleet = Fleet(place, place.trust())
            answer()
        elif "start" in order:
            await fleet.start(**order["start"])
            answer(connected=fleet.connected)
        else:
            answer(**fleet.report())


if __name__ == "__main__":
    uvloop.run(main())
