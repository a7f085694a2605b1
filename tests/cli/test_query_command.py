"""`fleetroot query`, as people type it."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_command_line import run
from test_hub_commands import ok, refused, shown

from fleet import Fleet


@pytest.fixture
async def data(fleet: Fleet) -> Path:
    for number in range(3):
        await fleet.provision(f"dev-{number}")
        await fleet.http.patch(
            f"/twins/dev-{number}", json={"tags": {"site": "Zürich\u202e", "row": number}}
        )
    return fleet.server.settings.data


async def test_devices_are_found_and_shown_in_80_columns(data: Path) -> None:
    out = (await ok("query", "SELECT * FROM devices WHERE tags.row > 0", data=data)).out
    assert "dev-1" in out
    assert "dev-2" in out
    assert "dev-0" not in out
    assert all(len(line) <= 80 for line in out.splitlines())


async def test_values_are_shown_and_do_not_drive_the_terminal(data: Path) -> None:
    query = "SELECT deviceId, tags.site, tags.nothing AS none FROM devices WHERE tags.row = 0"
    out = (await ok("query", query, data=data)).out
    assert "Zürich\\u202e" in out
    assert await shown("query", query, data=data) == [{"deviceId": "dev-0", "site": "Zürich\u202e"}]


async def test_counts_are_shown(data: Path) -> None:
    assert await shown("query", "SELECT COUNT() AS n FROM devices", data=data) == [{"n": 3}]


async def test_more_than_is_wanted_is_said(data: Path) -> None:
    done = await run("query", "SELECT deviceId FROM devices", "--limit", "2", data=data)
    assert done.code == 0
    assert "more than 2" in done.err
    assert "dev-2" not in done.out
    whole = await run("query", "SELECT deviceId FROM devices", "--limit", "3", data=data)
    assert whole.err == ""


async def test_nothing_found_is_said(data: Path) -> None:
    assert (
        "nothing found"
        in (await ok("query", "SELECT * FROM devices WHERE tags.row = 9", data=data)).out
    )


async def test_query_that_is_none_says_where(data: Path) -> None:
    why = await refused("query", "SELECT * FROM devices WHERE tags.a ==", data=data)
    assert "`=` at 37 is not understood" in why
