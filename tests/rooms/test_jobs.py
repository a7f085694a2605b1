"""Jobs over devices: which devices have their turn, what is kept of it, and how jobs end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest

from fleetroot.audit import SYSTEM
from fleetroot.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    NotFound,
    TimedOut,
    Unavailable,
)
from fleetroot.hub import jobs as jobs_room
from fleetroot.hub.job_model import (
    DeviceStatus,
    Job,
    JobStatus,
    JobType,
    Work,
    read_work,
    work_text,
)
from fleetroot.hub.job_targets import Targets
from fleetroot.hub.jobs import JobRules, Jobs
from fleetroot.hub.methods import MethodCall
from fleetroot.hub.model import Channel, Hub
from fleetroot.hub.queries import Queries
from fleetroot.hub.service_twins import SectionChange, TwinChange
from workbench import Wire, Workbench

TAG = TwinChange(tags=SectionChange({"site": "plant"}))
REBOOT = MethodCall("reboot", b'{"delay":3}')


class Answering(Wire):
    """A device that answers each method at once, or when it is told to."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.bench = bench
        self.waits = False
        self.session: Any = None

    def call_method(self, request_id: str, name: str, payload: bytes) -> bool:
        self.calls.append((request_id, name, payload))
        if not self.waits:
            asyncio.get_running_loop().call_soon(self.answer)
        return True

    def answer(self) -> None:
        request_id, _, payload = self.calls[-1]
        self.bench.hubs.methods.answer(self.session, request_id, "200", payload)


