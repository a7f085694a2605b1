"""Backups taken while serving, and servers restored from them."""

from __future__ import annotations

import asyncio
import base64
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet import Certified, Fleet, Refused, refusal
from fleetroot.audit import SYSTEM
from fleetroot.clock import SystemClock
from fleetroot.custody import MasterKey, MasterKeyKind, MasterKeySource, WrongMasterKey
from fleetroot.errors import AlreadyExists
from fleetroot.gateway.mqtt import ConnackCode
from fleetroot.upkeep.archive import ArchiveBroken, ArchiveKey, unseal
from fleetroot.upkeep.restore import LogBroken, Restored, restore

pytestmark = pytest.mark.sqlite("a backup of PostgreSQL is pg_dump's")

KEY = ArchiveKey(key=bytes(range(32)))
REVOKE_ISSUER = "/fleetroot/namespaces/default/policies/default/revokeIssuer"
AS_JSON = {"key": base64.b64encode(bytes(range(32))).decode()}


async def taken(fleet: Fleet) -> bytes:
    answer = await fleet.http.post("/fleetroot/backup", json=AS_JSON)
    assert answer.status_code == 200, answer.text
    return answer.content


async def exported(fleet: Fleet) -> list[bytes]:
    return (await fleet.http.post("/fleetroot/audit/export")).content.splitlines(keepends=True)


async def restored(
    blob: bytes,
    data: Path,
    log: list[bytes] | None = None,
    *,
    rotate_issuers: bool = False,
) -> Restored:
    data.mkdir(mode=0o700)
    return await restore(
        io.BytesIO(blob), KEY, data, SystemClock(), log, rotate_issuers=rotate_issuers
    )


async def admits(fleet: Fleet, device_id: str, certified: Certified) -> bool:
    try:
        async with await fleet.connect(device_id, certified):
            return True
    except Refused:
        return False


async def test_a_restored_server_lets_in_whom_it_knew(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "lost") as fleet:
        known = await fleet.provision("dev-1")
        blob = await taken(fleet)
    done = await restored(blob, tmp_path / "new")
    assert done.marked.replay is None
    async with Fleet.running(tmp_path / "new") as fleet:
        assert await admits(fleet, "dev-1", known)
        again = await fleet.provision("dev-1")
        assert again.chain[1:] == known.chain[1:]


async def test_a_backup_shows_no_secret_and_no_name(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "lost") as fleet:
        await fleet.provision("device-of-a-name")
        blob = await taken(fleet)
        master = (tmp_path / "lost" / "master.key").read_bytes().strip()
    for secret in (master, base64.b64decode(master), b"device-of-a-name", b"SQLite format"):
        assert secret not in blob
    assert b"device-of-a-name" in b"".join(unseal(KEY, io.BytesIO(blob)))  # the search works


async def test_a_master_key_that_is_kept_elsewhere_is_not_in_the_backup(tmp_path: Path) -> None:
    master = os.urandom(32)
    place = {"master_key": base64.b64encode(master).decode()}
    async with Fleet.running(tmp_path / "lost", **place) as fleet:
        blob = await taken(fleet)
    opened = b"".join(unseal(KEY, io.BytesIO(blob)))
    assert master not in opened
    assert base64.b64encode(master) not in opened
    await restored(blob, tmp_path / "new")
    async with Fleet.running(tmp_path / "new", **place) as fleet:
        assert await fleet.provision("dev-1")


async def test_a_server_without_the_master_key_of_then_does_not_start(tmp_path: Path) -> None:
    place = {"master_key": base64.b64encode(os.urandom(32)).decode()}
    async with Fleet.running(tmp_path / "lost", **place) as fleet:
        blob = await taken(fleet)
    await restored(blob, tmp_path / "new")
    with pytest.raises(WrongMasterKey):
        async with Fleet.running(tmp_path / "new"):
            pass


async def test_the_backup_of_a_passphrase_needs_that_passphrase(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "lost", passphrase="of the master key") as fleet:
        blob = await taken(fleet)
    await restored(blob, tmp_path / "new")
    async with Fleet.running(tmp_path / "new", passphrase="of the master key") as fleet:
        assert await fleet.provision("dev-1")


async def test_devices_are_served_while_a_backup_is_taken(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "lost") as fleet:
        provisioned: dict[str, Certified] = {}
        taking = asyncio.create_task(taken(fleet))
        while not taking.done() or not provisioned:
            name = f"dev-{len(provisioned)}"
            provisioned[name] = await fleet.provision(name)
        assert await taking


