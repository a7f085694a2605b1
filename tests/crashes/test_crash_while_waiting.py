"""A fault before and after each commit of a device's way in that somebody has to decide about.

The rooms are asked without wires: what devices and operators are told over those when the database
cannot answer is in the files beside this one. As there, each fault meets a device of its own, and
where the node died another one goes on with its database.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from faults import Fault
from ways_in import CLAIM, WAYS_IN, Allocator, Node, WayIn

from fleetroot.audit import log
from fleetroot.errors import Unavailable
from fleetroot.provisioning import pending
from fleetroot.provisioning.model import Status
from invariants import assert_holds, contents


async def fails(way: WayIn, node: Node) -> bool:
    """Goes the way; whether the fault happened."""
    faults = node.faults

    async def go() -> None:
        try:
            await way.go(node)
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


async def goes_on(way: WayIn, node: Node, write: int, fault: Fault) -> None:
    """Checks that nothing is half done, that the way in has its end, and that nothing of it was
    done twice.
    """
    bench = node.bench
    assert_holds(await contents(bench.store), way.received)
    await way.go(node)
    assert_holds(await contents(bench.store), way.received)
    assert way.status is Status.ASSIGNED
    service = bench.made.service
    assert await bench.store.read(lambda tx: pending.find(tx, service.id, way.id)) is None
    # Whoever knows its operation is given the certificate that was issued. Who was not told of it
    # comes as new, and one was issued for nobody.
    unseen = not way.waits and fault.commits
    inventory = {row.sha256 for row in await bench.inventory(way.id)}
    assert len(inventory) == len(way.received) + unseen == 1 + unseen
    logged = await bench.store.read(lambda tx: log.before(tx, None, 100))
    entries = [orjson.loads(each.line) for each in logged]
    found = Counter(each["action"] for each in entries if each["subject"].endswith(f"/{way.id}"))
    assert {action: found[action] for action in way.entries()} == way.entries()


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
@pytest.mark.parametrize("way_in", WAYS_IN, ids=lambda way_in: way_in.__name__)
async def test_fault_at_any_write_of_a_way_in_leaves_nothing_half_done(
    tmp_path: Path, way_in: type[WayIn], fault: Fault
) -> None:
    write, happened, died, now, allocator = 0, True, None, None, Allocator()
    while happened:
        async with Node.running(tmp_path / "data", allocator, now) as node:
            if died is not None:
                await goes_on(died, node, write - 1, fault)
            while not node.faults.killed:
                way = way_in(f"dev-{write}")
                await way.prepare(node)
                node.faults.inject(fault, write)
                happened = await fails(way, node)
                if not happened:
                    break
                if not fault.kills:
                    await goes_on(way, node, write, fault)
                write += 1
            died, now = way, node.bench.clock.now()
    assert write == way_in.writes
    for number in range(write + 1) if way_in.decision is not None else ():
        # Again where the decision was lost and nowhere else, and by nobody while another one may.
        asked = allocator.asked[f"dev-{number}"]
        assert len(asked) == 1 + (number == way_in.decision and not fault.commits)
        assert all(after - before >= CLAIM for before, after in pairwise(asked))
