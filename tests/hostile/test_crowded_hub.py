"""A hub full of devices, most idle, many at work, and a hundred that misbehave with credentials as
good as everybody's.

`make hostile` has 10,000 idle connections and 1,000 that send once in five seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from insiders import AT_ONCE, INSIDERS
from test_hostile_peers import FULL, MANY, strange

from processes import Party, ServerProcess

IDLE, ACTIVE = (10_000, 1_000) if FULL else (150, 60)
INTERVAL = 5.0 if FULL else 2.0
SECONDS = 60.0 if FULL else 8.0
NEWCOMERS = 0.5


async def misbehave(attackers: Party, seconds: float) -> dict[str, Counter[str]]:
    """All of it at once, each from an address of its own; how it ended."""
    orders = [
        {"name": name, "source": f"127.0.9.{number}", "attempts": MANY, "seconds": seconds}
        for number, name in enumerate(INSIDERS, 1)
    ]
    done = await attackers.tell(attacks=orders)
    return dict(zip(INSIDERS, map(Counter, done["outcomes"]), strict=True))


def broken(found: dict[str, Counter[str]], after: dict[str, Any]) -> list[str]:
    """What did not hold."""
    problems = [f"{line} was disconnected" for line in after["disconnects"]]
    if (after["idle"], after["connected"]) != (IDLE, ACTIVE):
        problems.append(f"{after['idle']} idle and {after['connected']} active are connected")
    if after["newcomersFailed"]:
        problems.append(f"{after['newcomersFailed']} newcomers never came in")
    for name, outcomes in found.items():
        problems += strange(name, INSIDERS[name], outcomes)
        if not any(word in INSIDERS[name].refusals for word in outcomes):
            problems.append(f"{name}: was never refused: {outcomes}")
    return problems


def table(reports: dict[str, dict[str, Any]], found: dict[str, Counter[str]], mb: float) -> str:
    """What it was, for people."""
    lines = [f"{IDLE} idle and {ACTIVE} active devices, {AT_ONCE * len(INSIDERS)} misbehave", ""]
    for name, report in reports.items():
        p50, p99 = report["p50"] * 1000, report["p99"] * 1000
        lines.append(f"{name:14} p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  {report['messages']} sent")
    lines += ["", *(f"{name:36} {dict(ends.most_common(3))}" for name, ends in found.items())]
    tried = sum(ends.total() for ends in found.values())
    return "\n".join([*lines, "", f"{tried} misdeeds; the server's memory is {mb:.0f} MB"])


@pytest.mark.timeout(3600 if FULL else 180)
async def test_honest_devices_of_a_full_hub_do_not_notice_who_misbehaves(
    tmp_path: Path, record_property: Any
) -> None:
    reports: dict[str, dict[str, Any]] = {}
    async with (
        ServerProcess.running(tmp_path) as server,
        Party.running("honest.py", server.bootstrap) as honest,
        Party.running("attackers.py", server.bootstrap) as attackers,
    ):
        fleet = {"devices": ACTIVE, "interval": INTERVAL, "idle": IDLE}
        await honest.tell(start=fleet | {"newcomer_interval": NEWCOMERS})
        await misbehave(attackers, 1.0)  # credentials, and what is made once, are made
        await honest.tell(report=True)
        await asyncio.sleep(max(INTERVAL * 1.5, SECONDS / 3))
        reports["before"] = await honest.tell(report=True)
        found = await misbehave(attackers, SECONDS)
        reports["during"] = await honest.tell(report=True)
        await asyncio.sleep(INTERVAL * 1.5)
        reports["after"] = await honest.tell(report=True)
        memory = server.megabytes
    record_property("hostile peers", table(reports, found, memory))
    assert not (problems := broken(found, reports["after"])), "\n".join(problems)
