"""The values of jobs: what is to be done to many devices, when, and how far it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

import orjson

from fleetroot.errors import InvalidArgument
from fleetroot.hub.methods import MethodCall
from fleetroot.hub.service_twins import SectionChange, TwinChange

MAX_EXECUTION: Final = timedelta(days=7)
DEFAULT_EXECUTION: Final = timedelta(hours=1)
MAX_AHEAD: Final = timedelta(days=366)
MAX_CONDITION: Final = 8192  # characters
_ID: Final = re.compile(r"[A-Za-z0-9\-_.:]{1,128}", re.ASCII)
_RESERVED: Final = "query"  # what the path of the list of jobs says


class JobType(StrEnum):
    """What a job does to each device."""

    METHOD = "scheduleDeviceMethod"
    TWIN = "scheduleUpdateTwin"


class JobStatus(StrEnum):
    """Where a job stands.

    `SCHEDULED`: its time has not come. `QUEUED`: its devices are being found. `COMPLETED`: every
    device had its turn, whatever came of it. `FAILED`: its time was over before that.
    """

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ALIVE: Final = frozenset({JobStatus.SCHEDULED, JobStatus.QUEUED, JobStatus.RUNNING})


class DeviceStatus(StrEnum):
    """What came of a job for one device."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


Work: TypeAlias = MethodCall | TwinChange


@dataclass(frozen=True, slots=True)
class Job:
    """A job on a hub.

    Attributes:
        condition: which devices are meant, as whoever made it wrote it.
        start_at: not before.
        most: how long it may take from when it starts.
        found: devices that are meant; counts once they were found.
        failure: why it failed, if it did.
    """

    hub_id: str
    id: str
    work: Work
    condition: str
    status: JobStatus
    created_at: datetime
    start_at: datetime
    most: timedelta
    started_at: datetime | None = None
    ended_at: datetime | None = None
    found: int = 0
    succeeded: int = 0
    failed: int = 0
    failure: str | None = None

    @property
    def type(self) -> JobType:
        """What it does to each device."""
        return JobType.METHOD if isinstance(self.work, MethodCall) else JobType.TWIN

    @property
    def ends_by(self) -> datetime | None:
        """When its time is over, once it has started."""
        return None if self.started_at is None else self.started_at + self.most


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What came of a job for one device.

    Attributes:
        detail: JSON: the device's answer to a method, or the error; None while it is pending.
    """

    device_key: str
    status: DeviceStatus
    detail: str | None
    ended_at: datetime | None


def check_job_id(job_id: str) -> str:
    """Lets the id of a job pass.

    Raises:
        InvalidArgument: it is none.
    """
    if not _ID.fullmatch(job_id) or job_id.lower() == _RESERVED:
        raise InvalidArgument("jobId: 1 to 128 letters, digits and - _ . :, and not `query`")
    return job_id


def check_times(start_at: datetime, most: timedelta, now: datetime) -> None:
    """Raises:
    InvalidArgument: a job cannot start then, or take so long.
    """
    if start_at > now + MAX_AHEAD:
        raise InvalidArgument(f"startTime: at most {MAX_AHEAD.days} days from now")
    if not timedelta(0) < most <= MAX_EXECUTION:
        raise InvalidArgument(
            f"maxExecutionTimeInSeconds: 1 to {int(MAX_EXECUTION.total_seconds())}"
        )


def work_text(work: Work) -> str:
    """Work as JSON, for its column."""
    if isinstance(work, MethodCall):
        payload = work.payload.decode()
        return orjson.dumps(
            ["method", work.name, payload, work.response_timeout, work.connect_timeout]
        ).decode()
    sections = [
        None if section is None else [section.value, section.whole]
        for section in (work.tags, work.desired)
    ]
    return orjson.dumps(["twin", *sections]).decode()


def read_work(text: str) -> Work:
    """What `work_text` wrote."""
    kind, *fields = orjson.loads(text)
    if kind == "method":
        name, payload, response, connect = fields
        return MethodCall(name, payload.encode(), response, connect)
    tags, desired = (None if each is None else SectionChange(*each) for each in fields)
    return TwinChange(tags, desired)
