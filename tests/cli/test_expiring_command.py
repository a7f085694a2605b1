"""`fleetroot certificates expiring`, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_command_line import run

from fleet import Fleet


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def test_devices_that_have_to_renew_are_listed_and_counted(fleet: Fleet, data: Path) -> None:
    command = ("certificates", "expiring", "--within")
    for device in ("dev-1", "dev-2"):
        await fleet.provision(device)
    assert "nothing ends by then" in (await run(*command, "7d", data=data)).out
    listed = (await run(*command, "5w", data=data)).out
    assert "dev-1" in listed
    assert "dev-2" in listed
    part = await run(*command, "5w", "--limit", 1, "--json", data=data)
    assert [each["deviceId"] for each in json.loads(part.out)] == ["dev-1"]
    assert "may be more" in (await run(*command, "5w", "--limit", 1, data=data)).err
    counted = await run(*command, "840h", "--policy", "default", "--counts", "--json", data=data)
    assert sum(each["certificates"] for each in json.loads(counted.out)) == 2


@pytest.mark.parametrize("time", ["7", "d", "-1d", "1y", "1.5d"])
async def test_time_that_is_none_is_a_usage_error(data: Path, time: str) -> None:
    done = await run("certificates", "expiring", f"--within={time}", data=data)
    assert done.code == 2
    assert "is not a time" in done.err