async def test_it_is_in_the_audit_log_who_took_one(fleet: Fleet) -> None:
    await taken(fleet)
    entries = (await fleet.http.get("/fleetroot/audit/entries")).json()["value"]
    [entry] = [one for one in entries if one["action"] == "backup.take"]
    assert entry["actor"] == "bootstrap"


async def test_nothing_is_left_in_the_data_folder(fleet: Fleet) -> None:
    before = {path.name for path in fleet.server.settings.data.iterdir()}
    await taken(fleet)
    assert {path.name for path in fleet.server.settings.data.iterdir()} == before


async def test_a_snapshot_that_a_crash_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data"):
        pass
    left = tmp_path / "data" / ".backup-0.db"
    left.write_bytes(b"")
    async with Fleet.running(tmp_path / "data"):
        assert not left.exists()


async def test_only_an_owner_takes_a_backup(fleet: Fleet) -> None:
    body = {"name": "ops", "role": "credentials-contributor", "namespace": None, "days": 1}
    token = (await fleet.http.post("/fleetroot/tokens", json=body)).json()["token"]
    bearer = {"authorization": f"Bearer {token}"}
    answer = await fleet.http.post("/fleetroot/backup", json=AS_JSON, headers=bearer)
    assert answer.status_code == 403


async def test_a_backup_can_need_a_second_person(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", second_person_for=["backup"]) as fleet:
        answer = await fleet.http.post("/fleetroot/backup", json=AS_JSON)
        assert answer.status_code == 403
        assert "needs a second person" in answer.json()["message"]


async def test_no_backup_is_taken_while_the_master_key_is_changed(fleet: Fleet) -> None:
    """It would hold the new key under the old one."""
    new = MasterKey(os.urandom(32), MasterKeySource(MasterKeyKind.ENVIRONMENT))
    await fleet.server.rotation.begin(new, by=SYSTEM)
    answer = await fleet.http.post("/fleetroot/backup", json=AS_JSON)
    assert answer.status_code == 503


# --- what was issued and revoked since


async def test_a_certificate_issued_after_the_backup_is_told_from_theft(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Fleet.running(tmp_path / "lost") as fleet:
        await fleet.provision("dev-1")
        blob = await taken(fleet)
        since = await fleet.provision("dev-1")
    await restored(blob, tmp_path / "new")
    capsys.readouterr()
    async with Fleet.running(tmp_path / "new") as fleet:
        assert await refusal(fleet.connect("dev-1", since)) is ConnackCode.NOT_AUTHORIZED
        assert (await fleet.refusals())["certificate issued after the backup"] == 1
        assert "possible CA theft" not in capsys.readouterr().out
        fresh = await fleet.provision("dev-1")  # as a device does that is refused
        assert await admits(fleet, "dev-1", fresh)


async def test_a_certificate_of_before_the_backup_that_is_unknown_is_theft(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that a restored server's key made, in whose time it should be in the inventory."""
    async with Fleet.running(tmp_path / "lost") as fleet:
        await fleet.provision("dev-1")
        blob = await taken(fleet)
    await restored(blob, tmp_path / "new")
    async with Fleet.running(tmp_path / "new") as fleet:
        later = await fleet.provision("dev-1")
        await fleet.execute("DELETE FROM certificates")
        capsys.readouterr()
        assert await refusal(fleet.connect("dev-1", later)) is ConnackCode.NOT_AUTHORIZED
        assert "possible CA theft" in capsys.readouterr().out


async def test_a_revocation_since_is_lost_without_the_log(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "lost") as fleet:
        certified = await fleet.provision("dev-1")
        blob = await taken(fleet)
        await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    await restored(blob, tmp_path / "new")
    async with Fleet.running(tmp_path / "new") as fleet:
        assert await admits(fleet, "dev-1", certified)


async def test_revocations_of_a_shipped_log_are_made_again(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "lost") as fleet:
        revoked = await fleet.provision("revoked")
        disabled = await fleet.provision("disabled")
        kept = await fleet.provision("kept")
        before = await fleet.provision("revoked-before")
        await fleet.http.post("/fleetroot/devices/revoked-before/revoke")
        blob = await taken(fleet)
        await fleet.http.post("/fleetroot/devices/revoked/revoke")
        await fleet.http.post("/fleetroot/devices/disabled/disable")
        await fleet.provision("new")
        await fleet.http.post("/fleetroot/devices/new/revoke")
        await fleet.enroll("lost-enrollment")
        log = await exported(fleet)
    done = await restored(blob, tmp_path / "new", log)
    assert done.marked.replay is not None
    assert (done.marked.replay.revoked, done.marked.replay.enabled, done.marked.replay.unknown) == (
        1,
        1,
        1,
    )
    assert done.marked.replay.lost["enrollment.put"] == 1
    async with Fleet.running(tmp_path / "new") as fleet:
        assert not await admits(fleet, "revoked", revoked)
        assert not await admits(fleet, "disabled", disabled)
        assert not await admits(fleet, "revoked-before", before)
        assert await admits(fleet, "kept", kept)


async def test_issuer_that_a_shipped_log_revokes_is_revoked_again_and_followed_by_another(
    tmp_path: Path,
) -> None:
    async with Fleet.running(tmp_path / "lost") as fleet:
        before = await fleet.provision("dev-1")
        blob = await taken(fleet)
        assert (await fleet.http.post(REVOKE_ISSUER)).is_success
        log = await exported(fleet)
    done = await restored(blob, tmp_path / "new", log)
    assert done.marked.replay is not None
    assert (done.marked.replay.issuers, done.marked.replay.unknown) == (1, 0)
    async with Fleet.running(tmp_path / "new") as fleet:
        assert not await admits(fleet, "dev-1", before)
        assert await admits(fleet, "dev-1", await fleet.provision("dev-1"))


async def test_revocations_of_a_policys_cas_that_the_backup_does_not_have_are_counted(
    tmp_path: Path,
) -> None:
    """Two in a row: what the second revoked was made after the backup."""
    async with Fleet.running(tmp_path / "lost") as fleet:
        blob = await taken(fleet)
        for _ in range(2):
            assert (await fleet.http.post(REVOKE_ISSUER)).is_success
        log = await exported(fleet)
    done = await restored(blob, tmp_path / "new", log)
    assert done.marked.replay is not None
    assert (done.marked.replay.issuers, done.marked.replay.unknown) == (1, 1)


async def test_restore_can_give_every_policy_another_issuer(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "lost") as fleet:
        before = await fleet.provision("dev-1")
        blob = await taken(fleet)
    done = await restored(blob, tmp_path / "new", rotate_issuers=True)
    assert done.marked.rotated == ["default"]
    async with Fleet.running(tmp_path / "new") as fleet:
        assert not await admits(fleet, "dev-1", before)
        assert await admits(fleet, "dev-1", await fleet.provision("dev-1"))
        entries = (await fleet.http.get("/fleetroot/audit/entries")).json()["value"]
        [entry] = [one for one in entries if one["action"] == "policy.revokeIssuer"]
        assert entry["details"]["why"] == "rotated with a restore"


@pytest.mark.parametrize("change", ["altered", "cut", "other"])
async def test_a_log_that_does_not_verify_restores_nothing(tmp_path: Path, change: str) -> None:
    async with Fleet.running(tmp_path / "lost") as fleet:
        await fleet.provision("dev-1")
        blob = await taken(fleet)
        await fleet.http.post("/fleetroot/devices/dev-1/revoke")
        log = await exported(fleet)
    if change == "altered":
        log = [line.replace(b"device.revoke", b"device.enable") for line in log]
    elif change == "cut":
        log = [line for line in log if b"device.revoke" not in line]
    else:
        async with Fleet.running(tmp_path / "other") as fleet:
            log = await exported(fleet)
    with pytest.raises(LogBroken):
        await restored(blob, tmp_path / "new", log)
    assert list((tmp_path / "new").iterdir()) == []


# --- what is no backup, and no empty machine


@pytest.mark.parametrize(
    "spoil",
    [
        lambda blob: blob[:-1],
        lambda blob: blob[: len(blob) // 2],
        lambda blob: blob[:-5] + bytes([blob[-5] ^ 1]) + blob[-4:],
        lambda blob: blob + b"x",
    ],
    ids=["one byte less", "half", "a bit", "one byte more"],
)
async def test_a_backup_that_is_not_whole_restores_nothing(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    async with Fleet.running(tmp_path / "lost") as fleet:
        blob = await taken(fleet)
    with pytest.raises(ArchiveBroken):
        await restored(spoil(blob), tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("name", ["fleetroot.db", "master.key", "master.scrypt.json"])
async def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"here")
    with pytest.raises(AlreadyExists):
        await restore(io.BytesIO(b""), KEY, tmp_path, SystemClock())
    assert (tmp_path / name).read_bytes() == b"here"
