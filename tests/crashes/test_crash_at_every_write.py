"""A fault before and after each commit of everything that changes who a device is.

Each operation is done over the wire by real devices and a real operator, with a fault at its first
write, at its second, and so on until it gets through. Where the server died, another one is started
on what it left. Then what always holds is checked, the operation is done again, as devices and
operators do, and has its whole effect.

Each fault meets a device of its own, on the database that the faults before have left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from faults import Fault, Faults
from operations import OPERATIONS, Device, NotDone

import database
from fleet import Closed, Fleet
from invariants import assert_holds, assert_no_request_is_open, contents


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that was started once."""
    data = tmp_path_factory.mktemp("begun") / "data"

    async def begin() -> None:
        async with Fleet.running(data, drain_seconds=0):
            pass

    asyncio.run(begin())
    return data


@asynccontextmanager
async def server(data: Path) -> AsyncIterator[tuple[Fleet, Faults]]:
    async with Fleet.running(data, drain_seconds=0) as fleet:
        faults = Faults(fleet.server.store)
        try:
            yield fleet, faults
        finally:
            faults.bury()


async def fails(device: Device, fleet: Fleet, faults: Faults) -> bool:
    """Does the operation; whether the fault happened."""

    async def act() -> None:
        try:
            await device.act(fleet)
        except (NotDone, Closed):
            assert faults.happened.is_set()
        await faults.settle()

    acting = asyncio.create_task(act())
    happening = asyncio.create_task(faults.happened.wait())
    try:
        await asyncio.wait({acting, happening}, return_when="FIRST_COMPLETED")
        if not faults.killed:
            await acting
    finally:
        for task in (acting, happening):
            task.cancel()
        await asyncio.gather(acting, happening, return_exceptions=True)
    return faults.happened.is_set()


async def goes_on(device: Device, fleet: Fleet) -> None:
    """Checks what always holds, and that what failed can be done."""
    received = lambda: (certified.chain[0] for certified in device.received)  # noqa: E731
    assert_holds(await contents(fleet.server.store), received())
    await device.act(fleet)
    await device.check(fleet)
    assert_holds(await contents(fleet.server.store), received())


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_fault_at_any_write_leaves_nothing_half_done(
    begun: Path, tmp_path: Path, operation: type[Device], fault: Fault
) -> None:
    data = database.copy(begun, tmp_path / "data")
    write, happened, died = 0, True, None
    while happened:
        async with server(data) as (fleet, faults):
            if died is None:
                await operation.lay_out(fleet)
            else:
                assert_no_request_is_open(await contents(fleet.server.store))
                await goes_on(died, fleet)
            while not faults.killed:
                device = operation(f"dev-{write}")
                await device.prepare(fleet)
                faults.inject(fault, write)
                happened = await fails(device, fleet, faults)
                if not happened:
                    break
                write += 1
                if not fault.kills:
                    await goes_on(device, fleet)
            died = device
    assert write > 0
