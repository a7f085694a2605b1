"""The unit of work on SQLite: atomic each, many to one durable commit, answered after it."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from structlog.testing import capture_logs

from fleetroot.errors import Unavailable
from fleetroot.storage import Query, SqliteStore, Transaction, installation, migrate, sqlite
from fleetroot.storage.schema import installation as table

pytestmark = pytest.mark.sqlite(reason="the one writer and its shared commits")
SECONDS = 10
NAMES = Query(select(table.c.name).order_by(table.c.name), str)


class ControlledStore(SqliteStore):
    """A store whose commits a test counts, holds up and fails."""

    def __init__(self, path: Path) -> None:
        self.commits = 0
        self.fails: Exception | None = None
        self.in_write = threading.Event()
        self.in_commit = threading.Event()
        self.may_commit = threading.Event()
        self.may_commit.set()
        super().__init__(path)

    def _write(self, batch: list[sqlite._Unit]) -> list[sqlite._Outcome]:
        self.in_write.set()
        return super()._write(batch)

    def _commit(self, connection: sqlite3.Connection) -> None:
        self.in_commit.set()
        assert self.may_commit.wait(SECONDS)
        if self.fails is not None:
            raise self.fails
        super()._commit(connection)
        self.commits += 1

    async def hold_up(self) -> asyncio.Future[None]:
        """Lets a unit run up to its commit, which waits for `may_commit`."""
        self.may_commit.clear()
        self.in_commit.clear()
        task = asyncio.ensure_future(self.write(put("held up")))
        assert await asyncio.to_thread(self.in_commit.wait, SECONDS)
        return task


@pytest.fixture
async def store(database: Path) -> AsyncIterator[ControlledStore]:
    made = ControlledStore(database)
    yield made
    made.may_commit.set()
    made.close()


def put(name: str, value: bytes = b"") -> Callable[[Transaction], None]:
    return lambda tx: installation.put(tx, name, value)


def put_then_fail(name: str) -> Callable[[Transaction], None]:
    def unit(tx: Transaction) -> None:
        installation.put(tx, name, b"")
        raise LookupError(name)

    return unit


def names_in(path: Path) -> list[str]:
    """What another connection sees: what is committed."""
    connection = sqlite3.connect(path)
    try:
        return [name for (name,) in connection.execute("SELECT name FROM installation ORDER BY 1")]
    finally:
        connection.close()


# --- when a caller is answered


async def test_caller_is_answered_only_after_the_commit(store: ControlledStore) -> None:
    task = await store.hold_up()
    assert not task.done()
    store.may_commit.set()
    await task


async def test_what_is_not_committed_is_seen_by_nobody(
    store: ControlledStore, database: Path
) -> None:
    task = await store.hold_up()
    assert names_in(database) == []
    assert await store.read(lambda tx: tx.all(NAMES)) == []
    store.may_commit.set()
    await task
    assert names_in(database) == ["held up"]


async def test_no_caller_of_a_shared_commit_is_answered_before_it(store: ControlledStore) -> None:
    store.may_commit.clear()
    others = [asyncio.ensure_future(store.write(put(f"{n}"))) for n in range(20)]
    failing = asyncio.ensure_future(store.write(put_then_fail("x")))
    assert await asyncio.to_thread(store.in_commit.wait, SECONDS)
    assert not any(task.done() for task in (*others, failing))
    store.may_commit.set()
    await asyncio.gather(*others)
    with pytest.raises(LookupError):
        await failing


async def test_a_unit_returns_its_value(store: ControlledStore) -> None:
    assert await store.write(lambda _: 42) == 42


# --- shared commits


async def test_units_of_one_turn_of_the_loop_share_a_commit(store: ControlledStore) -> None:
    await asyncio.gather(*(store.write(put(f"{n}")) for n in range(100)))
    assert store.commits == 1


async def test_units_submitted_while_the_writer_is_busy_share_a_commit(
    store: ControlledStore,
) -> None:
    held_up = await store.hold_up()
    others = []
    for n in range(100):
        others.append(asyncio.ensure_future(store.write(put(f"{n}"))))
        await asyncio.sleep(0)  # each in a turn of its own
    store.may_commit.set()
    await asyncio.gather(held_up, *others)
    assert store.commits == 2


async def test_a_commit_takes_no_more_than_its_share(store: ControlledStore) -> None:
    most = sqlite._MAX_BATCH
    await asyncio.gather(*(store.write(lambda _: None) for _ in range(2 * most + 1)))
    assert store.commits == 3


async def test_units_take_effect_in_the_order_of_submission(store: ControlledStore) -> None:
    ran: list[int] = []
    held_up = await store.hold_up()
    others = []
    for n in range(1200):  # over several batches
        others.append(asyncio.ensure_future(store.write(lambda _, n=n: ran.append(n))))
    await asyncio.sleep(0)
    store.may_commit.set()
    await asyncio.gather(held_up, *others)
    assert ran == list(range(1200))


async def test_a_unit_sees_what_the_units_before_it_did(store: ControlledStore) -> None:
    first, second = store.write(put("a", b"1")), store.write(lambda tx: installation.get(tx, "a"))
    assert (await asyncio.gather(first, second))[1] == b"1"
    assert store.commits == 1


# --- a unit that fails


async def test_a_failing_unit_leaves_nothing(store: ControlledStore, database: Path) -> None:
    with pytest.raises(LookupError, match="gone"):
        await store.write(put_then_fail("gone"))
    assert names_in(database) == []


async def test_a_failing_unit_leaves_the_others_of_its_commit_intact(
    store: ControlledStore, database: Path
) -> None:
    found = await asyncio.gather(
        store.write(put("a")),
        store.write(put_then_fail("b")),
        store.write(put("c")),
        return_exceptions=True,
    )
    assert [type(one) for one in found] == [type(None), LookupError, type(None)]
    assert names_in(database) == ["a", "c"]
    assert store.commits == 1


@pytest.mark.parametrize(
    "value", [object(), "\ud800", 2**70], ids=["no column type", "no Unicode", "over 64 bits"]
)
async def test_a_value_that_cannot_be_stored_fails_its_own_unit_alone(
    store: ControlledStore, database: Path, value: object
) -> None:
    def unit(tx: Transaction) -> None:
        installation.put(tx, "b", b"")
        installation.get(tx, value)  # type: ignore[arg-type]

    bad, good = await asyncio.gather(
        store.write(unit), store.write(put("c")), return_exceptions=True
    )
    assert isinstance(bad, Exception)
    assert not isinstance(bad, Unavailable)
    assert good is None
    assert names_in(database) == ["c"]


async def test_a_unit_that_raises_stop_iteration_harms_nobody(store: ControlledStore) -> None:
    found = await asyncio.gather(
        store.write(lambda _: next(iter(()))), store.write(put("a")), return_exceptions=True
    )
    assert [type(one) for one in found] == [RuntimeError, type(None)]


async def test_failure_of_a_unit_that_nobody_waits_for_is_logged(store: ControlledStore) -> None:
    with capture_logs() as logs:
        store.submit(put_then_fail("x"))
        await store.write(put("a"))
        await asyncio.sleep(0)
    assert [entry["log_level"] for entry in logs] == ["error"]


# --- a caller that goes away


async def test_a_cancelled_caller_does_not_disturb_the_others(
    store: ControlledStore, database: Path
) -> None:
    held_up = await store.hold_up()
    leaves = asyncio.ensure_future(store.write(put("leaves")))
    stays = asyncio.ensure_future(store.write(put("stays")))
    await asyncio.sleep(0)
    leaves.cancel()
    store.may_commit.set()
    await asyncio.gather(held_up, stays)
    assert leaves.cancelled()
    assert "stays" in names_in(database)


async def test_a_caller_cancelled_during_the_commit_does_not_disturb_the_store(
    store: ControlledStore,
) -> None:
    leaves = await store.hold_up()
    leaves.cancel()
    store.may_commit.set()
    await store.write(put("next"))
    assert await store.read(lambda tx: tx.all(NAMES)) == ["held up", "next"]


# --- the disk fails


async def test_when_a_commit_fails_every_caller_of_it_is_told_to_come_back(
    store: ControlledStore,
) -> None:
    store.fails = sqlite3.OperationalError("disk I/O error")
    found = await asyncio.gather(
        *(store.write(put(f"{n}")) for n in range(3)), return_exceptions=True
    )
    assert [type(one) for one in found] == [Unavailable] * 3
    assert all(one.retry_after for one in found if isinstance(one, Unavailable))


async def test_when_a_commit_fails_nothing_of_it_is_kept(
    store: ControlledStore, database: Path
) -> None:
    store.fails = sqlite3.OperationalError("disk I/O error")
    with pytest.raises(Unavailable):
        await store.write(put("a"))
    assert names_in(database) == []


async def test_the_store_works_again_after_a_commit_failed(
    store: ControlledStore, database: Path
) -> None:
    store.fails = sqlite3.OperationalError("disk I/O error")
    with pytest.raises(Unavailable):
        await store.write(put("a"))
    store.fails = None
    await store.write(put("b"))
    assert names_in(database) == ["b"]


async def test_the_peer_is_not_told_what_the_database_said(store: ControlledStore) -> None:
    store.fails = sqlite3.OperationalError("disk I/O error on /secret/place")
    with pytest.raises(Unavailable) as refused:
        await store.write(put("a"))
    assert "/secret/place" not in refused.value.message
    assert "/secret/place" in refused.value.reason


async def test_when_the_disk_fails_within_a_unit_nothing_of_its_commit_is_kept(
    store: ControlledStore, database: Path
) -> None:
    """SQLite may have ended the whole transaction: nobody may be told that it stands."""

    def unit(_: Transaction) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    found = await asyncio.gather(store.write(put("a")), store.write(unit), return_exceptions=True)
    assert [type(one) for one in found] == [Unavailable] * 2
    assert names_in(database) == []


@contextmanager
def full_disk(store: SqliteStore) -> Iterator[None]:
    """SQLite's own simulation: no page more than there are."""
    connection = store._writer_connection
    [(pages,)] = connection.execute("PRAGMA page_count").fetchall()
    connection.execute(f"PRAGMA max_page_count={pages}")
    yield
    connection.execute("PRAGMA max_page_count=1000000")


