"""Fixtures: a whole server on free ports in a fresh folder, for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet import Fleet
from fleetroot.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """The server's clock, where a test asks for one that it moves; it starts at the true time,
    because TLS clients look at the machine's."""
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """A running server, and what a test needs to be its devices and its operator."""
    async with Fleet.running(tmp_path / "data") as running:
        yield running


@pytest.fixture
async def timed_fleet(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Fleet]:
    """Like `fleet`, on `clock`."""
    async with Fleet.running(tmp_path / "data", clock=clock) as running:
        yield running
