"""Jobs, and what came of them for each device: their tables.

A job that is over is never changed again: each statement that moves one asks that it is alive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, and_, bindparam, delete, func, or_, select, update

from fleetroot.hub.job_model import (
    DeviceStatus,
    Job,
    JobOutcome,
    JobStatus,
    JobType,
    read_work,
    work_text,
)
from fleetroot.hub.model import Hub
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import AdHocQuery, insert_if_absent, insert_into
from fleetroot.storage.schema import hubs, job_devices, jobs

_REMOVE_AT_ONCE: Final = 1000  # devices of jobs, so that no unit of work holds up the others


def _row(
    hub_id: str,
    job_id: str,
    _type: str,
    work: str,
    condition: str,
    status: str,
    created_at: datetime,
    start_at: datetime,
    most_seconds: int,
    started_at: datetime | None,
    ended_at: datetime | None,
    found: int,
    succeeded: int,
    failed: int,
    failure: str | None,
) -> Job:
    return Job(
        hub_id,
        job_id,
        read_work(work),
        condition,
        JobStatus(status),
        created_at,
        start_at,
        timedelta(seconds=most_seconds),
        started_at,
        ended_at,
        found,
        succeeded,
        failed,
        failure,
    )


def _outcome(key: str, status: str, detail: str | None, ended_at: datetime | None) -> JobOutcome:
    return JobOutcome(key, DeviceStatus(status), detail, ended_at)


_is_job: Final = (jobs.c.hub_id == bindparam("hub")) & (jobs.c.id == bindparam("job"))
_is_alive: Final = jobs.c.ended_at.is_(None)
_INSERT: Final = Command(insert_into(jobs))
_GET: Final = Query(select(jobs).where(_is_job), _row)
_COUNT_ALIVE: Final = Query(
    select(func.count()).select_from(jobs).where((jobs.c.hub_id == bindparam("hub")) & _is_alive),
    int,
)
_DUE: Final = Query(
    select(*hubs.columns, jobs.c.id)
    .join_from(jobs, hubs, hubs.c.id == jobs.c.hub_id)
    .where(_is_alive & (jobs.c.start_at <= bindparam("now")))
    .order_by(jobs.c.start_at, jobs.c.created_at, jobs.c.id)
    .limit(bindparam("most")),
    lambda *columns: (columns[:-1], columns[-1]),
)
_MOVE: Final = Command(
    update(jobs)
    .where(_is_job & _is_alive)
    .values(
        status=bindparam("new_status"),
        started_at=bindparam("new_started"),
        found=bindparam("new_found"),
    )
)
_END: Final = Command(
    update(jobs)
    .where(_is_job & _is_alive)
    .values(
        status=bindparam("new_status"),
        failure=bindparam("new_failure"),
        ended_at=bindparam("now"),
    )
)
_COUNT: Final = Command(
    update(jobs)
    .where(_is_job)
    .values(
        succeeded=jobs.c.succeeded + bindparam("more_succeeded"),
        failed=jobs.c.failed + bindparam("more_failed"),
    )
)
_of_job: Final = (job_devices.c.hub_id == bindparam("hub")) & (
    job_devices.c.job_id == bindparam("job")
)
_ADD_DEVICE: Final = Command(insert_if_absent(job_devices))
_COUNT_DEVICES: Final = Query(select(func.count()).select_from(job_devices).where(_of_job), int)
_PENDING: Final = Query(
    select(job_devices.c.device_key)
    .where(_of_job & (job_devices.c.status == DeviceStatus.PENDING.value))
    .where(job_devices.c.device_key > bindparam("after"))
    .order_by(job_devices.c.device_key)
    .limit(bindparam("most")),
    str,
)
_SETTLE: Final = Command(
    update(job_devices)
    .where(_of_job & (job_devices.c.device_key == bindparam("key")))
    .where(job_devices.c.status == DeviceStatus.PENDING.value)
    .values(
        status=bindparam("new_status"), detail=bindparam("new_detail"), ended_at=bindparam("now")
    )
)
_OLD: Final = Query(
    select(jobs.c.hub_id, jobs.c.id).where(jobs.c.ended_at < bindparam("before")).limit(1),
    lambda hub_id, job_id: (hub_id, job_id),
)
_SOME: Final = (
    select(job_devices.c.device_key).where(_of_job).limit(bindparam("most")).scalar_subquery()
)
_REMOVE_SOME: Final = Command(
    delete(job_devices).where(_of_job & job_devices.c.device_key.in_(_SOME))
)
_REMOVE: Final = Command(delete(jobs).where(_is_job))


def insert(tx: Transaction, job: Job) -> None:
    """Adds a job."""
    tx.run(
        _INSERT,
        hub_id=job.hub_id,
        id=job.id,
        type=job.type.value,
        work=work_text(job.work),
        condition=job.condition,
        status=job.status.value,
        created_at=job.created_at,
        start_at=job.start_at,
        most_seconds=int(job.most.total_seconds()),
        started_at=None,
        ended_at=None,
        found=0,
        succeeded=0,
        failed=0,
        failure=None,
    )


def find(tx: Transaction, hub_id: str, job_id: str) -> Job | None:
    """The job of that id."""
    return tx.first(_GET, hub=hub_id, job=job_id)


def count_alive(tx: Transaction, hub_id: str) -> int:
    """How many jobs of the hub are not over."""
    return tx.first(_COUNT_ALIVE, hub=hub_id) or 0


def page(
    tx: Transaction,
    hub_id: str,
    type_: JobType | None,
    status: JobStatus | None,
    before: tuple[datetime, str] | None,
    limit: int,
) -> list[Job]:
    """Jobs of the hub, newest first, behind a place: when one was created, and its id."""
    query: Select[Any] = select(jobs).where(jobs.c.hub_id == bindparam("hub"))
    given: dict[str, Any] = {"hub": hub_id, "most": limit}
    if type_ is not None:
        query, given["type"] = query.where(jobs.c.type == bindparam("type")), type_.value
    if status is not None:
        query, given["status"] = query.where(jobs.c.status == bindparam("status")), status.value
    if before is not None:
        at = bindparam("at", type_=jobs.c.created_at.type)
        query = query.where(
            or_(
                jobs.c.created_at < at,
                and_(jobs.c.created_at == at, jobs.c.id > bindparam("behind")),
            )
        )
        given["at"], given["behind"] = before
    query = query.order_by(jobs.c.created_at.desc(), jobs.c.id).limit(bindparam("most"))
    return tx.all(AdHocQuery(query, _row), **given)


def due(tx: Transaction, now: datetime, most: int) -> list[tuple[Hub, str]]:
    """Jobs that are to be worked on: their hub and id, those whose time came first at first."""
    names = [column.name for column in hubs.columns]
    found = []
    for columns, job_id in tx.all(_DUE, now=now, most=most):
        told = dict(zip(names, columns, strict=True))
        found.append((Hub(**{name: told[name] for name in Hub.__slots__}), job_id))
    return found


def move(
    tx: Transaction, job: Job, status: JobStatus, started_at: datetime | None, found: int
) -> bool:
    """Moves a job on; False if it is over."""
    return bool(
        tx.run(
            _MOVE,
            hub=job.hub_id,
            job=job.id,
            new_status=status.value,
            new_started=started_at,
            new_found=found,
        )
    )


def end(
    tx: Transaction,
    hub_id: str,
    job_id: str,
    status: JobStatus,
    now: datetime,
    failure: str | None = None,
) -> bool:
    """Ends a job; False if it is over."""
    return bool(
        tx.run(
            _END,
            hub=hub_id,
            job=job_id,
            new_status=status.value,
            new_failure=failure,
            now=now,
        )
    )


def add_devices(tx: Transaction, job: Job, keys: Collection[str]) -> None:
    """Adds devices to a job; those that it has stay as they are."""
    tx.run_many(
        _ADD_DEVICE,
        (
            {
                "hub_id": job.hub_id,
                "job_id": job.id,
                "device_key": key,
                "status": DeviceStatus.PENDING.value,
                "detail": None,
                "ended_at": None,
            }
            for key in keys
        ),
    )


def count_devices(tx: Transaction, job: Job) -> int:
    """How many devices a job has."""
    return tx.first(_COUNT_DEVICES, hub=job.hub_id, job=job.id) or 0


def pending(tx: Transaction, job: Job, after: str, most: int) -> list[str]:
    """Keys of devices that had no turn yet, behind `after`, in their order."""
    return tx.all(_PENDING, hub=job.hub_id, job=job.id, after=after, most=most)


def settle(tx: Transaction, job: Job, outcomes: Iterable[JobOutcome]) -> None:
    """Keeps what came of a job for some devices; the first that is kept of each counts."""
    more = dict.fromkeys((DeviceStatus.SUCCEEDED, DeviceStatus.FAILED), 0)
    for each in outcomes:
        more[each.status] += tx.run(
            _SETTLE,
            hub=job.hub_id,
            job=job.id,
            key=each.device_key,
            new_status=each.status.value,
            new_detail=each.detail,
            now=each.ended_at,
        )
    tx.run(
        _COUNT,
        hub=job.hub_id,
        job=job.id,
        more_succeeded=more[DeviceStatus.SUCCEEDED],
        more_failed=more[DeviceStatus.FAILED],
    )


def outcomes(
    tx: Transaction,
    hub_id: str,
    job_id: str,
    status: DeviceStatus | None,
    after: str,
    limit: int,
) -> list[JobOutcome]:
    """What came of a job for its devices behind `after`, in the order of their keys."""
    query: Select[Any] = select(
        job_devices.c.device_key,
        job_devices.c.status,
        job_devices.c.detail,
        job_devices.c.ended_at,
    ).where(_of_job & (job_devices.c.device_key > bindparam("after")))
    given: dict[str, Any] = {"hub": hub_id, "job": job_id, "after": after, "most": limit}
    if status is not None:
        query = query.where(job_devices.c.status == bindparam("status"))
        given["status"] = status.value
    query = query.order_by(job_devices.c.device_key).limit(bindparam("most"))
    return tx.all(AdHocQuery(query, _outcome), **given)


def remove_some(tx: Transaction, before: datetime) -> bool:
    """Removes some of a job that was over before then; whether there may be more."""
    old = tx.first(_OLD, before=before)
    if old is None:
        return False
    hub_id, job_id = old
    if tx.run(_REMOVE_SOME, hub=hub_id, job=job_id, most=_REMOVE_AT_ONCE) < _REMOVE_AT_ONCE:
        tx.run(_REMOVE, hub=hub_id, job=job_id)
    return True
