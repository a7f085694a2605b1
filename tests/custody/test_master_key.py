"""Where the master key comes from, and what is refused on the way."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from fleetroot.custody import MasterKey, MasterKeyConfig, MasterKeyUnusable, load_master_key

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY).decode()


def key_file(folder: Path, content: bytes = KEY, mode: int = 0o600, name: str = "key") -> Path:
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def credential(folder: Path, key: bytes = KEY, mode: int = 0o400) -> Path:
    credentials = folder / "credentials"
    credentials.mkdir()
    key_file(credentials, key, mode, "fleetroot-master-key")
    return credentials


def load(data: Path, **config) -> MasterKey:
    return load_master_key(MasterKeyConfig(**config), data)


class TestDataFolder:
    def test_a_key_is_made_on_first_use(self, tmp_path: Path) -> None:
        key = load(tmp_path)
        assert key.where == "in the data folder (master.key)"
        assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600

    def test_the_same_key_is_found_again(self, tmp_path: Path) -> None:
        assert load(tmp_path).key == load(tmp_path).key

    def test_two_data_folders_have_two_keys(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        assert load(tmp_path / "one").id != load(tmp_path / "two").id

    def test_it_can_be_moved_to_the_environment(self, tmp_path: Path) -> None:
        made = load(tmp_path)
        assert load(tmp_path, key=(tmp_path / "master.key").read_text()).id == made.id

    def test_a_key_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        key_file(tmp_path, mode=0o640, name="master.key")
        with pytest.raises(MasterKeyUnusable, match="chmod 600"):
            load(tmp_path)

    def test_half_a_key_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = key_file(tmp_path, b"", name="master.key")
        with pytest.raises(MasterKeyUnusable, match="0 bytes"):
            load(tmp_path)
        assert path.read_bytes() == b""


class TestFile:
    @pytest.mark.parametrize("content", [KEY, TEXT.encode(), f"{TEXT}\n".encode()])
    def test_it_holds_bytes_or_base64(self, tmp_path: Path, content: bytes) -> None:
        path = key_file(tmp_path, content)
        key = load(tmp_path, key_file=path)
        assert key.key == KEY
        assert key.where == f"file {path}"

    def test_nothing_is_made_in_the_data_folder(self, tmp_path: Path) -> None:
        load(tmp_path, key_file=key_file(tmp_path))
        assert not (tmp_path / "master.key").exists()

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o666])
    def test_one_that_others_can_reach_is_refused(self, tmp_path: Path, mode: int) -> None:
        with pytest.raises(MasterKeyUnusable, match=f"{mode:04o}"):
            load(tmp_path, key_file=key_file(tmp_path, mode=mode))

    @pytest.mark.parametrize(
        "content", [b"", KEY[:31], KEY + b"\x00", base64.b64encode(KEY[:16]), b"not a key\n"]
    )
    def test_what_is_not_32_bytes_is_refused(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(MasterKeyUnusable):
            load(tmp_path, key_file=key_file(tmp_path, content))

    def test_a_missing_one_is_an_error_and_not_a_new_key(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            load(tmp_path, key_file=tmp_path / "missing")


class TestEnvironment:
    def test_it_is_base64(self, tmp_path: Path) -> None:
        key = load(tmp_path, key=TEXT)
        assert key.key == KEY
        assert key.where == "environment"

    @pytest.mark.parametrize("text", ["", "secret", TEXT[:-4], TEXT + TEXT])
    def test_anything_else_is_refused_without_being_shown(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(MasterKeyUnusable) as refused:
            load(tmp_path, key=text)
        assert not text or text not in str(refused.value)


class TestSystemdCredential:
    @pytest.mark.parametrize("mode", [0o400, 0o440])
    def test_it_is_found_in_the_directory(self, tmp_path: Path, mode: int) -> None:
        key = load(tmp_path, credentials_directory=credential(tmp_path, mode=mode))
        assert key.key == KEY
        assert key.where == "systemd credential"

    def test_one_that_everybody_can_read_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MasterKeyUnusable):
            load(tmp_path, credentials_directory=credential(tmp_path, mode=0o444))

    def test_a_directory_of_other_credentials_does_not_count(self, tmp_path: Path) -> None:
        assert load(tmp_path, credentials_directory=tmp_path).where.startswith("in the data")


class TestPassphrase:
    def test_it_gives_the_same_key_again(self, tmp_path: Path) -> None:
        first = load(tmp_path, passphrase="correct horse")
        assert first.where == "passphrase"
        assert load(tmp_path, passphrase="correct horse").id == first.id

    def test_another_one_gives_another_key(self, tmp_path: Path) -> None:
        first = load(tmp_path, passphrase="correct horse")
        assert load(tmp_path, passphrase="battery staple").id != first.id

    def test_what_is_stored_is_salt_and_cost(self, tmp_path: Path) -> None:
        load(tmp_path, passphrase="correct horse")
        stored = json.loads((tmp_path / "master.scrypt.json").read_text())
        assert stored.pop("salt")
        assert stored == {"kdf": "scrypt", "n": 65536, "r": 8, "p": 1}

    def test_an_empty_one_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MasterKeyUnusable, match="empty"):
            load(tmp_path, passphrase="")

    @pytest.mark.parametrize(
        "change", [{"n": 1024}, {"n": 2**30}, {"n": 65537}, {"r": 1}, {"salt": ""}, {"kdf": "x"}]
    )
    def test_parameters_that_were_tampered_with_are_refused(
        self, tmp_path: Path, change: dict
    ) -> None:
        salt = base64.b64encode(bytes(16)).decode()
        stored = {"kdf": "scrypt", "salt": salt, "n": 65536, "r": 8, "p": 1} | change
        (tmp_path / "master.scrypt.json").write_text(json.dumps(stored))
        with pytest.raises(MasterKeyUnusable, match="not acceptable"):
            load(tmp_path, passphrase="correct horse")

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"salt": 1}', "null"])
    def test_parameters_that_cannot_be_read_are_refused(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "master.scrypt.json").write_text(content)
        with pytest.raises(MasterKeyUnusable, match="cannot be read"):
            load(tmp_path, passphrase="correct horse")


class TestPrecedence:
    def test_from_the_file_down_to_the_passphrase(self, tmp_path: Path) -> None:
        given = {
            "key_file": key_file(tmp_path),
            "key": TEXT,
            "credentials_directory": credential(tmp_path),
            "passphrase": "correct horse",
        }
        seen = []
        while given:
            seen.append(load(tmp_path, **given).where.split()[0])
            del given[next(iter(given))]
        assert seen == ["file", "environment", "systemd", "passphrase"]


def test_the_configuration_shows_no_secret() -> None:
    text = repr(MasterKeyConfig(key=TEXT, passphrase="correct horse"))
    assert TEXT not in text
    assert "horse" not in text
