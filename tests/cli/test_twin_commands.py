"""`fleetroot twin`, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_command_line import run
from test_hub_commands import ok, refused, shown

from fleet import Fleet


@pytest.fixture
async def data(fleet: Fleet) -> Path:
    await fleet.provision("dev-1")
    return fleet.server.settings.data


async def test_twin_is_changed_and_shown(data: Path) -> None:
    made = await shown(
        *("twin", "update", "dev-1", "--tags", '{"site": "Zürich", "old": 1}'),
        *("--desired", '{"interval": 5}'),
        data=data,
    )
    assert (made["tags"]["site"], made["properties"]["desired"]["interval"]) == ("Zürich", 5)
    await ok("twin", "update", "dev-1", "--tags", '{"old": null}', data=data)
    out = (await ok("twin", "show", "dev-1", data=data)).out
    assert '"site": "Zürich"' in out
    assert "old" not in out
    assert "Desired, version 2" in out
    assert "enabled, disconnected" in out
    assert all(len(line) <= 80 for line in out.splitlines())


async def test_null_empties_a_section(data: Path) -> None:
    await ok("twin", "update", "dev-1", "--tags", '{"a": 1}', "--desired", '{"b": 1}', data=data)
    assert (await shown("twin", "update", "dev-1", "--tags", "null", data=data))["tags"] == {}


async def test_replacement_may_come_from_files(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "tags.json"
    file.write_text('{"b": 2}')
    await ok("twin", "update", "dev-1", "--tags", '{"a": 1}', "--desired", '{"x": 1}', data=data)
    made = await shown("twin", "replace", "dev-1", "--tags", f"@{file}", data=data)
    assert made["tags"] == {"b": 2}
    assert "x" not in made["properties"]["desired"]


async def test_etag_that_is_stale_is_refused(data: Path) -> None:
    stale = (await shown("twin", "show", "dev-1", data=data))["etag"]
    await ok("twin", "update", "dev-1", "--tags", "{}", "--if-match", stale, data=data)
    why = await refused("twin", "update", "dev-1", "--tags", "{}", "--if-match", stale, data=data)
    assert "changed since it was read" in why


async def test_what_a_device_wrote_does_not_drive_the_terminal(data: Path, fleet: Fleet) -> None:
    tags = json.dumps({"a": "\u009b31m\u202e"}, ensure_ascii=False)
    await ok("twin", "update", "dev-1", "--tags", tags, data=data)
    out = (await ok("twin", "show", "dev-1", data=data)).out
    assert "\u009b" not in out
    assert "\u202e" not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["update", "dev-1"],
        ["update", "dev-1", "--tags", "{"],
        ["update", "dev-1", "--tags", "[]"],
        ["update", "dev-1", "--tags", "@/nowhere"],
    ],
)
async def test_change_that_cannot_be_read_is_a_usage_error(
    data: Path, arguments: list[str]
) -> None:
    assert (await run("twin", *arguments, data=data)).code == 2


async def test_device_that_is_not_there_is_refused(data: Path) -> None:
    assert "no such device" in await refused("twin", "show", "dev-9", data=data)
