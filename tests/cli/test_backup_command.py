"""`fleetroot backup` and `fleetroot restore`, as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_command_line import Done, run

from fleet import Fleet

pytestmark = pytest.mark.sqlite("a backup of PostgreSQL is pg_dump's")


async def ok(*arguments: object, data: Path) -> Done:
    done = await run(*arguments, data=data)
    assert done.code == 0, done.err
    return done


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def test_a_server_is_backed_up_lost_and_restored(tmp_path: Path) -> None:
    lost, new = tmp_path / "lost", tmp_path / "new"
    backup, key, log = tmp_path / "backup", tmp_path / "backup.key", tmp_path / "audit.jsonl"
    async with Fleet.running(lost) as fleet:
        certified = await fleet.provision("dev-1")
        await ok("backup", backup, "--key-file", key, data=lost)
        assert backup.stat().st_mode & 0o777 == 0o600
        assert key.stat().st_mode & 0o777 == 0o600
        await fleet.http.post("/fleetroot/devices/dev-1/disable")
        await ok("audit", "export", "--out", log, data=lost)
    without = await ok("restore", backup, "--key-file", key, data=tmp_path / "without")
    assert "REVOCATIONS AMONG THEM" in without.out
    arguments = ("restore", backup, "--key-file", key, "--audit-log", log, "--json")
    done = json.loads((await ok(*arguments, data=new)).out)
    assert done["replay"]["enabledOrDisabled"] == 1
    assert new.stat().st_mode & 0o777 == 0o700
    async with Fleet.running(new) as fleet:
        await fleet.http.post("/fleetroot/devices/dev-1/enable")
        async with await fleet.connect("dev-1", certified):
            pass


async def test_a_second_restore_is_refused(data: Path, fleet: Fleet, tmp_path: Path) -> None:
    backup, key = tmp_path / "backup", tmp_path / "key"
    await ok("backup", backup, "--key-file", key, data=data)
    await ok("restore", backup, "--key-file", key, data=tmp_path / "new")
    done = await run("restore", backup, "--key-file", key, data=tmp_path / "new")
    assert done.code == 1
    assert "is not empty: it has fleetroot.db, master.key" in done.err


async def test_a_backup_does_not_overwrite_a_file(data: Path, fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "backup").write_text("kept")
    done = await run("backup", tmp_path / "backup", "--key-file", tmp_path / "key", data=data)
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert (tmp_path / "backup").read_text() == "kept"


async def test_another_key_opens_nothing(data: Path, fleet: Fleet, tmp_path: Path) -> None:
    backup, other = tmp_path / "backup", tmp_path / "other"
    await ok("backup", backup, "--key-file", tmp_path / "key", data=data)
    other.write_bytes(bytes(32))
    done = await run("restore", backup, "--key-file", other, data=tmp_path / "new")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "the key is another one" in done.err
    assert not (tmp_path / "new" / "fleetroot.db").exists()


async def test_a_passphrase_can_come_from_the_environment(
    data: Path, fleet: Fleet, tmp_path: Path
) -> None:
    given = {"FLEETROOT_BACKUP_PASSPHRASE": "correct horse battery"}
    for command, where in (("backup", data), ("restore", tmp_path / "new")):
        done = await run(command, tmp_path / "backup", data=where, **given)
        assert done.code == 0, done.err
    assert (tmp_path / "new" / "fleetroot.db").exists()
