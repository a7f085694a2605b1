"""Fixtures: tokens of SoftHSM, and custodies that use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetroot.custody import (
    Custody,
    MasterKey,
    MasterKeyKind,
    MasterKeySource,
    Sealer,
    Token,
    TokenConfig,
    TokenState,
)
from softhsm import Daemon, SoftHsm, daemon_of

Open = Callable[..., Custody]


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    return SoftHsm(tmp_path / "hsm", monkeypatch)


@pytest.fixture
def daemon(hsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with daemon_of(hsm, tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def states() -> list[TokenState]:
    """What was told of tokens, in its order."""
    return []


@pytest.fixture
def open_custody(states: list[TokenState]) -> Iterator[Open]:
    """Makes a custody under the test's master key; every one is closed when the test ends."""
    opened: list[Custody] = []

    def make(*configs: TokenConfig, **options: str) -> Custody:
        sealer = Sealer(MasterKey(bytes(32), MasterKeySource(MasterKeyKind.ENVIRONMENT)))
        tokens = [Token(config, states.append) for config in configs]
        opened.append(Custody(sealer, tokens, **options))
        return opened[-1]

    yield make
    for custody in opened:
        custody.close()
