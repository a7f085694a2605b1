"""Fixtures: a migrated SQLite file and a store on it, for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleetroot.storage import SqliteStore, migrate


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database file at the schema of this program."""
    path = tmp_path / "fleetroot.db"
    engine = migrate.sqlite_engine(path)
    migrate.upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture
async def store(database: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(database)
    yield made
    made.close()
