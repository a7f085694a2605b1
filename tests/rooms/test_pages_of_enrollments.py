"""Pages of enrollments and registrations cost the same however many there are."""

from __future__ import annotations

from typing import Any

import pytest

from fleetroot.provisioning import enrollments, registrations
from fleetroot.storage import Query
from workbench import Workbench

INDEXES = {
    "sqlite_autoindex_enrollments_1": enrollments._PAGE,
    "ix_registrations_group": registrations._PAGE_OF_GROUP,
    "sqlite_autoindex_registrations_1": registrations._OF_INDIVIDUALS,
}


@pytest.mark.sqlite(reason="the plan is SQLite's")
@pytest.mark.parametrize(("index", "query"), INDEXES.items())
def test_page_is_read_from_an_index_in_its_order(
    bench: Workbench, index: str, query: Query[Any]
) -> None:
    with bench.sql() as connection:
        sql = str(query._source.compile(dialect=connection.dialect))  # type: ignore[union-attr]
        values = (None,) * sql.count("?")
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    steps = [str(row[3]) for row in plan]
    assert any(index in step for step in steps), steps
    assert all(step.startswith("SEARCH") for step in steps), steps
