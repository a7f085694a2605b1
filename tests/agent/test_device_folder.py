"""The folder: private, and whole at every moment."""

from __future__ import annotations

import os
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from scripted import self_signed

from fleetroot.agent.credential import Credential
from fleetroot.agent.device import Device, Onboarding
from fleetroot.agent.errors import FolderUnusable
from fleetroot.agent.state import DeviceFolder
from fleetroot.pki import KeyType

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = bytes(range(64))


class PowerCut(BaseException):
    """The machine is gone: no handler of the program runs as if it had merely failed."""


def device(name: str = "dev-1") -> Device:
    """A device with a credential of its own."""
    key, certificate = self_signed(name)
    onboarding = Onboarding("host", 8883, "0ne", name, None, KeyType.EC_P256, SECRET)
    return Device(onboarding, "hub.example", name, Credential(key, (certificate,)), NOW)


def same(one: Device, other: Device) -> bool:
    return (
        one.onboarding == other.onboarding
        and one.hub == other.hub
        and one.credential.sha256 == other.credential.sha256
        and one.credential.key.private_numbers() == other.credential.key.private_numbers()
        and one.obtained_at == other.obtained_at
    )


def test_device_is_read_as_it_was_stored(folder_path: Path) -> None:
    folder = DeviceFolder.create(folder_path)
    stored = device()
    folder.store(stored)
    assert same(DeviceFolder(folder_path).load(), stored)


def test_folder_and_secrets_are_the_owners_alone(folder_path: Path) -> None:
    folder_path.mkdir(mode=0o755)
    DeviceFolder.create(folder_path).store(device())
    current = (folder_path / "current").resolve()
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in current.iterdir()}
    assert modes["key.pem"] == modes["symmetric-key"] == 0o600
    assert stat.S_IMODE(folder_path.stat().st_mode) == 0o700
    assert stat.S_IMODE(current.stat().st_mode) == 0o700


def test_modes_do_not_depend_on_the_umask(folder_path: Path) -> None:
    before = os.umask(0)
    try:
        DeviceFolder.create(folder_path).store(device())
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder_path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder_path / "current" / "key.pem").stat().st_mode) == 0o600


def test_only_the_leaf_is_shown_in_tls(folder_path: Path) -> None:
    folder = DeviceFolder.create(folder_path)
    made = device()
    _, issuer = self_signed("issuer")
    chained = Credential(made.credential.key, (made.credential.leaf, issuer))
    folder.store(made.renewed(chained, NOW))
    current = folder_path / "current"
    assert (current / "certificate.pem").read_text().count("BEGIN CERTIFICATE") == 1
    assert (current / "chain.pem").read_text().count("BEGIN CERTIFICATE") == 2
    folder.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_forgotten_key_is_not_in_the_folder(folder_path: Path) -> None:
    folder = DeviceFolder.create(folder_path)
    folder.store(device())
    folder.store(device().without_key())
    assert folder.load().onboarding.symmetric_key is None
    assert not list(folder_path.rglob("symmetric-key"))


def test_nothing_of_the_old_device_is_left(folder_path: Path) -> None:
    folder = DeviceFolder.create(folder_path)
    for _ in range(3):
        folder.store(device())
    assert sorted(p.name for p in folder_path.iterdir()) == sorted(
        ["current", (folder_path / "current").readlink().name]
    )


# What touches the disk; each call is a moment at which the power can go.
STEPS = ("open", "mkdir", "fchmod", "write", "fsync", "symlink", "unlink", "rename", "replace")


def test_power_cut_at_any_moment_leaves_the_old_device_or_the_new(
    folder_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DeviceFolder.create(folder_path)
    old = device()
    folder.store(old)
    seen: set[str] = set()
    for moment in range(1, 200):
        new = device()
        if not _cut(folder, new, moment, monkeypatch):
            break
        found = folder.load()
        assert same(found, old) or same(found, new), moment
        seen.add("old" if same(found, old) else "new")
        old = found
    else:
        pytest.fail("store never came to its end")
    assert seen == {"old", "new"}
    assert same(folder.load(), new)
    assert len(list(folder_path.glob("credential-*"))) == 1  # what was left over is gone


def test_power_cut_at_the_first_store_leaves_no_device_or_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = device()
    for moment in range(1, 200):
        folder = DeviceFolder.create(tmp_path / str(moment))
        if not _cut(folder, new, moment, monkeypatch):
            return
        if (folder.path / "current").exists():
            assert same(folder.load(), new)
        else:
            with pytest.raises(FolderUnusable, match="there is no device"):
                folder.load()
    pytest.fail("store never came to its end")


def _cut(folder: DeviceFolder, new: Device, moment: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Stores, with the power cut before the disk is touched for the `moment`th time; whether it
    was.
    """
    left = moment

    def cutting(real: Any) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise PowerCut
            return real(*args, **options)

        return step

    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, cutting(getattr(os, name)))
        try:
            folder.store(new)
        except PowerCut:
            return True
    return False


def test_full_disk_keeps_the_old_device(folder_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = DeviceFolder.create(folder_path)
    old = device()
    folder.store(old)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FolderUnusable, match="No space left"):
            folder.store(device())
    assert same(folder.load(), old)


def test_key_of_another_certificate_is_noticed(folder_path: Path) -> None:
    folder = DeviceFolder.create(folder_path)
    folder.store(device())
    other = DeviceFolder.create(folder_path.with_name("other"))
    other.store(device())
    (folder_path / "current" / "key.pem").write_bytes(
        (other.path / "current" / "key.pem").read_bytes()
    )
    with pytest.raises(FolderUnusable, match="damaged"):
        folder.load()


@pytest.mark.parametrize("file", ["device.json", "key.pem", "chain.pem", "symmetric-key"])
def test_damaged_file_is_noticed(folder_path: Path, file: str) -> None:
    folder = DeviceFolder.create(folder_path)
    folder.store(device())
    (folder_path / "current" / file).write_bytes(b"\x00damage")
    with pytest.raises(FolderUnusable, match="damaged"):
        folder.load()


def test_folder_without_a_device_says_so(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match="there is no device"):
        DeviceFolder(tmp_path).load()


def test_folder_is_of_one_process_at_a_time(folder_path: Path) -> None:
    folder = DeviceFolder.create(folder_path)
    with (
        folder.locked(),
        pytest.raises(FolderUnusable, match="another process"),
        DeviceFolder(folder_path).locked(),
    ):
        pass
    with folder.locked():
        pass


def test_folder_that_others_can_write_to_is_refused(folder_path: Path) -> None:
    folder_path.mkdir()
    (folder_path / "something").write_text("else")
    folder_path.chmod(0o777)
    with pytest.raises(FolderUnusable, match="others can write"):
        DeviceFolder.create(folder_path)
    assert stat.S_IMODE(folder_path.stat().st_mode) == 0o777


def test_folder_with_something_else_in_it_keeps_its_mode(folder_path: Path) -> None:
    folder_path.mkdir()
    (folder_path / "ca.pem").write_text("")
    folder_path.chmod(0o755)
    DeviceFolder.create(folder_path).store(device())
    assert stat.S_IMODE(folder_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((folder_path / "current").resolve().stat().st_mode) == 0o700


def test_secrets_are_in_no_repr() -> None:
    shown = repr(device())
    assert repr(SECRET) not in shown
    assert "PrivateKey" not in shown
