"""Fixtures: the rooms on a fresh database, a device, and certificates that were made up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleetroot.registry.model import Device
from workbench import Recorder, Workbench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Workbench]:
    async with Workbench.opened(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def record(bench: Workbench) -> Recorder:
    return Recorder(bench)


@pytest.fixture
async def device(bench: Workbench) -> Device:
    """A registered device without a certificate."""
    await bench.register("dev-1")
    return await bench.registry.device(bench.made.namespace, "dev-1")
