"""Jobs: the same done to every device that a condition means, from a set time on, at a pace.

A job and what came of it for each device are in the database. Its devices are found when it starts,
some at a time, and are fixed from then on; then each has its turn (`job_run`). A server that stops
or falls goes on where it was: what was in flight then is done again, so methods should bear to be
called twice. Who makes or cancels a job is in the audit log; what it does to each device is part
of that.

Source: Azure IoT Hub, "Schedule jobs on multiple devices".
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import structlog

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.errors import (
    AlreadyExists,
    Conflict,
    FleetrootError,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from fleetroot.hub import job_table
from fleetroot.hub.job_model import (
    ALIVE,
    DEFAULT_EXECUTION,
    MAX_CONDITION,
    DeviceStatus,
    Job,
    JobOutcome,
    JobStatus,
    JobType,
    Work,
    check_job_id,
    check_times,
)
from fleetroot.hub.job_run import JobRun, Turns
from fleetroot.hub.job_targets import Targets
from fleetroot.hub.methods import Methods
from fleetroot.hub.model import Hub
from fleetroot.hub.service_twins import ServiceTwins
from fleetroot.storage import Store, Transaction

MAX_ALIVE: Final = 100  # jobs of a hub that are not over
MAX_PAGE: Final = 1000
_TOGETHER: Final = 8  # jobs that are worked on at a time
_log = structlog.get_logger("fleetroot.hub.jobs")

_Place: TypeAlias = tuple[str, str]  # a hub's id, and a job's


@dataclass(frozen=True, slots=True)
class JobRules:
    """At which pace jobs are worked on, all of them together.

    Attributes:
        per_second: devices that have their turn in a second.
        at_once: devices whose turn it is at a time, of one job.
        kept: how long a job that is over is kept.
    """

    per_second: float = 200.0
    at_once: int = 64
    kept: timedelta = timedelta(days=30)


class Jobs:
    """The jobs of all hubs."""

    def __init__(
        self,
        store: Store,
        methods: Methods,
        twins: ServiceTwins,
        targets: Targets,
        clock: Clock,
        rules: JobRules | None = None,
    ) -> None:
        self._store = store
        self._methods = methods
        self._twins = twins
        self._clock = clock
        self._rules = rules or JobRules()
        self._targets = targets
        self._turns = Turns(self._rules.per_second, clock.monotonic)
        self._runs: dict[_Place, tuple[JobRun, asyncio.Task[None]]] = {}
        self._looking = asyncio.Lock()
        self._stopping = False

    def __len__(self) -> int:
        """How many jobs are being worked on."""
        return len(self._runs)

    # --- what services do

    async def create(
        self,
        hub: Hub,
        job_id: str,
        work: Work,
        condition: str,
        *,
        start_at: datetime | None = None,
        most: timedelta = DEFAULT_EXECUTION,
        by: Actor,
    ) -> Job:
        """Makes a job; when this returns it is durable.

        Raises:
            InvalidArgument: the id, the condition or a time is none.
            AlreadyExists: there is a job of that id, or was one lately.
            Conflict: too many jobs are not over.
        """
        now = self._clock.now()
        start = max(start_at or now, now)
        check_job_id(job_id)
        check_times(start, most, now)
        if len(condition) > MAX_CONDITION:
            raise InvalidArgument(f"queryCondition: at most {MAX_CONDITION} characters")
        self._targets.check(condition)
        status = JobStatus.SCHEDULED if start > now else JobStatus.QUEUED
        job = Job(hub.id, job_id, work, condition, status, now, start, most)

        def unit(tx: Transaction) -> None:
            if job_table.find(tx, hub.id, job_id) is not None:
                raise AlreadyExists(f"there is a job {job_id}")
            if job_table.count_alive(tx, hub.id) >= MAX_ALIVE:
                raise Conflict(f"{MAX_ALIVE} jobs are not over")
            job_table.insert(tx, job)
            details = {"hub": hub.name, "type": job.type.value, "condition": condition[:1024]}
            about, of = f"job/{job_id}", hub.namespace_id
            audit.append(tx, Entry(now, by, Action.CREATE_JOB, about, of, details=details))

        await self._store.write(unit)
        with suppress(Unavailable):  # the duty looks again
            await self.look()
        return job

    async def get(self, hub: Hub, job_id: str) -> Job:
        """The job of that id.

        Raises:
            NotFound: there is none.
        """
        found = await self._store.read(lambda tx: job_table.find(tx, hub.id, job_id))
        if found is None:
            raise _unknown(job_id)
        return found

    def running(self, job: Job) -> int:
        """Of how many devices it is the turn now."""
        run = self._runs.get((job.hub_id, job.id))
        return 0 if run is None else len(run[0])

    async def page(
        self,
        hub: Hub,
        *,
        type_: JobType | None = None,
        status: JobStatus | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Up to `limit` jobs of a hub, newest first, behind one of that time and id."""
        most = min(limit, MAX_PAGE)
        return await self._store.read(
            lambda tx: job_table.page(tx, hub.id, type_, status, before, most)
        )

    async def outcomes(
        self,
        hub: Hub,
        job_id: str,
        *,
        status: DeviceStatus | None = None,
        after: str = "",
        limit: int = 100,
    ) -> list[JobOutcome]:
        """What came of a job for its devices, in the order of their keys, behind one.

        Raises:
            NotFound: there is no such job.
        """

        def read(tx: Transaction) -> list[JobOutcome]:
            if job_table.find(tx, hub.id, job_id) is None:
                raise _unknown(job_id)
            return job_table.outcomes(tx, hub.id, job_id, status, after, min(limit, MAX_PAGE))

        return await self._store.read(read)

    async def cancel(self, hub: Hub, job_id: str, *, by: Actor) -> Job:
        """Ends a job; devices whose turn it is are finished. The job as it is then.

        Raises:
            NotFound: there is no such job.
            Conflict: it is over already.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> Job:
            before = job_table.find(tx, hub.id, job_id)
            if before is None:
                raise _unknown(job_id)
            if before.status not in ALIVE:
                raise Conflict(f"the job is {before.status.value}")
            job_table.end(tx, hub.id, job_id, JobStatus.CANCELLED, now)
            about, details = f"job/{job_id}", {"hub": hub.name}
            entry = Entry(now, by, Action.CANCEL_JOB, about, hub.namespace_id, details=details)
            audit.append(tx, entry)
            after = job_table.find(tx, hub.id, job_id)
            assert after is not None  # noqa: S101
            return after

        cancelled = await self._store.write(unit)
        run = self._runs.get((hub.id, job_id))
        if run is not None:
            run[0].cancel()
        return cancelled

    # --- duties

    async def look(self) -> None:
        """To be called once a second: works on the jobs whose time has come."""
        if self._stopping:
            return
        async with self._looking:
            now, most = self._clock.now(), _TOGETHER + len(self._runs)
            if len(self._runs) >= _TOGETHER:
                return
            for hub, job_id in await self._store.read(lambda tx: job_table.due(tx, now, most)):
                place = (hub.id, job_id)
                if place not in self._runs and len(self._runs) < _TOGETHER and not self._stopping:
                    self._begin(hub, job_id)

    def _begin(self, hub: Hub, job_id: str) -> None:
        run = JobRun(
            self._store,
            self._methods,
            self._twins,
            self._targets,
            self._clock,
            self._turns,
            self._rules.at_once,
        )
        task = asyncio.create_task(self._work(run, hub, job_id), name=f"job {job_id}")
        self._runs[(hub.id, job_id)] = (run, task)

    async def _work(self, run: JobRun, hub: Hub, job_id: str) -> None:
        try:
            await run.work(hub, job_id)
        except FleetrootError as error:  # `look` begins it again
            _log.warning("job interrupted", job=job_id, error=error.reason)
        except Exception:  # noqa: BLE001
            _log.exception("job failed unexpectedly", job=job_id)
        finally:
            del self._runs[(hub.id, job_id)]

    async def remove_old(self) -> None:
        """To be called now and then: removes what is over and was kept long enough."""
        before = self._clock.now() - self._rules.kept
        while await self._store.write(lambda tx: job_table.remove_some(tx, before)):
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Works on no job any more; the next start goes on."""
        self._stopping = True
        tasks = [task for _, task in self._runs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _unknown(job_id: str) -> NotFound:
    return NotFound(f"there is no job {job_id[:128]}")
