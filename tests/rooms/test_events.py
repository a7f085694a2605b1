"""The event log: no question reads more of it than its answer, and waiting is cheap."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite import dialect

from fleet import Fleet
from fleetroot.errors import Unavailable
from fleetroot.hub import events
from fleetroot.hub.model import Message
from fleetroot.storage import migrate
from fleetroot.storage.prepared import Query
from workbench import Workbench

_DIALECT = dialect()


class Explaining:
    """A transaction that asks SQLite how it would answer."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.plan: list[str] = []

    def all(self, query: Query[Any], /, **parameters: Any) -> list[Any]:
        bound = query.on(_DIALECT)
        self.plan += [
            row[3]
            for row in self._connection.execute(
                f"EXPLAIN QUERY PLAN {bound.sql}", bound.bind(parameters)
            )
        ]
        return []

    def first(self, query: Query[Any], /, **parameters: Any) -> None:
        self.all(query, **parameters)

    def run(self, *_: object, **__: object) -> int:
        raise AssertionError("nothing is changed here")


@pytest.fixture
def explaining(tmp_path: Path) -> Any:
    path = tmp_path / "fleetroot.db"
    engine = migrate.sqlite_engine(path)
    migrate.upgrade(engine)
    engine.dispose()
    connection = sqlite3.connect(path)
    yield Explaining(connection)
    connection.close()


OF_HUB, OF_DEVICE = "ix_events_hub_id_seq", "ix_events_hub_id_device_key_seq"


@pytest.mark.sqlite(reason="how it says what it would do; the indexes are the same")
@pytest.mark.parametrize(
    ("ask", "by"),
    [
        (lambda tx: events.after(tx, "h", 5, limit=9), f"{OF_HUB} (hub_id=? AND seq>?)"),
        (
            lambda tx: events.after(tx, "h", 5, device_id="d", limit=9),
            f"{OF_DEVICE} (hub_id=? AND device_key=? AND seq>?)",
        ),
        (lambda tx: events.newest(tx, "h", limit=9), f"{OF_HUB} (hub_id=?)"),
        (
            lambda tx: events.newest(tx, "h", device_id="d", limit=9),
            f"{OF_DEVICE} (hub_id=? AND device_key=?)",
        ),
        (lambda tx: events.last_seq(tx, "h"), f"COVERING INDEX {OF_HUB} (hub_id=?)"),
    ],
    ids=["after", "after, of a device", "newest", "newest, of a device", "last"],
)
def test_answer_is_found_by_index_and_in_its_order(
    explaining: Explaining, ask: Any, by: str
) -> None:
    ask(explaining)
    [step] = explaining.plan  # a second one would be a sort
    assert step.startswith("SEARCH events USING")
    assert step.endswith(by)


async def test_who_waits_for_a_quiet_device_reads_what_others_sent_once_and_now_and_then(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_behind: list[int] = []
    after = events.after_of_kinds

    def counted(tx: Any, hub_id: str, seq: int, kinds: Any, **of: Any) -> Any:
        looked_behind.append(seq)
        return after(tx, hub_id, seq, kinds, **of)

    monkeypatch.setattr(events, "after_of_kinds", counted)
    hub = await fleet.server.hubs.by_name("default")
    loud, quiet = await fleet.provision("loud"), await fleet.provision("quiet")
    began = asyncio.get_running_loop().time()
    async with (
        await fleet.connect("loud", loud) as noise,
        await fleet.connect("quiet", quiet) as voice,
    ):
        await noise.publish("devices/loud/messages/events/", b"before")
        waiting = asyncio.create_task(
            fleet.server.hubs.events(hub, after=0, device_id="quiet", wait=timedelta(seconds=10))
        )
        for _ in range(200):
            await noise.publish("devices/loud/messages/events/", b"x")
        await voice.publish("devices/quiet/messages/events/", b"y")
        last, [found] = await waiting
    seconds = asyncio.get_running_loop().time() - began
    assert (found.body, found.seq) == (b"y", last)
    assert looked_behind[0] == 0
    assert all(one < other for one, other in pairwise(looked_behind))
    assert len(looked_behind) <= 2 + seconds * 10


# --- many at once


async def test_messages_that_come_during_a_commit_share_the_next(bench: Workbench) -> None:
    session = await bench.connect("dev-1", await bench.provision("dev-1"))
    others: list[asyncio.Task[None]] = []
    units = 0

    async def send_more() -> None:
        others.extend(
            asyncio.create_task(bench.hubs.send(session, Message(b"%d" % n, {}, {})))
            for n in range(1, 50)
        )
        await asyncio.sleep(0)
        bench.store.before_write.append(count)

    async def count() -> None:
        nonlocal units
        units += 1
        bench.store.before_write.append(count)

    bench.store.before_write.append(send_more)
    await bench.hubs.send(session, Message(b"0", {}, {}))
    await asyncio.gather(*others)
    bench.store.before_write.clear()
    _, found = await bench.hubs.events(bench.made.hub, after=0, limit=100)
    assert [event.body for event in found] == [b"%d" % n for n in range(50)]
    assert units == 1


async def test_message_that_cannot_be_kept_is_told_to_its_sender_and_to_nobody_after(
    bench: Workbench,
) -> None:
    session = await bench.connect("dev-1", await bench.provision("dev-1"))

    async def fail() -> None:
        raise Unavailable("away")

    bench.store.before_write.append(fail)
    with pytest.raises(Unavailable):
        await bench.hubs.send(session, Message(b"lost", {}, {}))
    await bench.hubs.send(session, Message(b"kept", {}, {}))
    _, found = await bench.hubs.events(bench.made.hub, after=0)
    assert [event.body for event in found] == [b"kept"]


async def test_sender_that_goes_away_disturbs_no_other(bench: Workbench) -> None:
    session = await bench.connect("dev-1", await bench.provision("dev-1"))
    sends = [
        asyncio.create_task(bench.hubs.send(session, Message(body, {}, {})))
        for body in (b"a", b"b")
    ]
    await asyncio.sleep(0)
    sends[0].cancel()
    await asyncio.gather(*sends, return_exceptions=True)
    assert not sends[1].cancelled()
    _, found = await bench.hubs.events(bench.made.hub, after=0)
    assert b"b" in [event.body for event in found]
