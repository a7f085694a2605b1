"""`fleetroot token` and `fleetroot audit`, as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_command_line import Done, run

from fleet import Fleet


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def ok(*arguments: object, data: Path) -> Done:
    done = await run(*arguments, data=data)
    assert done.code == 0, done.err
    return done


async def test_token_is_made_used_and_revoked(data: Path, fleet: Fleet) -> None:
    made = json.loads(
        (await ok("token", "create", "pipeline", "--role", "reader", "--json", data=data)).out
    )
    as_reader = ("--token", made["token"])
    await ok("status", *as_reader, data=data)
    refused = await run("token", "create", "other", "--role", "owner", *as_reader, data=data)
    assert (refused.code, refused.err) == (1, "fleetroot: this needs access.write\n")
    listed = (await ok("token", "list", data=data)).out
    assert "pipeline" in listed
    assert made["token"] not in listed
    await ok("token", "revoke", "pipeline", data=data)
    assert (await run("status", *as_reader, data=data)).code == 1


async def test_token_for_one_namespace_says_which(data: Path, fleet: Fleet) -> None:
    made = await fleet.http.put("/fleetroot/namespaces/plant", json={"credential": False})
    of_plant = ("token", "create", "painter", "--role", "reader", "--namespace", "Plant")
    assert "reader on plant" in (await ok(*of_plant, data=data)).out
    assert "plant" in (await ok("token", "list", data=data)).out
    await fleet.http.delete("/fleetroot/namespaces/plant")
    listed = json.loads((await ok("token", "list", "--json", data=data)).out)
    scopes = {each["name"]: each["namespace"] for each in listed}
    assert scopes == {"bootstrap": None, "painter": made.json()["id"]}


async def test_commands_survive_the_rotation_of_the_first_token(data: Path, fleet: Fleet) -> None:
    before = json.loads((data / "bootstrap.json").read_text())["adminToken"]
    await ok("token", "rotate", "bootstrap", "--overlap", "0", data=data)
    after = json.loads((data / "bootstrap.json").read_text())["adminToken"]
    assert after != before
    assert (data / "bootstrap.json").stat().st_mode & 0o777 == 0o600
    await ok("status", data=data)
    assert (await run("status", "--token", before, data=data)).code == 1


async def test_first_token_can_be_revoked_for_good(data: Path, fleet: Fleet) -> None:
    made = json.loads(
        (await ok("token", "create", "security", "--role", "owner", "--json", data=data)).out
    )
    await ok("token", "revoke", "bootstrap", data=data)
    assert (await run("status", data=data)).code == 1
    await ok("status", "--token", made["token"], data=data)


async def test_log_is_exported_and_verified_offline(
    data: Path, fleet: Fleet, tmp_path: Path
) -> None:
    await fleet.provision("dev-1")
    await ok("devices", "revoke", "dev-1", data=data)
    assert "device.revoke" in (await ok("audit", "list", data=data)).out
    key, log = tmp_path / "audit.pem", tmp_path / "audit.jsonl"
    key.write_text((await ok("audit", "key", data=data)).out)
    await ok("audit", "export", "--out", log, data=data)
    verified = await ok("audit", "verify", log, "--key", key, data=tmp_path)
    assert "This does not show" in verified.out
    kept = json.loads((await ok("audit", "verify", log, "--key", key, "--json", data=tmp_path)).out)
    assert kept["verified"]
    await ok("audit", "verify", log, "--key", key, "--expect", kept["lastCheckpoint"], data=data)

    log.write_bytes(log.read_bytes().replace(b"device/dev-1", b"device/dev-2"))
    tampered = await run("audit", "verify", log, "--key", key, data=tmp_path)
    assert (tampered.code, tampered.err) == (1, "fleetroot: the log is not as it was written\n")
    assert "WRONG: one of entries" in tampered.out


async def test_export_does_not_overwrite_a_file(data: Path, fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("kept")
    done = await run("audit", "export", "--out", tmp_path / "log", data=data)
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert (tmp_path / "log").read_text() == "kept"
