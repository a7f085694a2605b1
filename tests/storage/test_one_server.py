"""One server on a PostgreSQL database: a second is refused, and one that lost its place is out."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

import database
from fleet import Fleet
from fleetroot.errors import Unavailable
from fleetroot.storage import PostgresStore, databases, one_server
from fleetroot.storage.databases import Database

pytestmark = pytest.mark.postgresql(reason="on SQLite the data folder's lock does it")
OTHERS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_server, "_PATIENCE", 0.2)


@pytest.fixture
def url(tmp_path: Path) -> str:
    found = database.url_of(tmp_path)
    assert found is not None
    return found


def cut_all(url: str) -> None:
    """Ends every connection to the database, as a network that is away does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(OTHERS.encode())


def close(*opened: Database) -> None:
    for each in opened:
        each.store.close()


async def test_second_server_is_refused(url: str) -> None:
    first = databases.open_postgresql(url)
    with pytest.raises(Unavailable, match="another server is running on the database"):
        databases.open_postgresql(url)
    close(first)


async def test_second_server_does_not_disturb_the_first(url: str) -> None:
    first = databases.open_postgresql(url)
    with pytest.raises(Unavailable):
        databases.open_postgresql(url)
    assert await first.store.write(lambda _: 1) == 1
    close(first)


async def test_server_after_one_that_stopped_is_let_in(url: str) -> None:
    close(databases.open_postgresql(url))
    close(databases.open_postgresql(url))


async def test_server_waits_for_the_connections_of_one_that_was_killed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_server, "_PATIENCE", 20.0)
    first = databases.open_postgresql(url)
    opening = asyncio.create_task(asyncio.to_thread(databases.open_postgresql, url))
    await asyncio.sleep(0)
    await asyncio.to_thread(close, first)
    close(await opening)


async def test_server_goes_on_when_all_its_connections_broke(url: str) -> None:
    first = databases.open_postgresql(url)
    cut_all(url)
    assert await first.store.write(lambda _: 1) == 1
    close(first)


async def test_server_whose_connections_broke_still_keeps_others_out(url: str) -> None:
    first = databases.open_postgresql(url)
    cut_all(url)
    await first.store.write(lambda _: 1)
    with pytest.raises(Unavailable, match="another server"):
        databases.open_postgresql(url)
    close(first)


async def test_server_that_was_replaced_while_it_was_cut_off_serves_nobody(url: str) -> None:
    first = databases.open_postgresql(url)
    cut_all(url)
    second = databases.open_postgresql(url)
    for run in (first.store.write, first.store.read):
        with pytest.raises(Unavailable):
            await run(lambda _: 1)
    assert await second.store.write(lambda _: 1) == 1
    close(first, second)


async def test_server_that_was_replaced_stays_out_when_the_other_stops(url: str) -> None:
    """What it remembers of the database may be long out of date."""
    first = databases.open_postgresql(url)
    cut_all(url)
    close(databases.open_postgresql(url))
    with pytest.raises(Unavailable):
        await first.store.write(lambda _: 1)
    close(first)


async def test_connection_between_claim_and_signature_is_refused(url: str) -> None:
    first = databases.open_postgresql(url)
    assert isinstance(first.store, PostgresStore)
    cut_all(url)
    claim = one_server.Claim(first.store._address)
    with pytest.raises(Unavailable):
        await first.store.write(lambda _: 1)
    claim.close()
    close(first)


def test_of_two_servers_that_start_at_once_on_an_empty_database_one_is_let_in(
    tmp_path: Path,
) -> None:
    url = database.url_of(tmp_path / "empty", empty=True)
    assert url is not None

    def start(_: int) -> Database | Unavailable:
        try:
            return databases.open_postgresql(url)
        except Unavailable as error:
            return error

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(start, range(4)))
    opened = [each for each in results if isinstance(each, Database)]
    assert len(opened) == 1
    close(*opened)


async def test_two_programs_with_folders_of_their_own_do_not_share_a_database(
    tmp_path: Path,
) -> None:
    async with Fleet.running(tmp_path / "one") as fleet:
        url = fleet.server.settings.database_url
        with pytest.raises(Unavailable, match="another server is running on the database"):
            async with Fleet.running(tmp_path / "two", database_url=url):
                pass
        assert (await fleet.http.get("/healthz")).status_code == 200


async def test_sessions_of_a_server_that_was_replaced_are_dropped(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", lease_seconds=1) as fleet:
        url = database.url_of(tmp_path / "data")
        assert url is not None
        mqtt = await fleet.connect("dev-1", await fleet.provision("dev-1"))
        cut_all(url)
        # Its own reader may reconnect first; then it is cut off again, as a network would do it.
        for _ in range(50):
            try:
                second = await asyncio.to_thread(databases.open_postgresql, url)
                break
            except Unavailable:
                cut_all(url)
        await mqtt.wait_closed()
        assert (await fleet.http.get("/healthz")).status_code == 503
        close(second)


async def test_database_is_shown_without_its_password(tmp_path: Path) -> None:
    database.url_of(tmp_path / "data")
    async with Fleet.running(tmp_path / "data") as fleet:
        status = (await fleet.http.get("/fleetroot/status")).json()
    assert status["database"].startswith("PostgreSQL, test_")
    assert "postgresql://" not in str(status)
