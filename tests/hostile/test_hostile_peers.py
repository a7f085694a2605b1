"""Five hundred honest devices, and everybody else at the same time.

The server is a process of its own, as `fleetroot up` starts it; the honest fleet is a second one,
the attackers a third. First every attack is made on the quiet server, each from an address of its
own: how it is refused, how that is counted, and what it costs. Then the fleet comes, and all
attacks at once, as fast as they can, from other addresses; and a few times from the fleet's own
address, as from behind the same NAT.

In the tests the server's times are cut. `make hostile` takes the defaults, makes each attack by
itself on the fleet too, all of it three times over, and tries a million wrong tokens.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from attacks import ATTACKS, Attack

from processes import Party, ServerProcess

FULL = os.environ.get("HOSTILE") == "full"
HONEST = "127.0.0.1"
DEVICES = 500
INTERVAL = 2.0  # seconds between a device's messages
NEWCOMER_INTERVAL = 0.5
FROM_THE_NAT = 3  # times that each attack comes from the fleet's own address
# The database keeps up to 64 MB of pages for each of its two connections, and the honest messages
# of a long day fill them: 0.4 KB each, attackers or none.
GROWTH_MEGABYTES = 200.0
REPEATED_MEGABYTES = 80.0
MANY = 10_000_000
PACED_LINES_PER_SECOND = 20  # the default of refusal_lines_per_second


@dataclass(frozen=True)
class Extent:
    """How much of it there is."""

    quiet_seconds: float
    attempts: int
    storm_seconds: float
    flood_seconds: float  # of each attack by itself; 0: none
    rounds: int
    settings: dict[str, object]


# Times that are waited for, as short as they can be; every other limit is as it comes.
SHORT = Extent(
    quiet_seconds=3.0,
    attempts=40,
    storm_seconds=10.0,
    flood_seconds=0.0,
    rounds=1,
    settings={
        "first_flight_seconds": 1.0,
        "handshake_seconds": 1.5,
        "connect_seconds": 1.0,
        "http_head_seconds": 1.0,
    },
)
LONG = Extent(
    quiet_seconds=15.0,
    attempts=200,
    storm_seconds=30.0,
    flood_seconds=5.0,
    rounds=3,
    settings={},
)
EXTENT = LONG if FULL else SHORT


@dataclass
class Row:
    """What one attack did to the quiet server."""

    attack: Attack
    outcomes: Counter[str]
    milliseconds: float  # of CPU for each
    refusals: Counter[tuple[str, str]]

    def broken(self) -> list[str]:
        """What did not hold of it."""
        name, attack = self.attack.name, self.attack
        found = strange(name, attack, self.outcomes)
        if not any(word in attack.refusals for word in self.outcomes):
            found.append(f"{name}: was never refused")
        return found + [
            f"{name}: {kind}: {reason} was not counted"
            for kind, reason in attack.counted
            if not self.refusals[kind, reason]
        ]


@dataclass
class Storm:
    """What attackers did to the fleet."""

    name: str
    outcomes: dict[str, Counter[str]]
    honest: dict[str, Any]
    megabytes: float

    @property
    def tried(self) -> int:
        """How often, all together."""
        return sum(outcomes.total() for outcomes in self.outcomes.values())


@dataclass
class Day:
    """All that was measured."""

    rows: list[Row] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    storms: list[Storm] = field(default_factory=list)
    after: dict[str, Any] = field(default_factory=dict)
    megabytes: list[float] = field(default_factory=list)  # before, and after each round
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    log: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def broken(self) -> list[str]:
        """What did not hold."""
        found = [problem for row in self.rows for problem in row.broken()]
        for storm in self.storms:
            for name, outcomes in storm.outcomes.items():
                found += strange(f"{storm.name}: {name}", ATTACKS[name], outcomes)
        found += [f"{line} was disconnected" for line in self.after["disconnects"]]
        if self.after["connected"] != DEVICES:
            found.append(f"{self.after['connected']} devices are connected")
        if self.after["newcomersFailed"]:
            found.append(f"{self.after['newcomersFailed']} newcomers never came in")
        return found + self._broken_memory() + self._broken_log()

    def _broken_memory(self) -> list[str]:
        found = []
        growth = max(storm.megabytes for storm in self.storms) - self.megabytes[0]
        if growth > GROWTH_MEGABYTES:
            found.append(f"memory grew by {growth:.0f} MB")
        repeated = self.megabytes[-1] - self.megabytes[1]
        if repeated > REPEATED_MEGABYTES:
            found.append(f"memory grew by {repeated:.0f} MB when it was done again")
        return found

    def _broken_log(self) -> list[str]:
        found = []
        refused = [line for line in self.log if line["event"] == "refused"]
        for line in refused:
            if not all(line.get(name) for name in ("kind", "reason", "peer", "trace_id")):
                found.append(f"a line lacks what it must have: {line}")
        most = PACED_LINES_PER_SECOND * (self.seconds + 10)
        if len(refused) > most:
            found.append(f"{len(refused)} lines for {self.refusals.total()} refusals")
        summed = sum(line["count"] for line in self.log if "without a line each" in line["event"])
        if summed + len(refused) > self.refusals.total() + 100:
            found.append(f"{summed} refusals are summed up, of {self.refusals.total()}")
        return found + [f"the server failed: {x}" for x in self.log if x["level"] == "error"]

    def table(self) -> str:
        """What it was, for people."""
        lines = [f"{'attack':36} {'server CPU':>10}  how it ended", ""]
        for row in self.rows:
            lines.append(f"{row.attack.name:36} {row.milliseconds:7.2f} ms  {_words(row.outcomes)}")
        lines += [
            "",
            f"{'meanwhile':36} {'p50 ms':>8} {'p99 ms':>8} {'newcomers':>10} {'RSS MB':>7}  tried",
            _line("no attack", self.before, self.megabytes[0], 0),
        ]
        for storm in self.storms:
            lines.append(_line(storm.name, storm.honest, storm.megabytes, storm.tried))
        lines += [
            _line("no attack any more", self.after, self.megabytes[-1], 0),
            "",
            f"{DEVICES} honest devices, {len(self.after['disconnects'])} disconnects; "
            f"{self.refusals.total()} refusals, {len(self.log)} lines of the log",
        ]
        return "\n".join(lines)


def strange(name: str, attack: Attack, outcomes: Counter[str]) -> list[str]:
    """The ends that an attack must not have."""
    return [
        f"{name}: ended {count} times with {word}"
        for word, count in outcomes.items()
        if word not in attack.refusals | attack.allowed
    ]


def _words(outcomes: Counter[str]) -> str:
    return ", ".join(f"{word} {count}" for word, count in outcomes.most_common(3))


def _line(name: str, honest: dict[str, Any], megabytes: float, tried: int) -> str:
    p50, p99 = (honest[q] * 1000 if honest[q] is not None else float("nan") for q in ("p50", "p99"))
    retried = f"{honest['newcomers']}" + (
        f" ({honest['newcomersRetried']} again)" if honest["newcomersRetried"] else ""
    )
    return f"{name:36} {p50:8.1f} {p99:8.1f} {retried:>10} {megabytes:7.0f}  {tried or ''}"


class Scene:
    """The three processes."""

    def __init__(self, server: ServerProcess, honest: Party, attackers: Party) -> None:
        self.server = server
        self.honest = honest
        self.attackers = attackers
        self._addresses = (f"127.0.{1 + n // 250}.{1 + n % 250}" for n in count())

    async def attack(self, *attacks: Attack, attempts: int, seconds: float) -> list[Counter[str]]:
        """Makes attacks side by side, each from an address that was not seen before."""
        orders = [_order(each, next(self._addresses), attempts, seconds) for each in attacks]
        done = await self.attackers.tell(attacks=orders)
        return [Counter(outcomes) for outcomes in done["outcomes"]]

    async def cost(self, attack: Attack) -> Row:
        """Makes an attack on the quiet server."""
        await self.attack(attack, attempts=attack.warm_up, seconds=60)
        refusals, cpu = await self.server.refusals(), self.server.cpu
        attempts = min(attack.attempts, EXTENT.attempts)
        [outcomes] = await self.attack(attack, attempts=attempts, seconds=60)
        milliseconds = (self.server.cpu - cpu) * 1000 / attempts
        return Row(attack, outcomes, milliseconds, await self.server.refusals() - refusals)

    async def storm(self, name: str, *attacks: Attack, seconds: float) -> Storm:
        """Makes attacks on the fleet, as fast as they can be made."""
        outcomes = await self.attack(*attacks, attempts=MANY, seconds=seconds)
        near = [_order(each, HONEST, FROM_THE_NAT, 10.0) for each in attacks]
        for found, more in zip(
            outcomes, (await self.attackers.tell(attacks=near))["outcomes"], strict=True
        ):
            found.update(more)
        honest = await self.honest.tell(report=True)
        named = dict(zip((each.name for each in attacks), outcomes, strict=True))
        return Storm(name, named, honest, self.server.megabytes)


def _order(attack: Attack, source: str, attempts: int, seconds: float) -> dict[str, Any]:
    return {"name": attack.name, "source": source, "attempts": attempts, "seconds": seconds}


async def live(folder: Path) -> Day:
    """Lives through the day."""
    loop = asyncio.get_running_loop()
    started, day = loop.time(), Day()
    async with (
        ServerProcess.running(folder, **EXTENT.settings) as server,
        Party.running("honest.py", server.bootstrap) as honest,
        Party.running("attackers.py", server.bootstrap) as attackers,
    ):
        scene = Scene(server, honest, attackers)
        day.rows = [await scene.cost(attack) for attack in ATTACKS.values()]
        await honest.tell(
            start={
                "devices": DEVICES,
                "interval": INTERVAL,
                "newcomer_interval": NEWCOMER_INTERVAL,
            }
        )
        await honest.tell(report=True)
        await asyncio.sleep(EXTENT.quiet_seconds)
        day.before = await honest.tell(report=True)
        day.megabytes.append(server.megabytes)
        for _ in range(EXTENT.rounds):
            if EXTENT.flood_seconds:
                for each in ATTACKS.values():
                    day.storms.append(
                        await scene.storm(each.name, each, seconds=EXTENT.flood_seconds)
                    )
            day.storms.append(
                await scene.storm(
                    "everything at once", *ATTACKS.values(), seconds=EXTENT.storm_seconds
                )
            )
            day.megabytes.append(server.megabytes)
        await asyncio.sleep(EXTENT.quiet_seconds)
        day.after = await honest.tell(report=True)
        day.refusals = await server.refusals()
    day.log = [json.loads(line) for line in server.log.read_text().splitlines()]
    day.seconds = loop.time() - started
    return day


@pytest.mark.timeout(3600 if FULL else 400)
async def test_honest_devices_are_served_whatever_others_do(
    tmp_path: Path, record_property: Any
) -> None:
    day = await live(tmp_path)
    record_property("hostile peers", day.table())
    assert not (broken := day.broken()), "\n".join(broken)