async def test_on_a_full_disk_nothing_is_kept_and_everybody_of_the_commit_is_told(
    store: ControlledStore, database: Path
) -> None:
    with full_disk(store):
        found = await asyncio.gather(
            store.write(put("small")), store.write(put("big", bytes(10**6))), return_exceptions=True
        )
    assert [type(one) for one in found] == [Unavailable] * 2
    assert names_in(database) == []


async def test_the_store_works_again_when_there_is_room(
    store: ControlledStore, database: Path
) -> None:
    with full_disk(store), pytest.raises(Unavailable):
        await store.write(put("big", bytes(10**6)))
    await store.write(put("big", bytes(10**6)))
    assert names_in(database) == ["big"]


# --- another process

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


@contextmanager
def write_lock_held(database: Path) -> Iterator[Callable[[], None]]:
    """Another process holds the write lock until the yielded function is called."""
    command = [sys.executable, "-c", HOLDER, str(database)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"

        def release() -> None:
            process.communicate("\n", timeout=SECONDS)

        try:
            yield release
        finally:
            process.kill()


async def test_a_write_waits_for_another_process_that_holds_the_lock(
    store: ControlledStore, database: Path
) -> None:
    with write_lock_held(database) as release:
        task = asyncio.ensure_future(store.write(put("a")))
        assert await asyncio.to_thread(store.in_write.wait, SECONDS)
        assert not task.done()
        release()
        await task
    assert names_in(database) == ["a"]


async def test_a_lock_that_is_held_too_long_is_unavailable_and_then_over(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.05)
    store = SqliteStore(database)
    try:
        with write_lock_held(database) as release:
            with pytest.raises(Unavailable):
                await store.write(put("a"))
            release()
        await store.write(put("b"))
    finally:
        store.close()
    assert names_in(database) == ["b"]


async def test_reads_do_not_wait_for_a_writer(store: ControlledStore, database: Path) -> None:
    with write_lock_held(database):
        assert await store.read(lambda tx: tx.all(NAMES)) == []


WRITER = """
import asyncio, sys
from pathlib import Path
from fleetroot.storage import SqliteStore, installation
async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.write(lambda tx: installation.put(tx, "answered", b""))
    print("answered", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_what_was_answered_survives_the_death_of_the_process(database: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "answered\n"
        process.send_signal(signal.SIGKILL)
    assert names_in(database) == ["answered"]


# --- reads


async def test_a_reading_unit_sees_one_snapshot(store: ControlledStore, database: Path) -> None:
    def unit(tx: Transaction) -> tuple[list[str], list[str]]:
        before = tx.all(NAMES)
        with sqlite3.connect(database) as other:
            other.execute("INSERT INTO installation VALUES ('meanwhile', '')")
        return before, tx.all(NAMES)

    assert await store.read(unit) == ([], [])
    assert await store.read(lambda tx: tx.all(NAMES)) == ["meanwhile"]


async def test_a_reading_unit_cannot_write(store: ControlledStore, database: Path) -> None:
    with pytest.raises(Unavailable):
        await store.read(put("a"))
    assert names_in(database) == []


async def test_a_failing_read_does_not_spoil_the_next(store: ControlledStore) -> None:
    with pytest.raises(ZeroDivisionError):
        await store.read(lambda _: 1 // 0)
    assert await store.read(lambda tx: tx.all(NAMES)) == []


async def test_a_caller_that_was_answered_reads_its_own_write(store: ControlledStore) -> None:
    await store.write(put("a"))
    assert await store.read(lambda tx: tx.all(NAMES)) == ["a"]


# --- how the connections are set up


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]
)
async def test_both_connections_are_durable_and_hold_references(
    store: ControlledStore, pragma: str, value: object
) -> None:
    def ask(connection: sqlite3.Connection) -> object:
        return connection.execute(f"PRAGMA {pragma}").fetchone()[0]

    await store.read(lambda _: None)
    [reader] = store._readers
    assert (ask(store._writer_connection), ask(reader)) == (value, value)


# --- close


async def test_close_finishes_what_was_accepted(database: Path) -> None:
    store = ControlledStore(database)
    held_up = await store.hold_up()
    many = 3 * sqlite._MAX_BATCH
    accepted = [asyncio.ensure_future(store.write(put(f"{n:04}"))) for n in range(many)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(store.close))
    while not store._closed:
        await asyncio.sleep(0)
    store.may_commit.set()
    await asyncio.gather(held_up, *accepted, closing)
    assert len(names_in(database)) == many + 1


async def test_close_at_once_finishes_what_was_accepted(database: Path) -> None:
    store = SqliteStore(database)
    for n in range(2000):
        store.submit(put(f"{n:04}"))
    store.close()
    assert len(names_in(database)) == 2000


async def test_a_write_after_close_is_unavailable(store: ControlledStore) -> None:
    store.close()
    with pytest.raises(Unavailable):
        await store.write(put("late"))


@pytest.mark.parametrize("has_read", [True, False])
async def test_a_read_after_close_is_unavailable(store: ControlledStore, has_read: bool) -> None:
    if has_read:
        await store.read(lambda _: None)
    store.close()
    with pytest.raises(Unavailable):
        await store.read(lambda _: None)


async def test_closing_twice_is_closing_once(store: ControlledStore) -> None:
    store.close()
    store.close()


# --- against a model

Step = tuple[str, str, bytes]


def steps() -> st.SearchStrategy[list[list[Step]]]:
    """Batches of units: each puts a name, and some fail after it or lose their caller."""
    step = st.tuples(
        st.sampled_from(["put", "put", "fail", "cancel"]), st.sampled_from("abc"), st.binary()
    )
    return st.lists(st.lists(step, max_size=6), max_size=6)


@given(steps())
@settings(max_examples=40, deadline=None)
def test_any_mixture_of_units_leaves_what_the_ones_that_did_not_fail_put(
    batches: list[list[Step]],
) -> None:
    expected: dict[str, bytes] = {}

    async def run(path: Path) -> dict[str, bytes | None]:
        store = SqliteStore(path)
        try:
            for batch in batches:
                tasks = []
                for kind, name, value in batch:
                    task = asyncio.ensure_future(store.write(_unit(kind, name, value)))
                    tasks.append(task)
                    if kind != "fail":
                        expected[name] = value
                await asyncio.sleep(0)  # accepted
                for task, (kind, _, _) in zip(tasks, batch, strict=True):
                    if kind == "cancel":
                        task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await store.write(lambda _: None)  # behind all of those whose callers left
            return await store.read(
                lambda tx: {name: installation.get(tx, name) for name in tx.all(NAMES)}
            )
        finally:
            store.close()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleetroot.db"
        engine = migrate.sqlite_engine(path)
        with engine.begin() as connection:
            table.create(connection)
        engine.dispose()
        assert asyncio.run(run(path)) == expected


def _unit(kind: str, name: str, value: bytes) -> Callable[[Transaction], None]:
    def unit(tx: Transaction) -> None:
        installation.put(tx, name, value)
        if kind == "fail":
            raise LookupError(name)

    return unit
