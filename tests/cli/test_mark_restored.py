"""`fleetroot mark-restored`: a PostgreSQL database that its own tools restored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from test_command_line import run

import database
from fleet import Fleet, refusal
from fleetroot.gateway.mqtt import ConnackCode

pytestmark = pytest.mark.postgresql("a backup of SQLite is restored by `fleetroot restore`")


async def test_what_a_dump_does_not_have_is_told_from_theft(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, key, log = tmp_path / "data", tmp_path / "audit.pem", tmp_path / "audit.jsonl"
    taken_at = datetime.now(UTC) - timedelta(seconds=2)
    async with Fleet.running(data) as fleet:
        certified = await fleet.provision("dev-1")
        await fleet.provision("dev-2")
        await fleet.http.post("/fleetroot/devices/dev-2/disable")
        assert (await run("audit", "export", "--out", log, data=data)).code == 0
        key.write_text((await run("audit", "key", data=data)).out)
        # As a dump of before has it.
        await fleet.execute("DELETE FROM certificates WHERE device_key = 'dev-1'")
        await fleet.http.post("/fleetroot/devices/dev-2/enable")
    done = await run(
        "mark-restored",
        *("--taken-at", taken_at.strftime("%Y-%m-%dT%H:%M:%SZ")),
        *("--audit-log", log, "--audit-key", key),
        FLEETROOT_DATABASE_URL=str(database.url_of(data)),
    )
    assert done.code == 0, done.err
    assert "LOST: policy.create, 1 times" in done.out
    assert done.out.startswith("Backup of")
    capsys.readouterr()
    async with Fleet.running(data) as fleet:
        assert await refusal(fleet.connect("dev-1", certified)) is ConnackCode.NOT_AUTHORIZED
        assert "possible CA theft" not in capsys.readouterr().out
        assert not (await fleet.http.get("/fleetroot/devices/dev-2")).json()["enabled"]


async def test_it_is_refused_while_a_server_runs(fleet: Fleet) -> None:
    url = database.url_of(fleet.server.settings.data)
    done = await run(
        "mark-restored",
        *("--taken-at", "2026-01-31T12:00:00Z"),
        FLEETROOT_DATABASE_URL=str(url),
    )
    assert done.code == 1
    assert "another server" in done.err
