"""Tokens as an operator names them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from fleetroot.custody import read_pin
from fleetroot.errors import InvalidArgument
from fleetroot.settings import Settings

TOKEN = {"module": "/usr/lib/hsm.so", "label": "fleet", "pin": "of-the-token"}


def test_tokens_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETROOT_TOKENS", json.dumps({"hsm": TOKEN}))
    monkeypatch.setenv("FLEETROOT_AUTHORITY_KEYS", "hsm")
    settings = Settings()
    assert settings.tokens["hsm"].module == Path("/usr/lib/hsm.so")
    assert settings.authority_keys == "hsm"


def test_tokens_come_from_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "fleetroot.toml"
    file.write_text(
        'authority_keys = "hsm"\n[tokens.hsm]\nmodule = "/usr/lib/hsm.so"\nlabel = "fleet"\n'
        'pin_file = "/run/pin"\nthreads = 8\n'
    )
    token = Settings(config=file).tokens["hsm"]
    assert (token.pin_file, token.threads) == (Path("/run/pin"), 8)


@pytest.mark.parametrize(
    "given",
    [
        {"tokens": {"hsm": {**TOKEN, "pin_file": "/run/pin"}}},
        {"tokens": {"hsm": {"module": "/usr/lib/hsm.so", "label": "fleet"}}},
        {"tokens": {"hsm": {**TOKEN, "slot": 1}}},
        {"tokens": {"software": TOKEN}},
        {"tokens": {"Not A Name": TOKEN}},
        {"authority_keys": "hsm"},
    ],
    ids=["two pins", "no pin", "unknown field", "reserved", "no name", "no such token"],
)
def test_what_cannot_be_meant_is_refused_and_no_pin_is_shown(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**given)  # type: ignore[arg-type]
    assert "of-the-token" not in str(refused.value)


def test_a_pin_file_is_read_without_its_lines_end(tmp_path: Path) -> None:
    file = tmp_path / "pin"
    file.write_text("1234\n")
    file.chmod(0o600)
    assert read_pin(file) == "1234"


@pytest.mark.parametrize(("content", "mode"), [("1234", 0o604), ("1234", 0o606), ("\n", 0o600)])
def test_a_pin_file_that_others_read_or_that_is_empty_is_refused(
    tmp_path: Path, content: str, mode: int
) -> None:
    file = tmp_path / "pin"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(InvalidArgument):
        read_pin(file)
