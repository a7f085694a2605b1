"""One job at work: finds its devices, gives each its turn, and keeps what came of it.

Outcomes are written many together and a little later, so that a device costs less than a commit.
A server that falls meanwhile does those again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import orjson

from fleetroot.clock import Clock
from fleetroot.errors import FleetrootError, InvalidArgument, Throttled, TimedOut, Unavailable
from fleetroot.hub import job_table
from fleetroot.hub.job_model import DeviceStatus, Job, JobOutcome, JobStatus
from fleetroot.hub.job_targets import Targets
from fleetroot.hub.methods import MethodCall, Methods
from fleetroot.hub.model import Hub
from fleetroot.hub.service_twins import ServiceTwins
from fleetroot.pace import Pace
from fleetroot.storage import Store, Transaction

_READ_AT_ONCE: Final = 500  # keys of devices
_UNTIL_WRITTEN: Final = 0.1  # seconds, that an outcome waits for others
_MAX_DETAIL: Final = 4096  # bytes of a device's answer that are kept


class Turns:
    """The pace of all jobs together."""

    def __init__(self, per_second: float, monotonic: Callable[[], float]) -> None:
        self._pace: Pace[None] = Pace(per_second, max(1.0, per_second / 10), monotonic)

    async def take(self) -> None:
        """Waits until one more device may have its turn."""
        while not self._pace.take(None):
            await asyncio.sleep(max(self._pace.wait(None), 0.001))


class JobRun:
    """The work on a job."""

    def __init__(
        self,
        store: Store,
        methods: Methods,
        twins: ServiceTwins,
        targets: Targets,
        clock: Clock,
        turns: Turns,
        at_once: int,
    ) -> None:
        self._store = store
        self._methods = methods
        self._twins = twins
        self._targets = targets
        self._clock = clock
        self._turns = turns
        self._at_once = at_once
        self._cancelled = False
        self._late = False  # whether the job's time is over
        self._busy = 0
        self._due: deque[str] = deque()
        self._last = ""  # behind which the next devices are read
        self._reading = asyncio.Lock()
        self._outcomes: list[JobOutcome] = []

    def __len__(self) -> int:
        return self._busy

    def cancel(self) -> None:
        """Gives no more device its turn."""
        self._cancelled = True

    async def work(self, hub: Hub, job_id: str) -> None:
        """Works on a job until it is over.

        Raises:
            Unavailable: the database cannot answer now.
        """
        job = await self._store.read(lambda tx: job_table.find(tx, hub.id, job_id))
        if job is not None and job.status is not JobStatus.RUNNING:
            job = await self._find_devices(hub, job)
        if job is None:
            return
        writing = asyncio.create_task(self._keep_writing(job))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._at_once, job.found)):
                    group.create_task(self._take_turns(hub, job))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await self._write(job)
        if not self._cancelled:
            await self._end(job)

    async def _find_devices(self, hub: Hub, job: Job) -> Job | None:
        """Fixes which devices are meant; None if the job is over."""
        started = self._clock.now()
        if not await self._store.write(
            lambda tx: job_table.move(tx, job, JobStatus.QUEUED, None, 0)
        ):
            return None
        try:
            async for chunk in self._targets.chunks(hub, job.condition):
                if self._cancelled:
                    return None
                await self._store.write(lambda tx, keys=chunk: job_table.add_devices(tx, job, keys))  # type: ignore[misc]
        except (InvalidArgument, TimedOut) as error:
            now, why = self._clock.now(), error.message
            await self._store.write(
                lambda tx: job_table.end(tx, hub.id, job.id, JobStatus.FAILED, now, why)
            )
            return None

        def begin(tx: Transaction) -> Job | None:
            found = job_table.count_devices(tx, job)
            job_table.move(tx, job, JobStatus.RUNNING, started, found)
            return job_table.find(tx, hub.id, job.id)

        begun = await self._store.write(begin)
        return begun if begun is not None and begun.status is JobStatus.RUNNING else None

    async def _take_turns(self, hub: Hub, job: Job) -> None:
        while (key := await self._next(job)) is not None:
            self._busy += 1
            try:
                outcome = await self._do(hub, job, key)
            finally:
                self._busy -= 1
            self._outcomes.append(outcome)

    async def _next(self, job: Job) -> str | None:
        """The next device; None: there is none, or none any more."""
        if not self._due:
            async with self._reading:
                if not self._due:
                    await self._read(job)
        if not self._due or self._is_over(job):
            return None
        key = self._due.popleft()
        await self._turns.take()
        return None if self._is_over(job) else key

    def _is_over(self, job: Job) -> bool:
        ends_by = job.ends_by
        if ends_by is not None and self._clock.now() >= ends_by:
            self._late = True
        return self._late or self._cancelled

    async def _read(self, job: Job) -> None:
        found = await self._store.read(
            lambda tx: job_table.pending(tx, job, self._last, _READ_AT_ONCE)
        )
        if found:
            self._last = found[-1]
            self._due.extend(found)

    async def _do(self, hub: Hub, job: Job, key: str) -> JobOutcome:
        work = job.work
        detail: dict[str, object]
        try:
            if isinstance(work, MethodCall):
                answer = await self._methods.call(hub, key, work)
                detail = {"status": answer.status, "payload": _kept(answer.payload)}
            else:
                twin = await self._twins.change(hub, key, work, if_match="*", by=None)
                detail = {"version": twin.version}
        except FleetrootError as error:
            if isinstance(error, Unavailable) and not isinstance(error, Throttled):
                raise  # it is not the device's: its turn comes again
            detail = {"errorCode": error.code.value, "message": error.message}
            status = DeviceStatus.FAILED
        else:
            status = DeviceStatus.SUCCEEDED
        return JobOutcome(key, status, orjson.dumps(detail).decode(), self._clock.now())

    async def _keep_writing(self, job: Job) -> None:
        while True:
            await asyncio.sleep(_UNTIL_WRITTEN)
            try:
                await self._write(job)
            except FleetrootError:  # what waits is written with the next, or done again
                continue

    async def _write(self, job: Job) -> None:
        outcomes, self._outcomes = self._outcomes, []
        if not outcomes:
            return
        try:
            await self._store.write(lambda tx: job_table.settle(tx, job, outcomes))
        except BaseException:
            self._outcomes = outcomes + self._outcomes
            raise

    async def _end(self, job: Job) -> None:
        now = self._clock.now()
        status, why = JobStatus.COMPLETED, None
        if self._late:
            status = JobStatus.FAILED
            why = f"its time was over after {int(job.most.total_seconds())} s"
        await self._store.write(lambda tx: job_table.end(tx, job.hub_id, job.id, status, now, why))


def _kept(payload: bytes) -> object:
    """What is kept of a device's answer."""
    return orjson.loads(payload) if len(payload) <= _MAX_DETAIL else "(too large to keep)"
