"""The outbox's reader: every row, in order, soon, and what happens when it cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from fleetroot.bus import OUTBOX
from fleetroot.errors import Unavailable
from fleetroot.registry import outbox
from fleetroot.registry.outbox import Kind, Notice, OutboxReader
from workbench import Workbench

SECONDS = 10
LEASE = timedelta(seconds=5)


class Listener:
    """Keeps what it is told; a test waits for what it needs."""

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self.lost = 0
        self.told = asyncio.Event()
        self.before: Callable[[Notice], Awaitable[None]] | None = None

    async def notice(self, notice: Notice) -> None:
        if self.before is not None:
            await self.before(notice)
        self.subjects.append(notice.subject)
        self.told.set()

    def lease_lost(self) -> None:
        self.lost += 1
        self.told.set()

    async def wait(self, until: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not until():
                self.told.clear()
                await self.told.wait()


@pytest.fixture
def listener() -> Listener:
    return Listener()


async def reader(
    bench: Workbench, listener: Listener, interval: timedelta = timedelta(hours=1)
) -> OutboxReader:
    made = OutboxReader(bench.store, bench.bus, bench.clock, lease=LEASE, interval=interval)
    made.listen(listener.notice, listener.lease_lost)
    await made.start()
    return made


@asynccontextmanager
async def running(reader: OutboxReader) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(reader.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def append(bench: Workbench, *subjects: str) -> None:
    now = bench.clock.now()
    for subject in subjects:
        await bench.store.store.write(
            lambda tx, subject=subject: outbox.append(
                tx, Kind.DEVICE_REVOKED, namespace_id="n", subject=subject, now=now
            )
        )


# --- every row, in order


async def test_rows_are_told_in_their_order(bench: Workbench, listener: Listener) -> None:
    reads = await reader(bench, listener)
    await append(bench, *"abc")
    await reads.drain()
    assert listener.subjects == ["a", "b", "c"]


async def test_row_is_told_once(bench: Workbench, listener: Listener) -> None:
    reads = await reader(bench, listener)
    await append(bench, "a")
    await reads.drain()
    await reads.drain()
    assert listener.subjects == ["a"]


async def test_rows_from_before_the_start_are_not_told(
    bench: Workbench, listener: Listener
) -> None:
    await append(bench, "before")
    reads = await reader(bench, listener)
    await append(bench, "after")
    await reads.drain()
    assert listener.subjects == ["after"]


async def test_more_rows_than_are_read_at_once_are_all_told(
    bench: Workbench, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = await reader(bench, listener)
    now, many = bench.clock.now(), outbox._BATCH * 2 + 1

    def unit(tx: object) -> None:
        for n in range(many):
            outbox.append(
                tx,  # type: ignore[arg-type]
                Kind.DEVICE_REVOKED,
                namespace_id="n",
                subject=f"{n}",
                now=now,
            )

    await bench.store.store.write(unit)
    await reads.drain()
    assert listener.subjects == [f"{n}" for n in range(many)]


async def test_every_listener_is_told(bench: Workbench, listener: Listener) -> None:
    reads, other = await reader(bench, listener), Listener()
    reads.listen(other.notice)
    await append(bench, "a")
    await reads.drain()
    assert listener.subjects == other.subjects == ["a"]


async def test_rows_written_during_a_listeners_slow_work_are_told(
    bench: Workbench, listener: Listener
) -> None:
    reads = await reader(bench, listener)

    async def more_comes(notice: Notice) -> None:
        if notice.subject == "a":
            await append(bench, "b", "c")
            bench.bus.hint(OUTBOX)

    listener.before = more_comes
    async with running(reads):
        await append(bench, "a")
        bench.bus.hint(OUTBOX)
        await listener.wait(lambda: len(listener.subjects) == 3)
    assert listener.subjects == ["a", "b", "c"]


# --- soon


async def test_hint_wakes_the_reader_at_once(bench: Workbench, listener: Listener) -> None:
    """The interval is an hour: only the hint can have done it."""
    reads = await reader(bench, listener)
    async with running(reads):
        await append(bench, "a")
        bench.bus.hint(OUTBOX)
        await listener.wait(lambda: listener.subjects == ["a"])


async def test_reader_waits_again_after_a_hint(bench: Workbench, listener: Listener) -> None:
    reads = await reader(bench, listener)
    looked = 0

    async def count() -> None:
        nonlocal looked
        looked += 1
        bench.store.before_read.append(count)

    bench.store.before_read.append(count)
    async with running(reads):
        await append(bench, "a")
        bench.bus.hint(OUTBOX)
        await listener.wait(lambda: listener.subjects == ["a"])
        for _ in range(100):
            await asyncio.sleep(0)
    assert looked <= 4  # at the start and at the hint, each until there is nothing more


async def test_hint_during_a_read_is_not_lost(bench: Workbench, listener: Listener) -> None:
    """The row commits after the reader looked and before it waits."""
    reads = await reader(bench, listener)

    async def row_comes() -> None:
        await append(bench, "a")
        bench.bus.hint(OUTBOX)

    bench.store.after_read.append(row_comes)
    async with running(reads):
        await listener.wait(lambda: listener.subjects == ["a"])


async def test_lost_hint_costs_no_more_than_the_interval(
    bench: Workbench, listener: Listener
) -> None:
    reads = await reader(bench, listener, timedelta(milliseconds=5))
    async with running(reads):
        await append(bench, "a")
        await listener.wait(lambda: listener.subjects == ["a"])


async def test_reader_that_ended_listens_no_more(bench: Workbench, listener: Listener) -> None:
    reads = await reader(bench, listener)
    looked = asyncio.Event()

    async def look() -> None:
        looked.set()

    bench.store.after_read.append(look)
    async with running(reads):
        await asyncio.wait_for(looked.wait(), SECONDS)
    assert not any(bench.bus._subscribers[OUTBOX])


# --- when it cannot be read


class Away:
    """A database that cannot be read until it is back."""

    def __init__(self, bench: Workbench, error: Exception | None = None) -> None:
        self._store, self._error = bench.store, error or Unavailable("away")
        self.tries = 0
        self.tried = asyncio.Event()
        self._store.before_read.append(self._fail)

    async def _fail(self) -> None:
        self._store.before_read.append(self._fail)
        self.tries += 1
        self.tried.set()
        raise self._error

    async def after_tries(self, more: int) -> None:
        """Waits until the reader has tried so often again."""
        wanted = self.tries + more
        async with asyncio.timeout(SECONDS):
            while self.tries < wanted:
                self.tried.clear()
                await self.tried.wait()

    def back(self) -> None:
        self._store.before_read.clear()


async def test_lease_is_not_lost_before_its_time(bench: Workbench, listener: Listener) -> None:
    reads = await reader(bench, listener, timedelta(milliseconds=1))
    database = Away(bench)
    async with running(reads):
        await database.after_tries(1)
        bench.clock.advance(LEASE)
        await database.after_tries(3)
    assert listener.lost == 0


async def test_lost_lease_is_told_once(bench: Workbench, listener: Listener) -> None:
    reads = await reader(bench, listener, timedelta(milliseconds=1))
    database = Away(bench)
    async with running(reads):
        await database.after_tries(1)
        bench.clock.advance(LEASE + timedelta(seconds=1))
        await listener.wait(lambda: listener.lost > 0)
        bench.clock.advance(10 * LEASE)
        await database.after_tries(5)
    assert listener.lost == 1


async def test_reader_recovers_and_tells_what_it_missed(
    bench: Workbench, listener: Listener
) -> None:
    reads = await reader(bench, listener, timedelta(milliseconds=1))
    database = Away(bench)
    async with running(reads):
        await database.after_tries(1)
        await append(bench, "missed")
        bench.clock.advance(2 * LEASE)
        await listener.wait(lambda: listener.lost == 1)
        database.back()
        await listener.wait(lambda: listener.subjects == ["missed"])


async def test_lease_that_is_lost_again_is_told_again(bench: Workbench, listener: Listener) -> None:
    reads = await reader(bench, listener, timedelta(milliseconds=1))
    async with running(reads):
        for times in (1, 2):
            database = Away(bench)
            await database.after_tries(1)
            bench.clock.advance(2 * LEASE)
            await listener.wait(lambda times=times: listener.lost == times)
            database.back()
            await append(bench, f"{times}")
            await listener.wait(lambda times=times: len(listener.subjects) == times)


@pytest.mark.parametrize("error", [ValueError("a kind that a newer node wrote"), OSError("?")])
async def test_failure_of_any_kind_costs_the_lease_and_not_the_reader(
    bench: Workbench, listener: Listener, error: Exception
) -> None:
    """A reader that died would leave revoked devices connected, and nobody would know."""
    reads = await reader(bench, listener, timedelta(milliseconds=1))
    database = Away(bench, error)
    async with running(reads):
        await database.after_tries(1)
        bench.clock.advance(2 * LEASE)
        await listener.wait(lambda: listener.lost == 1)
        database.back()
        await append(bench, "a")
        await listener.wait(lambda: listener.subjects == ["a"])


async def test_listener_that_fails_is_told_again(bench: Workbench, listener: Listener) -> None:
    reads = await reader(bench, listener, timedelta(milliseconds=1))
    failures = [Unavailable("away")]

    async def fail_once(_: Notice) -> None:
        if failures:
            raise failures.pop()

    listener.before = fail_once
    async with running(reads):
        await append(bench, "a", "b")
        await listener.wait(lambda: len(listener.subjects) == 2)
    assert listener.subjects == ["a", "b"]


# --- old rows


async def test_old_rows_are_removed_and_new_ones_stay(bench: Workbench, listener: Listener) -> None:
    reads = await reader(bench, listener)
    await append(bench, "old")
    bench.clock.advance(timedelta(hours=2))
    await append(bench, "new")
    await reads.drain()
    await reads.prune()
    assert [row[-1] for row in bench.contents()["outbox"]] == ["new"]


async def test_old_rows_that_were_not_read_stay(bench: Workbench, listener: Listener) -> None:
    """A clock that was set forward makes a row of a moment ago an old one."""
    reads = await reader(bench, listener)
    await append(bench, "a")
    bench.clock.set_back(-timedelta(hours=2))
    await reads.prune()
    await reads.drain()
    assert listener.subjects == ["a"]


async def test_numbers_go_on_after_every_row_was_removed(
    bench: Workbench, listener: Listener
) -> None:
    reads = await reader(bench, listener)
    await append(bench, "old")
    await reads.drain()
    bench.clock.advance(timedelta(hours=2))
    await reads.prune()
    await append(bench, "new")
    await reads.drain()
    assert listener.subjects == ["old", "new"]
