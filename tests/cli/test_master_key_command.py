"""`fleetroot master-key`, as people type it, on a server that goes on serving."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path

import pytest
from test_command_line import Done, run

from fleet import Fleet
from fleetroot.custody import WrongMasterKey
from fleetroot.upkeep import rotation


@pytest.fixture(autouse=True)
def _settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "SETTLE_SECONDS", 0.0)


async def ok(*arguments: object, data: Path) -> Done:
    done = await run(*arguments, data=data)
    assert done.code == 0, done.err
    return done


async def serves(fleet: Fleet, device_id: str) -> None:
    """What needs a secret of each kind: an enrollment's key, a CA's."""
    certified = await fleet.provision(device_id)
    async with await fleet.connect(device_id, certified):
        pass


async def test_a_key_in_the_data_folder_is_changed_by_the_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with Fleet.running(data) as fleet:
        before = (data / "master.key").read_bytes()
        rotating = asyncio.create_task(ok("master-key", "rotate", data=data))
        served = 0
        while not rotating.done() or not served:
            served += 1
            await serves(fleet, f"busy-{served}")
        await rotating
        after = (data / "master.key").read_bytes()
        assert after != before
        assert (data / "master.key").stat().st_mode & 0o777 == 0o600
        await serves(fleet, "dev-2")
        log = (await ok("audit", "list", data=data)).out
        assert "master-key.change" in log
        assert "master-key.forget" in log
    async with Fleet.running(data) as fleet:
        await serves(fleet, "dev-3")
    (data / "master.key").write_bytes(before)
    with pytest.raises(WrongMasterKey):
        async with Fleet.running(data):
            pass


async def test_a_key_that_is_the_operators_is_forgotten_when_the_new_one_is_in_its_place(
    tmp_path: Path,
) -> None:
    data, place, new = tmp_path / "data", tmp_path / "key", tmp_path / "new-key"
    place.write_text(base64.b64encode(os.urandom(32)).decode())
    place.chmod(0o600)
    old = place.read_bytes()
    async with Fleet.running(data, master_key_file=place) as fleet:
        refused = await run("master-key", "rotate", data=data)
        assert (refused.code, "give one" in refused.err) == (1, True)
        done = await ok("master-key", "rotate", "--new-key-file", new, data=data)
        assert "Now put the new key where" in done.out
        assert new.stat().st_mode & 0o777 == 0o600
    async with Fleet.running(data, master_key_file=place) as fleet:
        await serves(fleet, "dev-1")  # still with the old one
        new.rename(place)
        await fleet.server.rotation.reseal()  # as a duty does each minute
        shown = json.loads((await ok("master-key", "show", "--json", data=data)).out)
        assert shown["change"] is None
        await serves(fleet, "dev-2")
    async with Fleet.running(data, master_key_file=place) as fleet:
        await serves(fleet, "dev-3")
    place.write_bytes(old)
    with pytest.raises(WrongMasterKey):
        async with Fleet.running(data, master_key_file=place):
            pass


async def test_a_key_leaves_the_data_folder_for_a_passphrase(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with Fleet.running(data) as fleet:
        await fleet.http.post("/fleetroot/masterKey/rotate", json={"passphrase": "long enough"})
        await fleet.server.rotation.reseal()
    async with Fleet.running(data, passphrase="long enough") as fleet:
        await fleet.server.rotation.reseal()
        assert fleet.server.rotation.change is None
        assert not (data / "master.key").exists()
        await serves(fleet, "dev-1")


async def test_only_an_owner_changes_the_key(fleet: Fleet) -> None:
    data = fleet.server.settings.data
    made = await ok(
        "token", "create", "ops", "--role", "credentials-contributor", "--json", data=data
    )
    token = json.loads(made.out)["token"]
    await ok("master-key", "show", "--token", token, data=data)
    refused = await run("master-key", "rotate", "--token", token, data=data)
    assert (refused.code, refused.err) == (1, "fleetroot: this needs access.write\n")


@pytest.mark.parametrize("key", ["", "not base64", base64.b64encode(bytes(31)).decode()])
async def test_what_is_no_key_is_refused_and_not_repeated(fleet: Fleet, key: str) -> None:
    answer = await fleet.http.post("/fleetroot/masterKey/rotate", json={"key": key})
    assert answer.status_code == 400
    assert not key or key not in answer.text
    assert fleet.server.rotation.change is None
