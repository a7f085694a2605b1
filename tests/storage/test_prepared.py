"""Prepared statements: what goes in comes out, in the type of its column."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from fleetroot.storage import Command, Query, SqliteStore, Transaction, installation
from fleetroot.storage.prepared import Bound, insert_into, upsert_into
from fleetroot.storage.types import UtcTime
from fleetroot.storage.unit import ConstraintViolated

NOW = datetime(2026, 3, 29, 1, 2, 3, 456789, tzinfo=UTC)
SQLITE = sqlite_dialect()

# A table of its own: every kind of column that the schema has, each able to be null.
things = Table(
    "things",
    MetaData(),
    Column("name", Text, primary_key=True),
    Column("at", UtcTime),
    Column("on", Boolean),
    Column("count", BigInteger),
    Column("blob", LargeBinary),
    Column("created_at", UtcTime),
)
CREATE = Command(
    text(
        'CREATE TABLE things (name TEXT PRIMARY KEY, at BIGINT, "on" BOOLEAN, count BIGINT, '
        "blob BLOB, created_at BIGINT)"
    )
)
INSERT = Command(insert_into(things))
UPSERT = Command(upsert_into(things, keep=["created_at"]))
GET = Query(select(things).where(things.c.name == bindparam("key")), lambda *row: row)
EMPTY = {"at": None, "on": None, "count": None, "blob": None, "created_at": None}


@pytest.fixture
async def table(store: SqliteStore) -> SqliteStore:
    await store.write(lambda tx: tx.run(CREATE))
    return store


async def round_trip(store: SqliteStore, **values: object) -> tuple[object, ...]:
    def unit(tx: Transaction) -> tuple[object, ...] | None:
        tx.run(INSERT, name="thing", **(EMPTY | values))
        return tx.first(GET, key="thing")

    row = await store.write(unit)
    assert row is not None
    return row[1:]


async def test_a_time_comes_back_to_the_microsecond_in_utc(table: SqliteStore) -> None:
    at, *_ = await round_trip(table, at=NOW)
    assert (at, at.tzinfo) == (NOW, UTC)


async def test_a_time_of_another_zone_comes_back_as_the_same_instant(table: SqliteStore) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-7)))
    at, *_ = await round_trip(table, at=elsewhere)
    assert at == NOW


async def test_a_time_before_1970_comes_back(table: SqliteStore) -> None:
    old = datetime(1950, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    at, *_ = await round_trip(table, at=old)
    assert at == old


async def test_a_time_without_a_zone_is_refused(table: SqliteStore) -> None:
    with pytest.raises(TypeError):
        await round_trip(table, at=NOW.replace(tzinfo=None))


@pytest.mark.parametrize("value", [True, False])
async def test_a_boolean_comes_back_as_one(table: SqliteStore, value: bool) -> None:
    _, on, *_ = await round_trip(table, on=value)
    assert on is value


async def test_null_comes_back_as_none_in_every_type(table: SqliteStore) -> None:
    assert await round_trip(table) == (None,) * 5


@pytest.mark.parametrize("value", [b"", b"\x00\xff\x00", bytes(range(256)) * 8192])
async def test_bytes_come_back_as_they_were(table: SqliteStore, value: bytes) -> None:
    *_, blob, _ = await round_trip(table, blob=value)
    assert blob == value
    assert type(blob) is bytes


async def test_an_integer_of_64_bits_comes_back(table: SqliteStore) -> None:
    _, _, count, *_ = await round_trip(table, count=2**63 - 1)
    assert count == 2**63 - 1


async def test_a_text_of_a_megabyte_comes_back(store: SqliteStore) -> None:
    name = "\N{SNOWMAN}" * 350_000
    await store.write(lambda tx: installation.put(tx, name, b"here"))
    assert await store.read(lambda tx: installation.get(tx, name)) == b"here"


async def test_text_is_a_value_and_never_sql(store: SqliteStore) -> None:
    name = "x'; DROP TABLE installation; --"
    await store.write(lambda tx: installation.put(tx, name, b"here"))
    assert await store.read(lambda tx: installation.get(tx, name)) == b"here"


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_survives_the_way_through_an_integer(at: datetime) -> None:
    kind = UtcTime()
    stored = kind.process_bind_param(at, SQLITE)
    assert kind.process_result_value(stored, SQLITE) == at


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_stored_times_sort_as_times_do(one: datetime, other: datetime) -> None:
    kind = UtcTime()
    stored = kind.process_bind_param(one, SQLITE), kind.process_bind_param(other, SQLITE)
    assert (stored[0] < stored[1]) is (one < other)


async def test_a_missing_parameter_is_an_error_and_not_null(table: SqliteStore) -> None:
    with pytest.raises(KeyError, match="count"):
        await table.write(lambda tx: tx.run(INSERT, name="a", at=None, on=None))


async def test_an_upsert_keeps_what_it_is_told_to_keep(table: SqliteStore) -> None:
    later = NOW + timedelta(days=1)

    def unit(tx: Transaction) -> tuple[object, ...] | None:
        tx.run(UPSERT, name="a", **(EMPTY | {"count": 1, "created_at": NOW}))
        tx.run(UPSERT, name="a", **(EMPTY | {"count": 2, "created_at": later}))
        return tx.first(GET, key="a")

    row = await table.write(unit)
    assert row is not None
    assert (row[3], row[5]) == (2, NOW)


async def test_an_upsert_replaces_what_is_null_now(table: SqliteStore) -> None:
    def unit(tx: Transaction) -> tuple[object, ...] | None:
        tx.run(UPSERT, name="a", **(EMPTY | {"blob": b"there"}))
        tx.run(UPSERT, name="a", **EMPTY)
        return tx.first(GET, key="a")

    row = await table.write(unit)
    assert row is not None
    assert row[4] is None


async def test_a_second_row_of_a_key_is_a_violation_with_a_name(table: SqliteStore) -> None:
    def unit(tx: Transaction) -> None:
        tx.run(INSERT, name="a", **EMPTY)
        tx.run(INSERT, name="a", **EMPTY)

    with pytest.raises(ConstraintViolated):
        await table.write(unit)


async def test_a_violation_by_a_statement_that_returns_rows_has_the_same_name(
    table: SqliteStore,
) -> None:
    returning = Query(
        insert(things).values(name=bindparam("name")).returning(things.c.name), lambda name: name
    )

    def unit(tx: Transaction) -> None:
        tx.first(returning, name="a")
        tx.first(returning, name="a")

    with pytest.raises(ConstraintViolated):
        await table.write(unit)


async def test_a_value_written_into_the_statement_is_converted_like_a_parameter(
    table: SqliteStore,
) -> None:
    fixed = Command(update(things).values(at=NOW, on=True).where(things.c.name == "a"))

    def unit(tx: Transaction) -> tuple[object, ...] | None:
        tx.run(INSERT, name="a", **EMPTY)
        tx.run(fixed)
        return tx.first(GET, key="a")

    row = await table.write(unit)
    assert row is not None
    assert (row[1], row[2]) == (NOW, True)


async def test_a_command_says_how_many_rows_it_changed(table: SqliteStore) -> None:
    everything = Command(update(things).values(count=7))

    def unit(tx: Transaction) -> int:
        for name in "abc":
            tx.run(INSERT, name=name, **EMPTY)
        return tx.run(everything)

    assert await table.write(unit) == 3


def test_a_statement_is_compiled_once_for_a_dialect() -> None:
    assert GET.on(SQLITE) is GET.on(SQLITE)


def test_a_statement_is_compiled_for_each_dialect() -> None:
    assert "%s" in GET.on(psycopg.dialect(paramstyle="format")).sql
    assert "?" in GET.on(SQLITE).sql


def test_a_dialect_with_named_parameters_is_refused() -> None:
    with pytest.raises(TypeError, match="positional"):
        Bound(select(things), psycopg.dialect())