class Party:
    """A hub with devices, and a service that makes jobs."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.hub = bench.made.hub
        self.rule()

    def rule(self, *, targets: Targets | None = None, **rules: Any) -> None:
        """Begins anew, as a server does, under these rules."""
        hubs = self.bench.hubs
        found_by = targets or hubs.queries
        made = JobRules(**{"per_second": 10_000.0, "at_once": 4} | rules)
        hubs.jobs = Jobs(
            self.bench.store, hubs.methods, hubs.twins, found_by, self.bench.clock, made
        )

    @property
    def jobs(self) -> Jobs:
        return self.bench.hubs.jobs

    async def prepare(self, *devices: str) -> None:
        for device in devices:
            await self.bench.provision(device)

    async def connect(self, device: str) -> Answering:
        wire = Answering(self.bench)
        wire.session = await self.bench.connect(device, await self.bench.provision(device), wire)
        wire.session.subscriptions[Channel.METHODS] = 1
        return wire

    async def make(
        self, job_id: str = "job-1", work: Work = TAG, condition: str = "*", **more: Any
    ) -> Job:
        return await self.jobs.create(self.hub, job_id, work, condition, by=SYSTEM, **more)

    async def over(self, job_id: str = "job-1") -> Job:
        """The job, once nobody works on it any more."""
        while self.jobs._runs:
            await asyncio.gather(*(task for _, task in self.jobs._runs.values()))
        return await self.jobs.get(self.hub, job_id)

    async def outcomes(self, job_id: str = "job-1", **how: Any) -> dict[str, Any]:
        found = await self.jobs.outcomes(self.hub, job_id, **how)
        return {
            each.device_key: None if each.detail is None else orjson.loads(each.detail)
            for each in found
        }

    async def tags(self, device: str) -> Any:
        twin = await self.bench.hubs.twins.get(self.hub, device)
        return orjson.loads(twin.twin.tags)


@pytest.fixture
async def party(bench: Workbench) -> Party:
    made = Party(bench)
    await made.prepare("dev-1", "dev-2", "dev-3")
    return made


def counts(job: Job) -> tuple[JobStatus, int, int, int]:
    return job.status, job.found, job.succeeded, job.failed


# --- what is done to whom


async def test_twins_of_every_device_are_changed(party: Party) -> None:
    made = await party.make()
    assert (made.type, made.status) == (JobType.TWIN, JobStatus.QUEUED)
    done = await party.over()
    assert counts(done) == (JobStatus.COMPLETED, 3, 3, 0)
    assert done.ended_at is not None
    assert [await party.tags(f"dev-{n}") for n in (1, 2, 3)] == [{"site": "plant"}] * 3
    assert set(await party.outcomes()) == {"dev-1", "dev-2", "dev-3"}


async def test_methods_are_called_and_what_devices_answer_is_kept(party: Party) -> None:
    wire = await party.connect("dev-2")
    await party.make(work=REBOOT)
    done = await party.over()
    assert counts(done) == (JobStatus.COMPLETED, 3, 1, 2)
    assert [call[1:] for call in wire.calls] == [("reboot", b'{"delay":3}')]
    found = await party.outcomes()
    assert found["dev-2"] == {"status": 200, "payload": {"delay": 3}}
    assert found["dev-1"]["errorCode"] == 404103
    assert set(await party.outcomes(status=DeviceStatus.FAILED)) == {"dev-1", "dev-3"}
    assert set(await party.outcomes(after="dev-1", limit=1)) == {"dev-2"}


@pytest.mark.parametrize(
    ("condition", "meant"),
    [
        ("*", {"dev-1", "dev-2", "dev-3"}),
        ("deviceId = 'dev-1'", {"dev-1"}),
        ("deviceId >= 'dev-2'", {"dev-2", "dev-3"}),
        ("NOT deviceId = 'dev-1' AND status = 'enabled'", {"dev-2", "dev-3"}),
        ("tags.room = 2 OR STARTSWITH(deviceId, 'dev-3')", {"dev-2", "dev-3"}),
        ("deviceId IN ['dev-1', 'dev-3', 'dev-3', 'nobody']", {"dev-1", "dev-3"}),
        ("deviceId = 'dev-1' OR deviceId in ['dev-2']", {"dev-1", "dev-2"}),
        ("deviceId = 'nobody'", set()),
    ],
)
async def test_condition_says_which_devices_are_meant(
    party: Party, condition: str, meant: set[str]
) -> None:
    room = TwinChange(tags=SectionChange({"room": 2}))
    await party.make("before", room, "deviceId = 'dev-2'")
    await party.over("before")
    await party.make(condition=condition)
    done = await party.over()
    assert (done.status, done.found, done.succeeded) == (
        JobStatus.COMPLETED,
        len(meant),
        len(meant),
    )
    assert {n for n in ("dev-1", "dev-2", "dev-3") if "site" in await party.tags(n)} == meant


async def test_more_devices_than_are_read_at_once_have_one_turn_each(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleetroot.hub.job_run._READ_AT_ONCE", 2)
    monkeypatch.setattr("fleetroot.hub.queries._WINDOW", 3)
    monkeypatch.setattr("fleetroot.hub.queries._CHUNK", 2)
    await party.prepare(*(f"more-{n}" for n in range(8)))
    await party.make()
    assert counts(await party.over()) == (JobStatus.COMPLETED, 11, 11, 0)
    twin = await party.bench.hubs.twins.get(party.hub, "more-3")
    assert twin.revision == 2


async def test_device_that_comes_later_is_not_meant(party: Party) -> None:
    wire = await party.connect("dev-1")
    wire.waits = True
    await party.make(work=REBOOT, condition="*")
    while not wire.calls:
        await asyncio.sleep(0)
    await party.prepare("dev-4")
    wire.answer()
    assert (await party.over()).found == 3


async def test_device_that_is_deleted_meanwhile_fails_alone(party: Party) -> None:
    wire = await party.connect("dev-1")
    wire.waits = True
    party.rule(at_once=1)
    await party.make(work=REBOOT)
    while not wire.calls:
        await asyncio.sleep(0)
    with party.bench.sql() as connection:
        for table in ("twins", "identities"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE device_key = 'dev-3'")
    wire.answer()
    assert counts(await party.over()) == (JobStatus.COMPLETED, 3, 1, 2)
    assert (await party.outcomes())["dev-3"]["errorCode"] == 404001


# --- when, and until when


async def test_job_starts_at_its_time(party: Party) -> None:
    start = party.bench.clock.now() + timedelta(hours=1)
    made = await party.make(start_at=start)
    assert (made.status, made.start_at) == (JobStatus.SCHEDULED, start)
    party.bench.clock.advance(timedelta(minutes=59))
    await party.jobs.look()
    assert not party.jobs._runs
    assert await party.tags("dev-1") == {}
    party.bench.clock.advance(timedelta(minutes=1))
    await party.jobs.look()
    assert (await party.over()).status is JobStatus.COMPLETED


async def test_job_whose_time_is_over_fails_and_leaves_the_rest(party: Party) -> None:
    wire = await party.connect("dev-1")
    wire.waits = True
    party.rule(at_once=1)
    await party.make(work=REBOOT, most=timedelta(seconds=60))
    while not wire.calls:
        await asyncio.sleep(0)
    party.bench.clock.advance(timedelta(seconds=60))
    wire.answer()  # its turn came before
    done = await party.over()
    assert counts(done) == (JobStatus.FAILED, 3, 1, 0)
    assert done.failure == "its time was over after 60 s"
    assert (await party.outcomes(status=DeviceStatus.PENDING)) == {"dev-2": None, "dev-3": None}


async def test_cancelled_job_gives_no_more_turns(party: Party) -> None:
    wire = await party.connect("dev-1")
    wire.waits = True
    party.rule(at_once=1)
    await party.make(work=REBOOT)
    while not wire.calls:
        await asyncio.sleep(0)
    assert party.jobs.running(await party.jobs.get(party.hub, "job-1")) == 1
    cancelled = await party.jobs.cancel(party.hub, "job-1", by=SYSTEM)
    assert cancelled.status is JobStatus.CANCELLED
    wire.answer()
    assert counts(await party.over()) == (JobStatus.CANCELLED, 3, 1, 0)
    with pytest.raises(Conflict, match="cancelled"):
        await party.jobs.cancel(party.hub, "job-1", by=SYSTEM)


async def test_job_that_is_cancelled_before_its_time_never_starts(party: Party) -> None:
    await party.make(start_at=party.bench.clock.now() + timedelta(hours=1))
    await party.jobs.cancel(party.hub, "job-1", by=SYSTEM)
    party.bench.clock.advance(timedelta(hours=2))
    await party.jobs.look()
    assert not party.jobs._runs
    assert await party.tags("dev-1") == {}


async def test_pace_is_of_all_jobs_together(party: Party) -> None:
    party.rule(per_second=10.0)  # one at once
    await party.make("job-1")
    await party.make("job-2", TwinChange(tags=SectionChange({"second": True})))
    done = ticks = 0
    while party.jobs._runs:
        await asyncio.sleep(0.02)
        changed = [await party.tags(f"dev-{n}") for n in (1, 2, 3)]
        done = sum(map(len, changed))
        assert done <= ticks + 1
        party.bench.clock.advance(timedelta(seconds=0.1))
        ticks += 1
    changed = [await party.tags(f"dev-{n}") for n in (1, 2, 3)]
    done = sum(map(len, changed))
    assert done == 6


async def test_job_whose_devices_take_too_long_to_find_fails(party: Party) -> None:
    class Slow(Queries):
        async def chunks(self, hub: Hub, condition: str) -> AsyncIterator[list[str]]:
            yield ["dev-1"]
            raise TimedOut("the query takes over 30 seconds: narrow it")

    party.rule(targets=Slow(party.bench.store, party.bench.clock))
    await party.make()
    done = await party.over()
    assert (done.status, done.failure) == (
        JobStatus.FAILED,
        "the query takes over 30 seconds: narrow it",
    )
    assert await party.tags("dev-1") == {}


# --- a server that stops


async def test_job_goes_on_where_a_stopped_server_was(party: Party) -> None:
    wire = await party.connect("dev-1")
    party.rule(at_once=1)
    second = await party.connect("dev-2")
    second.waits = True
    await party.make(work=REBOOT)
    while not second.calls:
        await asyncio.sleep(0)
    await party.jobs.stop()
    assert counts(await party.jobs.get(party.hub, "job-1")) == (JobStatus.RUNNING, 3, 1, 0)
    second.waits = False
    party.rule()
    await party.jobs.look()
    assert counts(await party.over()) == (JobStatus.COMPLETED, 3, 2, 1)
    assert len(wire.calls) == 1  # what was kept is not done again
    assert len(second.calls) == 2  # and what was in flight is


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_job_of_a_server_that_fell_while_it_found_devices_is_made_whole(
    party: Party, status: str
) -> None:
    start = party.bench.clock.now() + timedelta(hours=1)
    await party.make(start_at=start)
    with party.bench.sql() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET status = '{status}', found = 1")
        connection.exec_driver_sql(
            f"INSERT INTO job_devices VALUES ('{party.hub.id}', 'job-1', 'dev-2', 'pending',"
            " NULL, NULL)"
        )
    party.bench.clock.advance(timedelta(hours=1))
    await party.jobs.look()
    done = await party.over()
    found = 3 if status == "queued" else 1
    assert counts(done) == (JobStatus.COMPLETED, found, found, 0)


async def test_job_goes_on_when_the_database_is_back(party: Party) -> None:
    async def fail() -> None:
        raise Unavailable("away")

    await party.make(start_at=party.bench.clock.now() + timedelta(seconds=1))
    party.bench.clock.advance(timedelta(seconds=1))
    for after in range(8):

        async def nothing() -> None: ...

        party.bench.store.before_write[:] = [*([nothing] * after), fail]
        await party.jobs.look()
        await party.over()
        party.bench.store.before_write.clear()
    await party.jobs.look()
    assert counts(await party.over()) == (JobStatus.COMPLETED, 3, 3, 0)


# --- what is refused, listed and removed


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "nothing.of.this.name = 1",
        "deviceId = 'a' AND",
        "deviceId = 'a' ORDER BY deviceId",
        "deviceId = 'a' GROUP BY status",
        "* FROM devices",
        "x" * 8193,
    ],
)
async def test_condition_that_is_none_is_refused(party: Party, condition: str) -> None:
    with pytest.raises(InvalidArgument):
        await party.make(condition=condition)
    assert await party.jobs.page(party.hub) == []


@pytest.mark.parametrize("job_id", ["", "a/b", "query", "QUERY", "x" * 129, "ä", "a\n"])
async def test_id_that_is_none_is_refused(party: Party, job_id: str) -> None:
    with pytest.raises(InvalidArgument, match="jobId"):
        await party.make(job_id)


@pytest.mark.parametrize(
    "times",
    [
        {"most": timedelta(0)},
        {"most": timedelta(days=8)},
        {"start_at": timedelta(days=367)},
    ],
)
async def test_times_are_bounded(party: Party, times: dict[str, timedelta]) -> None:
    given: dict[str, Any] = dict(times)
    if "start_at" in given:
        given["start_at"] += party.bench.clock.now()
    with pytest.raises(InvalidArgument):
        await party.make(**given)


async def test_id_is_taken_for_good_and_jobs_that_are_not_over_are_bounded(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_room, "MAX_ALIVE", 2)
    later = {"start_at": party.bench.clock.now() + timedelta(hours=1)}
    await party.make("job-1")
    await party.over()
    with pytest.raises(AlreadyExists):
        await party.make("job-1")
    await party.make("job-2", **later)
    await party.make("job-3", **later)
    with pytest.raises(Conflict, match="2 jobs"):
        await party.make("job-4", **later)


async def test_jobs_are_listed_newest_first_by_type_and_status(party: Party) -> None:
    for number in range(4):
        work: Work = REBOOT if number % 2 else TAG
        await party.make(f"job-{number}", work)
        if number != 2:
            party.bench.clock.advance(timedelta(seconds=1))
        await party.over(f"job-{number}")
    every = await party.jobs.page(party.hub)
    assert [job.id for job in every] == ["job-2", "job-3", "job-1", "job-0"]
    behind = (every[0].created_at, every[0].id)
    assert (await party.jobs.page(party.hub, before=behind, limit=2)) == every[1:3]
    methods = await party.jobs.page(party.hub, type_=JobType.METHOD)
    assert [job.id for job in methods] == ["job-3", "job-1"]
    assert await party.jobs.page(party.hub, status=JobStatus.RUNNING) == []
    assert len(await party.jobs.page(party.hub, status=JobStatus.COMPLETED)) == 4


async def test_unknown_job_is_not_found(party: Party) -> None:
    for ask in (
        party.jobs.get(party.hub, "nothing"),
        party.jobs.outcomes(party.hub, "nothing"),
        party.jobs.cancel(party.hub, "nothing", by=SYSTEM),
    ):
        with pytest.raises(NotFound):
            await ask


async def test_jobs_that_are_over_are_removed_with_time(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleetroot.hub.job_table._REMOVE_AT_ONCE", 2)
    await party.make("job-1")
    await party.over()
    party.bench.clock.advance(timedelta(days=29))
    await party.make("job-2", start_at=party.bench.clock.now() + timedelta(days=100))
    await party.jobs.remove_old()
    assert len(await party.jobs.page(party.hub)) == 2
    party.bench.clock.advance(timedelta(days=2))
    await party.jobs.remove_old()
    assert [job.id for job in await party.jobs.page(party.hub)] == ["job-2"]
    assert party.bench.contents()["job_devices"] == []


@pytest.mark.parametrize(
    "work",
    [
        MethodCall("m", b'{"a":[1,"\xc3\xa4",null]}', 5, 300),
        TwinChange(),
        TwinChange(SectionChange({"a": None}), SectionChange({"b": {"c": [1.5]}}, whole=True)),
    ],
)
def test_work_is_kept_as_it_is(work: Work) -> None:
    assert read_work(work_text(work)) == work


async def test_job_is_made_also_when_nobody_can_look_at_it_yet(party: Party) -> None:
    async def fail() -> None:
        raise Unavailable("away")

    party.bench.store.before_read.append(fail)
    await party.make()
    assert not party.jobs._runs
    await party.jobs.look()
    assert (await party.over()).status is JobStatus.COMPLETED
