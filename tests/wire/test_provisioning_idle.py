"""A connection to provisioning that does not attest does not stand for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet import Closed, Fleet

REGISTER = "$dps/registrations/PUT/iotdps-register/"


@pytest.fixture
async def fleet(tmp_path: Path, seconds: float) -> AsyncIterator[Fleet]:
    async with Fleet.running(tmp_path / "data", unattested_seconds=seconds) as running:
        yield running


@pytest.mark.parametrize("seconds", [0.1])
async def test_connection_that_never_attests_is_closed(fleet: Fleet) -> None:
    mqtt = await fleet.provisioning("dev-1", token=fleet.provisioning_token("dev-1", b"x" * 64))
    async with asyncio.timeout(5):
        await mqtt.wait_closed()
    assert await fleet.refusals() == {"idle": 1}


@pytest.mark.parametrize("seconds", [0.4])
async def test_refused_attestation_does_not_prolong_it(fleet: Fleet) -> None:
    mqtt = await fleet.provisioning("dev-1", token=fleet.provisioning_token("dev-1", b"x" * 64))

    async def keep_asking() -> None:
        while True:
            await mqtt.ask(REGISTER, b"{}")
            await asyncio.sleep(0.05)

    with pytest.raises((Closed, ConnectionError)):
        await asyncio.wait_for(keep_asking(), 5)


@pytest.mark.parametrize("seconds", [0.5])
async def test_attestation_prolongs_it(fleet: Fleet) -> None:
    async with await fleet.provisioning("dev-1") as mqtt:
        for _ in range(8):
            assert (await mqtt.ask(REGISTER, b"{}")).status == 200
            await asyncio.sleep(0.1)
