"""A fault before and after each commit of a cloud-to-device message's way: sent, delivered,
acknowledged, and its sender told.

Whatever fails: a message whose sender has its answer reaches its device, at least once, and the
sender hears of one outcome. The rooms are asked without wires; where the server died, another one
goes on with its database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults import Fault, Faults

from fleet import Certified
from fleetroot.errors import MessageLockLost, Unavailable
from fleetroot.hub.cloud_to_device import Ack, Outcome
from fleetroot.hub.commands import LOCK
from fleetroot.hub.model import Channel
from workbench import Wire, Workbench

DEVICE = "dev-1"
MESSAGES = 2


@dataclass
class Way:
    """What the sender and the device know, whatever becomes of servers.

    Attributes:
        sent: the ids of messages whose sender has its answer.
        got: bodies, as often as the device got them.
        told: outcomes that the sender fetched and took.
    """

    name: str
    over_https: bool
    sent: list[str] = field(default_factory=list)
    got: list[bytes] = field(default_factory=list)
    told: dict[str, set[Outcome]] = field(default_factory=dict)

    async def go(self, bench: Workbench, held: Certified) -> None:
        """The way, as often as it takes.

        Raises:
            Unavailable: somebody was told to come back.
        """
        hub, commands = bench.made.hub, bench.hubs.commands
        for number in range(len(self.sent), MESSAGES):
            id_ = f"{self.name}-{number}"
            message = commands.message(id_.encode(), {}, {}, message_id=id_, ack=Ack.FULL)
            await commands.send(hub, DEVICE, message)
            self.sent.append(id_)
        await (self._poll(bench, held) if self.over_https else self._listen(bench, held))
        while (found := await commands.feedback(hub)) is not None:
            for each in found.records:
                self.told.setdefault(each.message_id, set()).add(each.outcome)
            await commands.complete_feedback(hub, found.token)

    async def _listen(self, bench: Workbench, held: Certified) -> None:
        wire = Wire()
        session = await bench.connect(DEVICE, held, wire)
        try:
            session.subscriptions[Channel.COMMANDS] = 1
            await bench.hubs.commands.deliveries.begin(session)
            self.got += wire.bodies
            wire.acknowledge(*range(len(wire.bodies)))
        finally:
            bench.hubs.disconnect(session)
        bench.hubs.finish()
        await bench.faults.settle()  # type: ignore[attr-defined]

    async def _poll(self, bench: Workbench, held: Certified) -> None:
        session = await bench.connect(DEVICE, held)
        bench.hubs.disconnect(session)
        commands, device = bench.hubs.commands, session.principal
        while (locked := await commands.receive(device)) is not None:
            self.got.append(locked.queued.message.body)
            try:
                await commands.finish(device, locked.token, Outcome.SUCCESS)
            except MessageLockLost:
                continue

    def assert_nothing_is_lost(self) -> None:
        assert {id_.encode() for id_ in self.sent} <= set(self.got)
        assert all(self.told[id_] == {Outcome.SUCCESS} for id_ in self.sent)


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[tuple[Workbench, Faults]]:
    async with Workbench.opened(folder) as bench:
        faults = Faults(bench.store)
        bench.faults = faults  # type: ignore[attr-defined]
        try:
            yield bench, faults
        finally:
            faults.bury()


async def fails(way: Way, bench: Workbench, faults: Faults, held: Certified) -> bool:
    """Goes the way; whether the fault happened."""

    async def go() -> None:
        try:
            await way.go(bench, held)
        except Unavailable:
            assert faults.happened.is_set()

    going = asyncio.create_task(go())
    happening = asyncio.create_task(faults.happened.wait())
    await asyncio.wait({going, happening}, return_when="FIRST_COMPLETED")
    if not faults.killed:
        await going
    for task in (going, happening):
        task.cancel()
    await asyncio.gather(going, happening, return_exceptions=True)
    return faults.happened.is_set()


@pytest.mark.parametrize("over_https", [False, True], ids=["mqtt", "https"])
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
async def test_fault_at_any_write_loses_no_message(
    tmp_path: Path, fault: Fault, over_https: bool
) -> None:
    async with Workbench.opened(tmp_path / "data") as bench:
        held = await bench.provision(DEVICE)
    write, happened, now = 0, True, None
    while happened:
        way = Way(f"m{write}", over_https)
        async with node(tmp_path / "data") as (bench, faults):
            if now is not None:
                bench.clock.advance(now - bench.clock.now() + LOCK)
            faults.inject(fault, write)
            happened = await fails(way, bench, faults, held)
            now = bench.clock.now()
        async with node(tmp_path / "data") as (bench, faults):
            bench.clock.advance(now - bench.clock.now() + LOCK)  # what was locked is free again
            await way.go(bench, held)
            now = bench.clock.now()
            assert bench.contents()["commands"] == []
        way.assert_nothing_is_lost()
        write += 1
    assert write > (8 if over_https else 5)
