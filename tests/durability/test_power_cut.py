"""Durable before sent, tried out: the power is cut at every sync that a server ever made.

The trace of a whole life, first start and end included, is replayed up to each sync. What was not
synced by then is lost, or kept, or kept in part, sector by sector; whatever a peer had been told by
then must be in the database that SQLite finds on such a disk.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from filetrace import FileTrace, Kind
from power import Chance, Disk, Everything, Nothing, Part, power_cuts
from workload import Promise, Traced

from fleet import Fleet
from server_process import serving

DATABASE = "data/fleetroot.db"
FULL = os.environ.get("CRASHES") == "full"


def read(database: Path, *queries: str) -> list[list[tuple[object, ...]]]:
    """What each query finds in a database, after its recovery; nothing, where there is none, or no
    table yet.
    """
    if not database.exists():
        return [[] for _ in queries]
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            return [[] for _ in queries]
        return [connection.execute(query).fetchall() for query in queries]


KEPT = {
    Promise.PROVISIONED: "SELECT sha256 FROM certificates",
    Promise.RENEWED: "SELECT sha256 FROM certificates",
    Promise.REVOKED: "SELECT CAST(generation AS BLOB) FROM devices",
    Promise.MESSAGE_TAKEN: "SELECT substr(body, 1, 32) FROM events",
}


def assert_kept(life: Traced, upto: int, folder: Path, kept: Counter[Promise]) -> None:
    """Whatever peers were told before the step `upto` is in the folder."""
    told = [answer for answer in life.answers if life.sent_at(answer) < upto]
    for promise, rows in zip(KEPT, read(folder / DATABASE, *KEPT.values()), strict=True):
        found = {row[0] for row in rows}
        wanted = {answer.token for answer in told if answer.promise is promise}
        assert wanted <= found, (upto, promise)
        kept[promise] += len(wanted)


@pytest.mark.parametrize(
    "chance", [Nothing(), Everything(), Part(1), Part(2)], ids=["nothing", "all", "part", "other"]
)
def test_power_cut_at_any_sync_keeps_what_was_answered(
    life: Traced, tmp_path: Path, chance: Chance
) -> None:
    kept: Counter[Promise] = Counter()
    for number, disk in power_cuts(life.steps):
        left = tmp_path / "left"
        disk.left(chance, left)
        assert_kept(life, number, left, kept)
        shutil.rmtree(left)
    assert set(kept) == set(Promise)


def test_disk_that_forgets_its_syncs_would_be_noticed(life: Traced, tmp_path: Path) -> None:
    """The test above can fail: without the syncs of the WAL, answers are lost."""
    disk = Disk()
    for step in life.steps:
        if not (step.kind is Kind.SYNCED and step.path == f"{DATABASE}-wal"):
            disk.take(step)
        if step.kind is Kind.SENDING and step.offset == life.answers[0].connection:
            upto = life.sent_at(life.answers[0])
            if life.steps[upto] is step:
                break
    disk.left(Nothing(), tmp_path / "left")
    with pytest.raises(AssertionError):
        assert_kept(life, upto + 1, tmp_path / "left", Counter())


@pytest.mark.parametrize(
    ("chance", "step"),
    [(Nothing(), 1), (Everything(), 1), (Part(3), 1 if FULL else 4)],
    ids=["none", "all", "part"],
)
async def test_first_start_that_loses_its_power_at_any_sync_is_completed_by_the_next(
    life: Traced, tmp_path: Path, chance: Chance, step: int
) -> None:
    """What is lost in part lies between what is lost and what is kept: of that, every fourth cut is
    enough unless CRASHES=full.
    """
    first_answer = min(map(life.sent_at, life.answers))
    cuts = 0
    for number, disk in power_cuts(life.steps):
        if number > first_answer:
            break
        cuts += 1
        if cuts % step:
            continue
        left = tmp_path / f"{number}"
        disk.left(chance, left)
        async with Fleet.running(left / "data") as fleet:
            certified = await fleet.provision("dev-1")
            await (await fleet.connect("dev-1", certified)).close()
        shutil.rmtree(left)
    assert cuts > 15


async def test_server_goes_on_where_the_power_was_cut(life: Traced, tmp_path: Path) -> None:
    """Whoever was given a certificate by then is let in, and everybody else may come."""
    cuts = len(life.steps) // 2
    number, disk = next(found for found in power_cuts(life.steps) if found[0] > cuts)
    disk.left(Part(4), tmp_path / "left")
    revoked = {a.device_id for a in life.answers if a.promise is Promise.REVOKED}
    told = [
        answer
        for answer in life.answers
        if answer.certified is not None
        and answer.device_id not in revoked
        and life.sent_at(answer) < number
    ]
    assert told
    async with Fleet.running(tmp_path / "left" / "data") as fleet:
        for answer in told:
            async with await fleet.connect(answer.device_id, answer.certified):
                pass
        for device in range(3):
            await fleet.provision(f"late-{device}")


async def lists_are_published(fleet: Fleet) -> None:
    """Waits until the first revocation lists are there, so that nothing is written unasked."""
    async with asyncio.timeout(30):
        while len((await fleet.http.get("/fleetroot/crls")).json()["own"]) < 17:
            await asyncio.sleep(0.02)


async def test_what_a_restart_found_stays_found(tracing: Path, tmp_path: Path) -> None:
    """Killed between the writing and the sync of a revocation, which nobody was told of; found by
    the next start, and shown; and then the power goes.
    """
    data = tmp_path / "above" / "data"
    disk = Disk()

    def tracing_to(name: str) -> FileTrace:
        (tmp_path / name).mkdir()
        return FileTrace(tracing, data.parent, tmp_path / name)

    data.parent.mkdir()
    trace = tracing_to("once")
    with serving(data, environment=trace.environment) as server:
        fleet = server.fleet()
        await fleet.register("dev-1")
        await lists_are_published(fleet)
        trace.kill_before_sync(1)
        with pytest.raises(httpx.TransportError):
            await fleet.http.post("/fleetroot/devices/dev-1/revoke")
        server.process.wait()
    for step in trace.steps:
        disk.take(step)
    trace = tracing_to("again")
    with serving(data, environment=trace.environment) as server:
        shown = (await server.fleet().http.get("/fleetroot/devices/dev-1")).json()
        server.kill()
    assert shown["version"] == 2  # the writing was found
    for step in trace.steps:
        disk.take(step)
    disk.left(Nothing(), tmp_path / "left")
    [[(generation,)]] = read(tmp_path / "left" / DATABASE, "SELECT generation FROM devices")
    assert generation == shown["generation"]
