"""The unit of work on PostgreSQL: atomic, durable, run again where it met others, and back by
itself when the server is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import select
from structlog.testing import capture_logs

import database
from fleetroot.errors import InvalidArgument, Unavailable
from fleetroot.storage import PostgresStore, Query, Transaction, installation, postgresql
from fleetroot.storage.postgresql_connection import Address, Connection, connect
from fleetroot.storage.schema import installation as table
from fleetroot.storage.unit import ConstraintViolated
from postgresql_cluster import Cluster, cluster

pytestmark = pytest.mark.postgresql(reason="its threads, connections and isolation")
SECONDS = 10
NAMES = Query(select(table.c.name).order_by(table.c.name), str)


class ControlledStore(PostgresStore):
    """A store whose commits a test holds up and cuts off."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.before: Callable[[Connection], None] | None = None
        self.after: Callable[[Connection], None] | None = None
        self.in_commit = threading.Event()
        self.may_commit = threading.Event()
        self.may_commit.set()
        super().__init__(Address.parse(url))

    def _commit(self, connection: Connection) -> None:
        self.in_commit.set()
        assert self.may_commit.wait(SECONDS)
        if self.before is not None:
            self.before(connection)
        super()._commit(connection)
        if self.after is not None:
            self.after(connection)

    def names(self) -> list[str]:
        """What another connection sees: what is committed."""
        return [name for (name,) in self.ask("SELECT name FROM installation ORDER BY 1")]

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Runs a statement on a connection of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def cut(self, connection: Connection) -> None:
        """Has the server end a connection, and waits until it did."""
        pid = connection.info.backend_pid
        assert self.ask(f"SELECT pg_terminate_backend({pid}, 5000)") == [(True,)]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ControlledStore]:
    url = database.url_of(tmp_path)
    assert url is not None
    made = ControlledStore(url)
    yield made
    made.may_commit.set()
    made.close()


def put(name: str, value: bytes = b"") -> Callable[[Transaction], None]:
    return lambda tx: installation.put(tx, name, value)


def connection_of(tx: Transaction) -> Connection:
    found: Connection = tx._connection  # type: ignore[attr-defined]
    return found


# --- a unit


async def test_caller_is_answered_only_after_the_commit(store: ControlledStore) -> None:
    store.may_commit.clear()
    task = asyncio.ensure_future(store.write(put("a")))
    assert await asyncio.to_thread(store.in_commit.wait, SECONDS)
    assert not task.done()
    assert store.names() == []
    store.may_commit.set()
    await task
    assert store.names() == ["a"]


async def test_a_unit_returns_its_value(store: ControlledStore) -> None:
    assert await store.write(lambda _: 42) == 42


async def test_a_failing_unit_leaves_nothing(store: ControlledStore) -> None:
    def unit(tx: Transaction) -> None:
        installation.put(tx, "a", b"")
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await store.write(unit)
    assert store.names() == []


async def test_a_unit_that_raises_stop_iteration_harms_nobody(store: ControlledStore) -> None:
    with pytest.raises(RuntimeError):
        await store.write(lambda _: next(iter(())))


async def test_text_that_cannot_be_stored_is_an_invalid_argument(store: ControlledStore) -> None:
    with pytest.raises(InvalidArgument):
        await store.read(lambda tx: installation.get(tx, "\0"))


