"""`fleetroot device`, as a process of its own against the whole server."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import stat
from pathlib import Path

import pytest
from agents import command, finish, provisioned, start

from fleet import SECONDS, Fleet
from fleetroot.agent.state import DeviceFolder


def encoded(key: bytes) -> str:
    return base64.b64encode(key).decode()


def where(fleet: Fleet, out: Path, registration_id: str = "dev-1") -> list[object]:
    """The arguments of `device provision` without a key."""
    return [
        *("device", "provision"),
        *("--host", fleet.bootstrap["hostname"], "--mqtt-port", fleet.bootstrap["mqttPort"]),
        *("--id-scope", fleet.id_scope, "--registration-id", registration_id),
        *("--ca", fleet.bootstrap["serverCaFile"], "--out", out),
    ]


async def test_device_provisions_and_runs(fleet: Fleet, folder_path: Path) -> None:
    key = encoded(fleet.device_key("dev-1"))
    done = await command(*where(fleet, folder_path), FLEETROOT_SYMMETRIC_KEY=key)
    assert (done.code, done.err) == (0, "")
    ran = await command("device", "run", "--dir", folder_path, "--once")
    assert (ran.code, ran.err) == (0, "")
    assert [line.split()[2] for line in ran.out.splitlines()] == ["connected", "reported"]
    for text in (done.out, ran.out):
        assert key not in text
        assert "PRIVATE KEY" not in text
    assert stat.S_IMODE(folder_path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder_path / "current/key.pem").stat().st_mode) == 0o600


async def test_group_key_is_derived_and_not_kept(
    fleet: Fleet, folder_path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "group-key"
    file.write_text(encoded(fleet.group_key) + "\n")
    done = await command(
        *where(fleet, folder_path), "--group-key", "--symmetric-key-file", file, "--json"
    )
    assert done.code == 0, done.err
    printed = json.loads(done.out)
    assert printed["deviceId"] == "dev-1"
    device = DeviceFolder(folder_path).load()
    assert printed["certificate"] == device.credential.described()
    assert device.onboarding.symmetric_key == fleet.device_key("dev-1")


async def test_key_is_forgotten_when_told_to(fleet: Fleet, folder_path: Path) -> None:
    done = await command(
        *where(fleet, folder_path),
        "--forget-key",
        FLEETROOT_SYMMETRIC_KEY=encoded(fleet.device_key("dev-1")),
    )
    assert done.code == 0, done.err
    assert DeviceFolder(folder_path).load().onboarding.symmetric_key is None


@pytest.mark.parametrize("key", [encoded(bytes(64)), "notAKeyButSecret"])
async def test_wrong_key_is_one_line_and_exit_1(fleet: Fleet, folder_path: Path, key: str) -> None:
    failed = await command(*where(fleet, folder_path), "--symmetric-key", key)
    assert failed.code == 1
    assert failed.out == ""
    assert len(failed.err.splitlines()) == 1
    assert failed.err.startswith("fleetroot: ")
    assert key not in failed.err


async def test_failed_provisioning_keeps_the_device_that_is_there(
    fleet: Fleet, folder_path: Path
) -> None:
    folder = await provisioned(fleet, folder_path)
    before = folder.load().credential.sha256
    failed = await command(*where(fleet, folder_path), "--symmetric-key", encoded(bytes(64)))
    assert failed.code == 1
    assert folder.load().credential.sha256 == before


async def test_missing_key_is_a_usage_error(fleet: Fleet, folder_path: Path) -> None:
    failed = await command(*where(fleet, folder_path))
    assert failed.code == 2
    assert "FLEETROOT_SYMMETRIC_KEY" in failed.err
    assert not folder_path.exists()


async def test_service_that_is_away_is_given_up_after_the_timeout(
    fleet: Fleet, folder_path: Path
) -> None:
    arguments = [
        1 if argument == fleet.bootstrap["mqttPort"] else argument
        for argument in where(fleet, folder_path)
    ]
    failed = await command(
        *arguments, "--timeout", 0, FLEETROOT_SYMMETRIC_KEY=encoded(bytes(range(64)))
    )
    assert failed.code == 1
    assert len(failed.err.splitlines()) == 1


async def test_run_without_a_device_is_one_line_and_exit_1(folder_path: Path) -> None:
    failed = await command("device", "run", "--dir", folder_path)
    assert failed.code == 1
    assert len(failed.err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_is_a_clean_end(
    fleet: Fleet, folder_path: Path, number: signal.Signals
) -> None:
    await provisioned(fleet, folder_path)
    process = await start("device", "run", "--dir", folder_path, "--json")
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        while json.loads(await process.stdout.readline())["event"] != "reported":
            pass
    process.send_signal(number)
    ended = await finish(process)
    assert (ended.code, ended.err) == (0, "")
    assert [json.loads(line)["event"] for line in ended.out.splitlines()] == ["stopped"]


async def test_signal_ends_a_wait(fleet: Fleet, folder_path: Path) -> None:
    await provisioned(fleet, folder_path)
    process = await start(
        "device", "run", "--dir", folder_path, "--hub-address", "127.0.0.1:1", "--json"
    )
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        assert json.loads(await process.stdout.readline())["event"] == "waiting"
    process.send_signal(signal.SIGTERM)
    ended = await finish(process)
    assert (ended.code, ended.err) == (0, "")


async def test_hub_is_dialled_at_the_address_that_is_given(fleet: Fleet, folder_path: Path) -> None:
    await provisioned(fleet, folder_path)
    address = f"{fleet.bootstrap['bind']}:{fleet.bootstrap['mqttPort']}"
    ran = await command("device", "run", "--dir", folder_path, "--once", "--hub-address", address)
    assert (ran.code, ran.err) == (0, "")


async def test_second_runner_of_a_folder_is_refused(fleet: Fleet, folder_path: Path) -> None:
    folder = await provisioned(fleet, folder_path)
    with folder.locked():
        failed = await command("device", "run", "--dir", folder_path, "--once")
    assert failed.code == 1
    assert "another process" in failed.err


async def test_bootstrap_file_stands_for_all_that_it_knows(fleet: Fleet, tmp_path: Path) -> None:
    data = fleet.server.settings.data
    done = await command(
        "device",
        "provision",
        *("--bootstrap", str(data / "bootstrap.json")),
        *("--registration-id", "dev-1", "--out", str(tmp_path / "dev-1")),
    )
    assert done.code == 0, done.err
    assert [d["deviceId"] for d in await fleet.devices()] == ["dev-1"]


async def test_file_that_is_no_bootstrap_file_is_one_line(fleet: Fleet, tmp_path: Path) -> None:
    done = await command(
        "device",
        "provision",
        *("--bootstrap", fleet.bootstrap["serverCaFile"]),
        *("--registration-id", "dev-1", "--out", str(tmp_path / "dev-1")),
    )
    assert (done.code, len(done.err.splitlines())) == (1, 1)
