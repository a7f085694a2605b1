"""Fixtures: a whole server on free ports in a fresh folder, for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings

import database
from fleet import Fleet
from fleetroot.clock import ManualClock

settings.register_profile("unhurried", deadline=None)  # a busy machine is not a bug
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=["sqlite", "postgresql"],
        default="sqlite",
        help="what the servers and rooms of the tests keep their data in",
    )


def pytest_configure(config: pytest.Config) -> None:
    database.choose(config.getoption("--database"))


def pytest_unconfigure() -> None:
    database.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is about the other database alone is not of this run: `make test` has one for each."""
    other = "sqlite" if database.is_postgresql() else "postgresql"
    left_out = [item for item in items if item.get_closest_marker(other)]
    if left_out:
        items[0].config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(autouse=True)
def _databases_of_the_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test made on PostgreSQL goes with its folder."""
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder is not None:
        database.drop_below(folder)


@pytest.fixture
def clock() -> ManualClock:
    """The server's clock, where a test asks for one that it moves; it starts at the true time,
    because TLS clients look at the machine's."""
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """A running server, and what a test needs to be its devices and its operator."""
    async with Fleet.running(tmp_path / "data") as running:
        yield running


@pytest.fixture
async def timed_fleet(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Fleet]:
    """Like `fleet`, on `clock`."""
    async with Fleet.running(tmp_path / "data", clock=clock) as running:
        yield running