async def test_a_row_that_is_there_is_a_violated_constraint(store: ControlledStore) -> None:
    runs = 0

    def unit(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        now = table.insert().values(name="a", value=b"")
        tx.run(postgresql.Command(now))

    await store.write(unit)
    with pytest.raises(ConstraintViolated):
        await store.write(unit)
    assert runs == 3  # the second doubts once: a concurrent unit may have just made the row


async def test_a_unit_that_hides_a_failed_statement_is_not_reported_as_done(
    store: ControlledStore,
) -> None:
    def unit(tx: Transaction) -> None:
        installation.put(tx, "a", b"")
        try:
            connection_of(tx).execute("SELECT 1/0")
        except psycopg.Error:
            return

    with pytest.raises(Unavailable):
        await store.write(unit)
    assert store.names() == []


async def test_the_loop_runs_while_a_unit_does(store: ControlledStore) -> None:
    may_end = threading.Event()
    reading = asyncio.create_task(store.read(lambda _: may_end.wait(SECONDS)))
    await asyncio.sleep(0)
    may_end.set()
    assert await reading


async def test_what_a_cancelled_caller_asked_for_is_committed(store: ControlledStore) -> None:
    store.may_commit.clear()
    leaves = asyncio.ensure_future(store.write(put("a")))
    assert await asyncio.to_thread(store.in_commit.wait, SECONDS)
    leaves.cancel()
    store.may_commit.set()
    await database.settled(store)
    assert leaves.cancelled()
    assert store.names() == ["a"]


async def test_failure_of_a_unit_that_nobody_waits_for_is_logged(store: ControlledStore) -> None:
    with capture_logs() as logs:
        store.submit(lambda _: 1 // 0)
        await database.settled(store)
        await asyncio.sleep(0)
    assert [entry["log_level"] for entry in logs if "nobody" in entry["event"]] == ["error"]


# --- reads


async def test_a_reading_unit_sees_one_snapshot(store: ControlledStore) -> None:
    def unit(tx: Transaction) -> tuple[list[str], list[str]]:
        before = tx.all(NAMES)
        store.ask("INSERT INTO installation VALUES ('meanwhile', '')")
        return before, tx.all(NAMES)

    assert await store.read(unit) == ([], [])
    assert await store.read(lambda tx: tx.all(NAMES)) == ["meanwhile"]


async def test_a_reading_unit_cannot_write(store: ControlledStore) -> None:
    with pytest.raises(Unavailable):
        await store.read(put("a"))
    assert store.names() == []


async def test_a_caller_that_was_answered_reads_its_own_write(store: ControlledStore) -> None:
    await store.write(put("a"))
    assert await store.read(lambda tx: tx.all(NAMES)) == ["a"]


async def test_a_failing_read_does_not_spoil_the_next(store: ControlledStore) -> None:
    for _ in range(postgresql._READERS):
        with pytest.raises(ZeroDivisionError):
            await store.read(lambda _: 1 // 0)
    assert await store.read(lambda tx: tx.all(NAMES)) == []


# --- units that meet


async def test_of_two_units_that_read_what_the_other_writes_one_runs_again(
    store: ControlledStore,
) -> None:
    """Write skew: each would be right alone, and snapshots alone would let both through."""
    both_read = threading.Barrier(2, timeout=SECONDS)
    runs = 0

    def unit(name: str) -> Callable[[Transaction], None]:
        def put_unless_there_is_one(tx: Transaction) -> None:
            nonlocal runs
            runs += 1
            there = tx.all(NAMES)
            if runs <= 2:
                both_read.wait()
            if not there:
                installation.put(tx, name, b"")

        return put_unless_there_is_one

    await asyncio.gather(store.write(unit("a")), store.write(unit("b")))
    assert len(store.names()) == 1
    assert runs == 3


async def test_units_that_count_lose_nothing(store: ControlledStore) -> None:
    def count(tx: Transaction) -> None:
        kept = installation.get(tx, "count")
        installation.put(tx, "count", b"x" + (kept or b""))

    await asyncio.gather(*(store.write(count) for _ in range(24)))
    assert await store.read(lambda tx: installation.get(tx, "count")) == b"x" * 24


async def test_units_that_lock_each_other_out_are_run_again(store: ControlledStore) -> None:
    await store.write(put("a"))
    await store.write(put("b"))
    both_hold = threading.Barrier(2, timeout=SECONDS)
    runs = 0

    def unit(first: str, second: str) -> Callable[[Transaction], None]:
        def put_both(tx: Transaction) -> None:
            nonlocal runs
            runs += 1
            installation.put(tx, first, b"1")
            if runs <= 2:
                both_hold.wait()
            installation.put(tx, second, b"1")

        return put_both

    await asyncio.gather(store.write(unit("a", "b")), store.write(unit("b", "a")))
    assert runs > 2


async def test_a_unit_that_meets_others_for_ever_is_unavailable(
    store: ControlledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_ATTEMPTS", 3)
    runs = 0

    def unit(_: Transaction) -> None:
        nonlocal runs
        runs += 1
        raise errors.SerializationFailure

    with pytest.raises(Unavailable) as refused:
        await store.write(unit)
    assert refused.value.retry_after
    assert runs == 3


async def test_conflict_that_shows_at_the_commit_is_run_again(store: ControlledStore) -> None:
    def once(_: Connection) -> None:
        store.before = None
        raise errors.SerializationFailure

    store.before = once
    await store.write(put("a"))
    assert store.names() == ["a"]


# --- a connection that breaks


async def test_unit_whose_connection_broke_before_its_commit_is_run_on_a_new_one(
    store: ControlledStore,
) -> None:
    runs = 0

    def unit(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        installation.put(tx, "a", b"")
        if runs == 1:
            store.cut(connection_of(tx))
        tx.all(NAMES)

    await store.write(unit)
    assert runs == 2
    assert store.names() == ["a"]


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_connections_that_broke_while_idle_are_not_noticed(
    store: ControlledStore, kind: str
) -> None:
    run = getattr(store, kind)
    await asyncio.gather(*(run(lambda tx: tx.all(NAMES)) for _ in range(20)))
    store.ask(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert await asyncio.gather(*(run(lambda tx: tx.all(NAMES)) for _ in range(20))) == [[]] * 20


async def test_connection_that_breaks_again_and_again_is_unavailable(
    store: ControlledStore,
) -> None:
    def unit(tx: Transaction) -> None:
        store.cut(connection_of(tx))
        tx.all(NAMES)

    with pytest.raises(Unavailable) as refused:
        await store.write(unit)
    assert refused.value.retry_after


async def test_outcome_is_unknown_when_the_connection_breaks_during_the_commit(
    store: ControlledStore,
) -> None:
    store.before = store.cut
    with pytest.raises(Unavailable) as refused:
        await store.write(put("a"))
    assert "not known" in refused.value.reason
    assert "not known" not in refused.value.message


async def test_unit_of_an_unknown_outcome_is_not_run_again(store: ControlledStore) -> None:
    """It may have been committed, as here; whoever asked comes back and finds it."""
    runs = 0

    def lose(connection: Connection) -> None:
        connection.close()
        raise psycopg.OperationalError("the answer was lost")

    def unit(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        installation.put(tx, "a", b"")

    store.after = lose
    with pytest.raises(Unavailable):
        await store.write(unit)
    assert runs == 1
    assert store.names() == ["a"]


async def test_the_store_works_again_after_an_unknown_outcome(store: ControlledStore) -> None:
    store.before = store.cut
    with pytest.raises(Unavailable):
        await store.write(put("a"))
    store.before = None
    await store.write(put("b"))
    assert store.names() == ["b"]


# --- a server that does not do what it is asked


@pytest.mark.parametrize("state", ["53100", "57014", "55P03", "58030", "40000"])
async def test_server_that_cannot_now_is_unavailable(store: ControlledStore, state: str) -> None:
    """Disk full, statement and lock timeout, I/O error, a transaction that it rolled back."""

    def unit(tx: Transaction) -> None:
        installation.put(tx, "a", b"")
        raising = (
            f"DO $$ BEGIN RAISE EXCEPTION 'at /secret/place' USING ERRCODE = '{state}'; END $$"
        )
        connection_of(tx).execute(raising.encode())

    with pytest.raises(Unavailable) as refused:
        await store.write(unit)
    assert refused.value.retry_after
    assert "/secret/place" not in refused.value.message
    assert "/secret/place" in refused.value.reason
    assert store.names() == []
    await store.write(put("b"))


async def test_statement_that_takes_too_long_is_unavailable(store: ControlledStore) -> None:
    def unit(tx: Transaction) -> None:
        connection_of(tx).execute("SET LOCAL statement_timeout = 20")
        connection_of(tx).execute("SELECT pg_sleep(60)")

    with pytest.raises(Unavailable):
        await store.write(unit)


async def test_row_that_somebody_holds_for_too_long_is_unavailable_and_then_over(
    store: ControlledStore,
) -> None:
    await store.write(put("a"))

    def unit(tx: Transaction) -> None:
        connection_of(tx).execute("SET LOCAL lock_timeout = 20")
        installation.put(tx, "a", b"1")

    with psycopg.connect(store.url) as holder:
        holder.execute("UPDATE installation SET value = 'held'")
        with pytest.raises(Unavailable):
            await store.write(unit)
    await store.write(unit)


async def test_database_that_was_made_read_only_is_unavailable_until_it_is_not(
    store: ControlledStore,
) -> None:
    name = database.name_of(store.url)
    store.ask(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store.ask(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    try:
        with pytest.raises(Unavailable):
            await store.write(put("a"))
        assert await store.read(lambda tx: tx.all(NAMES)) == []
    finally:
        with psycopg.connect(store.url) as other:
            other.read_only = False
            other.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
    await store.write(put("b"))
    assert store.names() == ["b"]


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """One that a test may stop."""
    with cluster() as made:
        with psycopg.connect(made.url("postgres")) as connection:
            connection.execute("CREATE TABLE installation (name text PRIMARY KEY, value bytea)")
        yield made


async def test_server_that_goes_away_is_unavailable_and_needs_no_restart_when_it_is_back(
    own_cluster: Cluster,
) -> None:
    store = ControlledStore(own_cluster.url("postgres"))
    try:
        await store.write(put("before"))
        own_cluster.stop()
        try:
            for run in (store.write(put("during")), store.read(lambda tx: tx.all(NAMES))):
                with pytest.raises(Unavailable) as refused:
                    await run
                assert refused.value.retry_after
        finally:
            own_cluster.start()
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    await store.write(put("after"))
                except Unavailable:
                    await asyncio.sleep(0.05)  # its backoff
                else:
                    break
        assert store.names() == ["after", "before"]
    finally:
        store.close()


async def test_commit_that_did_not_reach_the_standby_is_of_unknown_outcome(
    own_cluster: Cluster,
) -> None:
    """The server only warns: it has committed on its own disk, and nowhere else."""
    store = ControlledStore(own_cluster.url("postgres"))
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    try:
        store.ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        store.ask("SELECT pg_reload_conf()")
        writing = asyncio.ensure_future(store.write(put("standby")))
        async with asyncio.timeout(SECONDS):
            while not (found := await asyncio.to_thread(store.ask, waiting)):
                assert not writing.done() or store.ask("SHOW synchronous_standby_names")
                if writing.done():  # committed before the server had read its configuration
                    writing = asyncio.ensure_future(store.write(put("standby")))
        store.ask(f"SELECT pg_cancel_backend({found[0][0]})")
        with pytest.raises(Unavailable) as refused:
            await writing
        assert "not known" in refused.value.reason
    finally:
        store.ask("ALTER SYSTEM RESET synchronous_standby_names")
        store.ask("SELECT pg_reload_conf()")
        store.close()


# --- how a connection is set up


async def every_connection(store: ControlledStore, ask: str) -> set[object]:
    """What each of the store's connections answers."""
    meet = {
        "read": threading.Barrier(postgresql._READERS, timeout=SECONDS),
        "write": threading.Barrier(postgresql._WRITERS, timeout=SECONDS),
    }

    def unit(kind: str) -> Callable[[Transaction], object]:
        def run(tx: Transaction) -> object:
            meet[kind].wait()
            row = connection_of(tx).execute(ask.encode()).fetchone()
            return row[0] if row else None

        return run

    reads = (store.read(unit("read")) for _ in range(postgresql._READERS))
    writes = (store.write(unit("write")) for _ in range(postgresql._WRITERS))
    return set(await asyncio.gather(*reads, *writes))


@pytest.mark.parametrize("of_database", ["off", "local", "remote_write", "on"])
async def test_commits_are_durable_whatever_the_database_says(
    store: ControlledStore, of_database: str
) -> None:
    name = database.name_of(store.url)
    store.ask(f"ALTER DATABASE {name} SET synchronous_commit = {of_database}")
    other = ControlledStore(store.url)
    try:
        assert await every_connection(other, "SHOW synchronous_commit") == {"on"}
    finally:
        other.close()
        store.ask(f"ALTER DATABASE {name} RESET synchronous_commit")


async def test_more_than_durable_is_left_as_it_is(store: ControlledStore) -> None:
    name = database.name_of(store.url)
    store.ask(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
    other = ControlledStore(store.url)
    try:
        assert await every_connection(other, "SHOW synchronous_commit") == {"remote_apply"}
    finally:
        other.close()
        store.ask(f"ALTER DATABASE {name} RESET synchronous_commit")


def test_server_that_keeps_another_synchronous_commit_is_refused(
    store: ControlledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pooler that gives the session's settings to somebody else."""
    monkeypatch.setattr(
        "fleetroot.storage.postgresql_connection._SESSION", "SET synchronous_commit = off"
    )
    with pytest.raises(Unavailable, match="synchronous_commit stays off"):
        connect(Address.parse(store.url))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TimeZone", "UTC"),
        ("client_encoding", "UTF8"),
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ],
)
async def test_every_connection_is_set_up(store: ControlledStore, setting: str, value: str) -> None:
    assert await every_connection(store, f"SHOW {setting}") == {value}


def test_database_of_another_encoding_is_refused(store: ControlledStore) -> None:
    store.ask("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(Unavailable, match="SQL_ASCII"):
            connect(Address.parse(store.url.replace(database.name_of(store.url), "ascii")))
    finally:
        store.ask("DROP DATABASE ascii")


def test_server_that_could_lose_a_commit_is_warned_of_once(
    store: ControlledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleetroot.storage.postgresql_connection._warned", set())
    with capture_logs() as logs:
        for _ in range(2):
            connect(Address.parse(store.url)).close()
    assert [entry["fsync"] for entry in logs if entry["log_level"] == "warning"] == ["off"]


# --- the URL


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@db.example:5433/fleet", "fleet on db.example:5433"),
        ("postgres://u:secret@db.example/fleet?sslmode=require", "fleet on db.example"),
        ("postgresql:///fleet?host=/run/pg&password=secret", "fleet on /run/pg"),
    ],
)
def test_address_is_shown_without_its_password(url: str, shown: str) -> None:
    address = Address.parse(url)
    assert str(address) == shown
    assert "secret" not in repr(address)
    assert "secret" in address.conninfo


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/d", "postgresql://u:secret@h/d?no_such=1", "postgresql://[secret"]
)
def test_url_that_is_none_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Address.parse(url)
    assert "secret" not in str(refused.value)


def test_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(Unavailable, match=r"fleet on 127\.0\.0\.1:1") as refused:
        PostgresStore(Address.parse("postgresql://u:secret@127.0.0.1:1/fleet"))
    assert "secret" not in str(refused.value)


# --- close


async def test_close_finishes_what_was_accepted(store: ControlledStore) -> None:
    store.may_commit.clear()
    for n in range(50):
        store.submit(put(f"{n:02}"))
    closing = asyncio.create_task(asyncio.to_thread(store.close))
    store.may_commit.set()
    await closing
    assert len(store.names()) == 50


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_after_close_everything_is_unavailable(store: ControlledStore, kind: str) -> None:
    store.close()
    store.close()
    with pytest.raises(Unavailable):
        await getattr(store, kind)(lambda _: None)


async def test_a_closed_store_leaves_no_connection(store: ControlledStore) -> None:
    await asyncio.gather(*(store.read(lambda tx: tx.all(NAMES)) for _ in range(20)))
    store.close()
    async with asyncio.timeout(SECONDS):
        while store.ask(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ):
            await asyncio.sleep(0.01)
