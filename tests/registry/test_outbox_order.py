"""The outbox on PostgreSQL, where a lower number may be committed after a higher one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest

import database
from fleetroot.audit import SYSTEM
from fleetroot.hub.model import Ending
from fleetroot.registry import devices, outbox
from fleetroot.registry.outbox import Kind, Notice, OutboxReader
from fleetroot.storage.postgresql import PostgresTransaction
from fleetroot.storage.postgresql_connection import Address, Connection, connect
from workbench import Workbench

pytestmark = pytest.mark.postgresql(reason="SQLite runs one transaction after the other")


class Reading:
    """A reader and whom it told of."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.told: list[str] = []
        self.reader = OutboxReader(bench.store, bench.bus, bench.clock)
        self.reader.listen(self._notice)

    async def _notice(self, notice: Notice) -> None:
        self.told.append(notice.subject)


@pytest.fixture
def other(bench: Workbench) -> Iterator[ExitStack]:
    """Ends what a test leaves open."""
    with ExitStack() as stack:
        yield stack


@contextmanager
def _transaction(bench: Workbench, subject: str) -> Iterator[Connection]:
    url = database.url_of(bench.folder)
    assert url is not None
    connection = connect(Address.parse(url))
    connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
    tx = PostgresTransaction(connection)
    # Whoever appends has changed something before.
    connection.execute("UPDATE devices SET version = version WHERE false")
    connection.execute("INSERT INTO installation VALUES (%s, '')", (subject,))
    outbox.append(tx, Kind.DEVICE_REVOKED, namespace_id="n", subject=subject, now=bench.clock.now())
    try:
        yield connection
    finally:
        connection.close()


async def append(bench: Workbench, subject: str) -> None:
    now = bench.clock.now()
    await bench.store.store.write(
        lambda tx: outbox.append(
            tx, Kind.DEVICE_REVOKED, namespace_id="n", subject=subject, now=now
        )
    )


@pytest.fixture
async def reading(bench: Workbench) -> Reading:
    made = Reading(bench)
    await made.reader.start()
    return made


async def test_row_that_is_committed_after_a_later_one_is_told(
    bench: Workbench, reading: Reading, other: ExitStack
) -> None:
    slow = other.enter_context(_transaction(bench, "slow"))
    await append(bench, "quick")
    await reading.reader.drain()
    assert reading.told == ["quick"]
    slow.execute("COMMIT")
    await reading.reader.drain()
    assert reading.told == ["quick", "slow"]


async def test_late_row_is_told_once(bench: Workbench, reading: Reading, other: ExitStack) -> None:
    slow = other.enter_context(_transaction(bench, "slow"))
    await append(bench, "quick")
    await reading.reader.drain()
    slow.execute("COMMIT")
    for _ in range(3):
        await reading.reader.drain()
    assert reading.told == ["quick", "slow"]


async def test_late_row_is_told_though_much_was_committed_in_between(
    bench: Workbench, reading: Reading, other: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_BATCH", 5)
    slow = other.enter_context(_transaction(bench, "slow"))
    for n in range(30):
        await append(bench, f"{n}")
        await reading.reader.drain()
    slow.execute("COMMIT")
    await reading.reader.drain()
    assert reading.told == [*(f"{n}" for n in range(30)), "slow"]


async def test_rows_of_several_slow_transactions_are_told_as_they_come(
    bench: Workbench, reading: Reading, other: ExitStack
) -> None:
    slow = [other.enter_context(_transaction(bench, f"slow-{n}")) for n in range(3)]
    await append(bench, "quick")
    await reading.reader.drain()
    for n in (1, 2, 0):
        slow[n].execute("COMMIT")
        await reading.reader.drain()
    assert reading.told == ["quick", "slow-1", "slow-2", "slow-0"]


async def test_row_under_way_when_the_reader_starts_is_told(
    bench: Workbench, other: ExitStack
) -> None:
    """A device that connected in between has read the truth before that row's."""
    slow = other.enter_context(_transaction(bench, "slow"))
    await append(bench, "quick")
    reading = Reading(bench)
    await reading.reader.start()
    await reading.reader.drain()
    assert reading.told == []
    slow.execute("COMMIT")
    await reading.reader.drain()
    assert reading.told == ["slow"]


async def test_number_of_a_transaction_that_was_rolled_back_is_not_looked_for_for_ever(
    bench: Workbench, reading: Reading, other: ExitStack
) -> None:
    slow = other.enter_context(_transaction(bench, "slow"))
    await append(bench, "quick")
    await reading.reader.drain()
    assert len(reading.reader._missing) == 1
    await reading.reader.drain()
    assert len(reading.reader._missing) == 1  # it is still under way
    slow.execute("ROLLBACK")
    await reading.reader.drain()
    assert reading.reader._missing == {}


async def test_late_row_is_not_removed_before_it_was_told(
    bench: Workbench, reading: Reading, other: ExitStack
) -> None:
    """For a clock that was set forward it is old as soon as it is there."""
    slow = other.enter_context(_transaction(bench, "slow"))
    await append(bench, "quick")
    await reading.reader.drain()
    bench.clock.advance(timedelta(hours=2))
    slow.execute("COMMIT")
    await reading.reader.prune()
    await reading.reader.drain()
    assert reading.told == ["quick", "slow"]


async def test_late_row_whose_listener_fails_is_told_again(
    bench: Workbench, reading: Reading, other: ExitStack
) -> None:
    slow = other.enter_context(_transaction(bench, "slow"))
    await append(bench, "quick")
    await reading.reader.drain()
    slow.execute("COMMIT")
    failing = True

    async def fail_once(_: Notice) -> None:
        nonlocal failing
        if failing:
            failing = False
            raise RuntimeError

    reading.reader.listen(fail_once)
    with pytest.raises(RuntimeError):
        await reading.reader.drain()
    await reading.reader.drain()
    assert reading.told == ["quick", "slow", "slow"]


async def test_revocation_that_commits_late_ends_the_connection(
    bench: Workbench, other: ExitStack
) -> None:
    """The whole way: a session, a revocation that takes its time, and another that overtakes it."""
    session = await bench.connect("dev-1", await bench.provision("dev-1"))
    await bench.provision("dev-2")
    url = database.url_of(bench.folder)
    assert url is not None
    connection = connect(Address.parse(url))
    other.callback(connection.close)
    connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
    tx = PostgresTransaction(connection)
    device = devices.get(tx, bench.made.namespace.id, "dev-1")
    devices.rotate_generation(tx, device, bench.clock.now())
    await bench.registry.revoke(bench.made.namespace, "dev-2", by=SYSTEM)
    await bench.outbox.drain()
    assert session.ended is None
    connection.execute("COMMIT")
    await bench.outbox.drain()
    assert session.ended is Ending.REVOKED
