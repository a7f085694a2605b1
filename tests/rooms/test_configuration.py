"""The configuration's version changes with everything that is kept in memory by it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Table, bindparam

from fleetroot.audit import SYSTEM
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from fleetroot.provisioning.regions import DescribedRegion, Regions
from fleetroot.storage.configuration import version
from fleetroot.storage.schema import (
    authorities,
    enrollments,
    hubs,
    linked_hubs,
    policies,
    provisioning_services,
    region_latencies,
    region_networks,
    service_resources,
)
from workbench import Workbench

WATCHED = [
    authorities,
    enrollments,
    hubs,
    linked_hubs,
    policies,
    provisioning_services,
    region_latencies,
    region_networks,
    service_resources,
]


@pytest.fixture
async def bench(bench: Workbench) -> Workbench:
    """With a row in each of them."""
    region = DescribedRegion("west", ["192.0.2.0/24"], {bench.made.hub.host_name: 20})
    await Regions(bench.store, bench.clock).put(bench.made.service, region, by=SYSTEM)
    return bench


async def now(bench: Workbench) -> bytes:
    return await bench.store.read(version)


@pytest.mark.parametrize("table", WATCHED, ids=str)
async def test_an_update_changes_the_version(bench: Workbench, table: Table) -> None:
    before = await now(bench)
    column = list(table.columns)[-1]
    with bench.sql() as connection:
        assert connection.execute(table.update().values({column.name: column})).rowcount > 0
    assert await now(bench) != before


@pytest.mark.parametrize("table", WATCHED, ids=str)
async def test_an_insert_and_a_delete_change_the_version(bench: Workbench, table: Table) -> None:
    with bench.sql() as connection:
        row = _a_new_row(connection, table)
        before = await now(bench)
    with bench.sql() as connection:
        connection.execute(table.insert().values(row))
    inserted = await now(bench)
    assert inserted != before
    with bench.sql() as connection:
        key = list(table.primary_key.columns)
        where = [column == bindparam(f"_{column.name}", row[column.name]) for column in key]
        assert connection.execute(table.delete().where(*where)).rowcount == 1
    assert await now(bench) != inserted


async def test_an_individual_enrollment_does_not_change_it(bench: Workbench) -> None:
    """There may be a million, and each is read when its device comes."""
    before = await now(bench)
    await bench.administration.put(
        bench.made.service, EnrollmentKind.INDIVIDUAL, "press-7", EnrollmentSettings(), by=SYSTEM
    )
    assert await now(bench) == before


async def test_a_registration_does_not_change_it(bench: Workbench) -> None:
    before = await now(bench)
    await bench.provision("press-7")
    assert await now(bench) == before


def _a_new_row(connection: Connection, table: Table) -> dict[str, Any]:
    """Like one that is there, with other keys."""
    row: dict[str, Any] = dict(connection.execute(table.select()).mappings().first() or {})
    if table is linked_hubs:
        hub = dict(connection.execute(hubs.select()).mappings().one())
        hub |= {"id": "new", "name_key": "new", "host_name": "new"}
        connection.execute(hubs.insert().values(hub))
        return row | {"hub_id": "new"}
    if table is region_latencies:
        return row | {"region": "new"}
    unique = {
        "id",
        "network",
        "owner_id",
        "name_key",
        "host_name",
        "id_scope",
        "enrollment_key",
    } & row.keys()
    return row | dict.fromkeys(unique, "new") | ({"sha256": b"new"} if "sha256" in row else {})
