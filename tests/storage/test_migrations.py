"""Migrations on SQLite: they make the schema, take it away, and leave nothing half done."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect

from fleetroot.errors import Unavailable
from fleetroot.storage import migrate
from fleetroot.storage.schema import metadata

pytestmark = pytest.mark.sqlite(reason="a file, and DDL that the driver would not roll back")
HEAD = ScriptDirectory.from_config(migrate.configuration()).get_current_head()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleetroot.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    made = migrate.sqlite_engine(path)
    yield made
    made.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_an_empty_database_has_no_revision(engine: Engine) -> None:
    assert migrate.current(engine) is None


def test_upgrade_makes_the_newest_revision(engine: Engine) -> None:
    migrate.upgrade(engine)
    assert migrate.current(engine) == HEAD


# SQLAlchemy does not read back what SQLite has of an index over an expression.
cannot_see_expressions = pytest.mark.filterwarnings("ignore:.*expression-based index")


@cannot_see_expressions
def test_upgrade_makes_what_the_schema_says(engine: Engine) -> None:
    migrate.upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


@cannot_see_expressions
def test_upgrade_makes_the_very_tables_that_the_schema_would(
    engine: Engine, tmp_path: Path
) -> None:
    """Also what alembic does not compare: keys, cascades, AUTOINCREMENT."""
    migrate.upgrade(engine)
    direct = migrate.sqlite_engine(tmp_path / "direct.db")
    metadata.create_all(direct)
    for name in metadata.tables:
        for ask in ("get_foreign_keys", "get_unique_constraints", "get_indexes"):
            made, said = (getattr(inspect(e), ask)(name) for e in (engine, direct))
            # Conditions of partial indexes are objects that are equal to themselves only.
            words = [
                sorted(str({k: _words(v) for k, v in each.items()}) for each in found)
                for found in (made, said)
            ]
            assert words[0] == words[1], (name, ask)
        made, said = (inspect(e).get_pk_constraint(name) for e in (engine, direct))
        assert made == said, name
    with engine.connect() as one, direct.connect() as other:
        growing = "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' ORDER BY 1"
        made, said = (c.exec_driver_sql(growing).fetchall() for c in (one, other))
        assert made == said
    direct.dispose()


def test_upgrade_of_the_newest_changes_nothing(engine: Engine, path: Path) -> None:
    migrate.upgrade(engine)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO installation VALUES ('kept', 'x')")
    migrate.upgrade(engine)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM installation").fetchall() == [("kept",)]


def test_downgrade_to_base_leaves_no_table(engine: Engine) -> None:
    migrate.upgrade(engine)
    migrate.downgrade(engine, "base")
    assert tables(engine) == set()
    assert migrate.current(engine) is None


def test_a_database_with_data_goes_down_and_up_again(engine: Engine, path: Path) -> None:
    migrate.upgrade(engine)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO namespaces (id, name, name_key, subscription_id, resource_group, "
            "created_at, tags, etag, updated_at) "
            "VALUES ('n', 'default', 'default', '', '', 0, '{}', 'e', 0)"
        )
        connection.execute("INSERT INTO hubs VALUES ('h', 'n', 'default', 'default', 'host', 0)")
    migrate.downgrade(engine, "base")
    migrate.upgrade(engine)
    assert tables(engine) == set(metadata.tables)


def test_a_database_of_a_newer_program_is_refused(engine: Engine, path: Path) -> None:
    migrate.upgrade(engine)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Unavailable, match="9999"):
        migrate.upgrade(engine)


def test_a_database_of_a_newer_program_is_left_as_it_is(engine: Engine, path: Path) -> None:
    migrate.upgrade(engine)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(Unavailable):
        migrate.upgrade(engine)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kept", [0, 5000], ids=["no database", "cut off"])
def test_a_damaged_database_is_refused(engine: Engine, path: Path, kept: int) -> None:
    migrate.upgrade(engine)
    engine.dispose()
    path.write_bytes(path.read_bytes()[:kept] + b"x" * 5000)
    with pytest.raises(Unavailable, match=r"fleetroot\.db cannot be used"):
        migrate.upgrade(engine)


def test_an_upgrade_that_is_cut_short_leaves_nothing_and_is_done_the_next_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_index = Operations.create_index

    def fail_at_hubs(
        self: Operations, name: str, table: str, *rest: object, **more: object
    ) -> None:
        if table == "policies":
            raise OSError("power is gone")
        create_index(self, name, table, *rest, **more)

    monkeypatch.setattr(Operations, "create_index", fail_at_hubs)
    with pytest.raises(OSError, match="power"):
        migrate.upgrade(engine)
    monkeypatch.undo()
    assert tables(engine) == set()
    migrate.upgrade(engine)
    assert tables(engine) == set(metadata.tables)


def test_a_downgrade_that_is_cut_short_changes_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate.upgrade(engine)
    drop_index = Operations.drop_index

    def fail_at_policies(self: Operations, name: str, *rest: object, **more: object) -> None:
        if "policies" in name:
            raise OSError("power is gone")
        drop_index(self, name, *rest, **more)

    monkeypatch.setattr(Operations, "drop_index", fail_at_policies)
    with pytest.raises(OSError, match="power"):
        migrate.downgrade(engine, "base")
    assert tables(engine) == set(metadata.tables)
    assert migrate.current(engine) == HEAD


def test_every_migration_has_a_way_back() -> None:
    for script in ScriptDirectory.from_config(migrate.configuration()).walk_revisions():
        assert callable(script.module.downgrade)
        assert script.module.downgrade.__code__.co_names, script.revision


def _words(value: object) -> object:
    return {k: str(v) for k, v in value.items()} if isinstance(value, dict) else value
