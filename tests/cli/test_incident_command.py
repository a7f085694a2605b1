"""`fleetroot incident`, as people type it."""

from __future__ import annotations

import csv
import json
from datetime import timedelta
from pathlib import Path

import pytest
from test_tokens_and_audit import ok

from fleet import Fleet


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def test_certificates_of_devices_are_listed_and_exported(
    data: Path, fleet: Fleet, tmp_path: Path
) -> None:
    for name in ("dev-1", "dev-2", "dev-3"):
        await fleet.provision(name)
    file, out = tmp_path / "devices", tmp_path / "found.csv"
    file.write_text("dev-2\n\n DEV-3\n")
    listed = json.loads(
        (await ok("incident", "list", "--devices-file", file, "--json", data=data)).out
    )
    assert [each["deviceId"] for each in listed] == ["dev-2", "dev-3"]
    await ok("incident", "export", "--devices-file", file, "--out", out, data=data)
    with out.open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["sha256"] for row in rows] == [each["sha256"] for each in listed]


async def test_dry_run_first_and_then_the_revocation(data: Path, fleet: Fleet) -> None:
    for name in ("dev-1", "dev-2"):
        await fleet.provision(name)
    begin = (fleet.server.clock.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")
    scope = ("--enrollment-group", "default", "--from", begin)
    dry = await ok("incident", "revoke", *scope, "--dry-run", data=data)
    assert "2, in 1 s or more" in dry.out
    before = json.loads((await ok("incident", "status", "--json", data=data)).out)
    assert before == []
    over = json.loads((await ok("incident", "revoke", *scope, "--wait", "--json", data=data)).out)
    assert (over["state"], over["revoked"]) == ("done", 2)
    shown = await ok("incident", "status", over["id"], data=data)
    assert "2 of 2" in shown.out


async def test_revocation_is_cancelled(data: Path, fleet: Fleet) -> None:
    for n in range(4):
        await fleet.provision(f"dev-{n}")
    begun = ("incident", "revoke", "--enrollment-group", "default", "--pace", "1", "--json")
    job = json.loads((await ok(*begun, data=data)).out)
    assert "cancelled" in (await ok("incident", "cancel", job["id"], data=data)).out
