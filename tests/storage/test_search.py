"""Searches: reads aside from all others, with an end, and of JSON alike on both databases."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, func, literal, select, table
from sqlalchemy.types import Text

import database
from fleetroot.errors import TimedOut, Unavailable
from fleetroot.storage import AdHocQuery, Command, PostgresStore, SqliteStore
from fleetroot.storage.json_values import Rank, document, value_in
from fleetroot.storage.schema import audit_entries

_KEYS = st.sampled_from(["a", "0", "ä", "$version", "a-b"])
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.just("\\u0000")
)
_VALUES = st.recursive(
    _SCALARS,
    lambda below: st.lists(below, max_size=2) | st.dictionaries(_KEYS, below, max_size=3),
    max_leaves=6,
)
_DOCUMENTS = st.dictionaries(_KEYS, _VALUES, max_size=4)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore | PostgresStore]:
    made = database.store_of(tmp_path)
    yield made
    made.close()


def asked(keys: tuple[str, ...]) -> AdHocQuery[tuple[Any, ...]]:
    def source(dialect: str) -> Any:
        row = select(bindparam("text", type_=Text).label("document")).subquery()
        found = value_in(document(row.c.document, dialect), keys, dialect)
        return select(found.rank, found.number, found.text)

    return AdHocQuery(source, lambda *found: found)


def expected(value: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return Rank.UNDEFINED, None, None
        value = value[key]
    match value:
        case None:
            return Rank.NULL, None, None
        case bool():
            return (Rank.TRUE if value else Rank.FALSE), None, None
        case int() | float():
            return Rank.NUMBER, float(value), None
        case str():
            shown = orjson.dumps(value).decode().replace("\\u0000", "\\ufffd")
            return Rank.STRING, None, orjson.loads(shown)
        case list():
            return Rank.ARRAY, None, None
    return Rank.OBJECT, None, None


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(documents=st.lists(_DOCUMENTS, min_size=1, max_size=10), data=st.data())
async def test_a_value_in_json_is_what_json_says(
    store: SqliteStore | PostgresStore, documents: list[dict[str, Any]], data: st.DataObject
) -> None:
    keys = tuple(data.draw(st.lists(_KEYS, max_size=3)))
    query = asked(keys)
    texts = [orjson.dumps(each).decode() for each in documents]
    found = await store.search(lambda tx: [tx.first(query, text=text) for text in texts], 60)
    assert found == [expected(each, keys) for each in documents]


async def test_a_search_runs_beside_the_event_loop(store: SqliteStore | PostgresStore) -> None:
    loops = threading.get_ident()
    assert await store.search(lambda _: threading.get_ident(), 60) != loops


async def test_a_search_cannot_write(store: SqliteStore | PostgresStore) -> None:
    delete = Command(audit_entries.delete())
    with pytest.raises(Unavailable):
        await store.search(lambda tx: tx.run(delete), 60)


async def test_a_search_that_takes_too_long_is_ended_and_the_next_is_not(
    store: SqliteStore | PostgresStore,
) -> None:
    numbers = select(literal(1).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < 10**9))
    endless = AdHocQuery(select(func.count()).select_from(numbers), int)
    with pytest.raises(TimedOut):
        await store.search(lambda tx: tx.first(endless), 0.05)
    one = AdHocQuery(select(literal(1)), int)
    assert await store.search(lambda tx: tx.first(one), 60) == 1


async def test_a_search_whose_caller_went_away_does_not_run(
    store: SqliteStore | PostgresStore,
) -> None:
    if isinstance(store, PostgresStore):
        store._searchers._most = 1
    held, ran = threading.Event(), []
    first = asyncio.create_task(store.search(lambda _: held.wait(60), 60))
    second = asyncio.create_task(store.search(lambda _: ran.append(1), 60))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    held.set()
    await first
    await store.search(lambda _: None, 60)
    assert ran == []


@pytest.mark.postgresql("SQLite keeps no statements on a server")
async def test_an_ad_hoc_query_is_not_kept_by_the_server(store: PostgresStore) -> None:
    one = AdHocQuery(select(literal(1)), int)
    kept = AdHocQuery(select(func.count()).select_from(table("pg_prepared_statements")), int)
    await store.search(lambda tx: [tx.first(one) for _ in range(10)], 60)
    for _ in range(2):  # whichever of the threads it is
        assert await store.search(lambda tx: tx.first(kept), 60) == 0
