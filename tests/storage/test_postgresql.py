"""The same schema, migrations and statements on a real PostgreSQL."""

from __future__ import annotations

import importlib
import pkgutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, inspect
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

import database
import fleetroot
from fleetroot.storage import Command, Query, migrate
from fleetroot.storage.postgresql_connection import Address
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import metadata

pytestmark = pytest.mark.postgresql(reason="what the server makes of schema and statements")
DIALECT = psycopg.dialect(paramstyle="format")  # positional, as `Bound` needs it


def every_statement() -> dict[str, Query[Any] | Command]:
    """What the modules of the program hold, by where it stands."""
    found: dict[str, Query[Any] | Command] = {}
    for module in pkgutil.walk_packages(fleetroot.__path__, "fleetroot."):
        if ".migrations" in module.name or module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Query | Command) and value not in found.values():
                found[f"{module.name.removeprefix('fleetroot.')}.{name}"] = value
    return found


STATEMENTS = every_statement()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A migrated database."""
    url = database.url_of(tmp_path)
    assert url is not None
    return migrate.postgresql_engine(Address.parse(url))


def test_the_program_has_statements_to_look_at() -> None:
    rooms = {name.split(".")[0] for name in STATEMENTS}
    assert {"storage", "registry", "provisioning", "hub"} <= rooms
    assert len(STATEMENTS) > 50


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_compiles_for_both_databases(name: str) -> None:
    statement = STATEMENTS[name]
    assert statement.on(sqlite_dialect()).sql
    assert statement.on(DIALECT).sql


def test_upgrade_makes_what_the_schema_says(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("table", metadata.tables)
def test_table_has_the_keys_that_the_schema_says(engine: Engine, table: str) -> None:
    inspector, said = inspect(engine), metadata.tables[table]
    assert inspector.get_pk_constraint(table)["constrained_columns"] == [
        column.name for column in said.primary_key.columns
    ]
    made = {
        (tuple(key["constrained_columns"]), key["referred_table"], key["options"].get("ondelete"))
        for key in inspector.get_foreign_keys(table)
    }
    assert made == {
        (tuple(key.column_keys), key.referred_table.name, key.ondelete)
        for key in said.foreign_key_constraints
    }


def test_downgrade_to_base_leaves_no_table(engine: Engine) -> None:
    migrate.downgrade(engine, "base")
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}


def test_every_statement_has_types_that_postgresql_accepts(engine: Engine) -> None:
    """The server parses and plans each against the migrated tables."""
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        for name, statement in STATEMENTS.items():
            pieces = statement.on(DIALECT).sql.split("%s")
            sql = pieces[0] + "".join(f"${n}{piece}" for n, piece in enumerate(pieces[1:], 1))
            try:
                cursor.execute(f"PREPARE checked AS {sql.replace('%%', '%')}")
                cursor.execute("DEALLOCATE checked")
            except Exception as error:
                raise AssertionError(f"{name}: {error}") from error


@pytest.mark.parametrize("value", [b"", b"\x00\xff", bytes(10**6)])
def test_upsert_inserts_and_then_replaces(engine: Engine, value: bytes) -> None:
    table = metadata.tables["installation"]
    bound = Command(upsert_into(table)).on(DIALECT)
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        for content in (b"before", value):
            cursor.execute(bound.sql, bound.bind({"name": "a", "value": content}))
        cursor.execute("SELECT value FROM installation")
        assert cursor.fetchall() == [(value,)]


def test_time_is_the_same_integer_on_both_databases(engine: Engine) -> None:
    at = datetime(2026, 3, 29, 1, 2, 3, 456789, tzinfo=UTC)
    kind = metadata.tables["outbox"].c.at.type
    on_postgresql = kind.dialect_impl(DIALECT).bind_processor(DIALECT)
    on_sqlite = kind.dialect_impl(sqlite_dialect()).bind_processor(sqlite_dialect())
    assert on_postgresql is not None
    assert on_sqlite is not None
    assert on_postgresql(at) == on_sqlite(at) == 1_774_746_123_456_789


def test_upsert_keeps_what_it_is_told_to_keep(engine: Engine) -> None:
    table = Table(
        "things",
        MetaData(),
        Column("id", Text, primary_key=True),
        Column("name", Text),
        Column("made", Integer),
    )
    bound = Command(upsert_into(table, keep=["made"])).on(DIALECT)
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("CREATE TEMPORARY TABLE things (id text PRIMARY KEY, name text, made int)")
        cursor.execute(bound.sql, bound.bind({"id": "n", "name": "one", "made": 2020}))
        cursor.execute(bound.sql, bound.bind({"id": "n", "name": "two", "made": 2030}))
        cursor.execute("SELECT name, made FROM things")
        assert cursor.fetchall() == [("two", 2020)]
