"""Jobs in JSON, as the hub's services send and see them.

Source: Azure IoT Hub service REST API, 2021-04-12, "Jobs - Create Scheduled Job"; and the code of
`azure-iothub` 1.16 and `azure-iot-hub` 2.7.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.alias_generators import to_camel

from fleetroot.api.answers import Answer, Nothing, Time, left_out
from fleetroot.api.direct_methods import MethodBody, read_call
from fleetroot.api.sent_times import SentTime
from fleetroot.api.twin_bodies import TwinBody
from fleetroot.errors import InvalidArgument
from fleetroot.hub.job_model import (
    DEFAULT_EXECUTION,
    MAX_CONDITION,
    MAX_EXECUTION,
    DeviceStatus,
    Job,
    JobOutcome,
    JobStatus,
    JobType,
    Work,
)
from fleetroot.hub.methods import MethodCall

_MAX_SECONDS: Final = int(MAX_EXECUTION.total_seconds())


class Asked(NamedTuple):
    """What a body asks for."""

    work: Work
    condition: str
    start_at: datetime | None
    most: timedelta


class JobBody(BaseModel):
    """A job: a method to call or a twin's patch, and for which devices."""

    model_config = ConfigDict(alias_generator=to_camel)

    job_id: str | None = Field(default=None, description="As in the path, if it is there.")
    type: Literal["scheduleDeviceMethod", "scheduleUpdateTwin"]
    cloud_to_device_method: MethodBody | None = None
    update_twin: TwinBody | None = Field(default=None, description="Merged into each twin.")
    query_condition: Annotated[str, Field(max_length=MAX_CONDITION)] | None = Field(
        default=None, description="What stands behind WHERE of a query; `*` for all devices."
    )
    start_time: SentTime | None = Field(default=None, description="At once by default.")
    max_execution_time_in_seconds: Annotated[int, Field(ge=1, le=_MAX_SECONDS)] | None = Field(
        default=None, description=f"{int(DEFAULT_EXECUTION.total_seconds())} by default."
    )

    def asked(self, job_id: str) -> Asked:
        """What it asks for, under the id of the path.

        Raises:
            InvalidArgument, TooLarge: a field is missing, or not as it must be.
        """
        if self.job_id is not None and self.job_id != job_id:
            raise InvalidArgument("jobId: is not that of the path")
        if self.query_condition is None:
            raise InvalidArgument("queryCondition: required; `*` for all devices")
        seconds = self.max_execution_time_in_seconds
        most = DEFAULT_EXECUTION if seconds is None else timedelta(seconds=seconds)
        return Asked(self._work(), self.query_condition, self.start_time, most)

    def _work(self) -> Work:
        if self.type == JobType.METHOD.value:
            if self.cloud_to_device_method is None:
                raise InvalidArgument("cloudToDeviceMethod: required for this type")
            return read_call(self.cloud_to_device_method)
        if self.update_twin is None:
            raise InvalidArgument("updateTwin: required for this type")
        change = self.update_twin.patch()
        if change.tags is None and change.desired is None:
            raise InvalidArgument("updateTwin: has neither tags nor desired properties")
        return change


class StatisticsAnswer(Answer):
    """How far a job is; the devices are counted once they were found."""

    device_count: int
    failed_count: int
    succeeded_count: int
    running_count: int
    pending_count: int


class JobAnswer(Answer):
    """A job, and how far it is."""

    job_id: str
    query_condition: str
    created_time: Time
    start_time: Time
    end_time: Time | Nothing = left_out()
    max_execution_time_in_seconds: int
    type: JobType
    cloud_to_device_method: dict[str, Any] | Nothing = left_out()
    update_twin: dict[str, Any] | Nothing = left_out()
    status: JobStatus
    failure_reason: str | Nothing = left_out()
    status_message: str | Nothing = left_out()
    device_job_statistics: StatisticsAnswer


class JobsAnswer(RootModel[list[JobAnswer]]):
    """Jobs, newest first."""


class OutcomeAnswer(Answer):
    """What came of a job for one device."""

    device_id: str = Field(description="In its canonical form.")
    status: DeviceStatus
    outcome: Any = Field(description="What the device answered, or the error; null: no turn yet.")
    end_time: Time | None


def shown_job(job: Job, running: int) -> JobAnswer:
    """A job as it is answered; it is the turn of so many devices now."""
    work = job.work
    method: dict[str, Any] | None = None
    twin: dict[str, Any] | None = None
    if isinstance(work, MethodCall):
        method = {
            "methodName": work.name,
            "payload": orjson.loads(work.payload),
            "responseTimeoutInSeconds": int(work.response_timeout),
            "connectTimeoutInSeconds": int(work.connect_timeout),
        }
    else:
        twin = {"etag": "*"}
        if work.tags is not None:
            twin["tags"] = work.tags.value
        if work.desired is not None:
            twin["properties"] = {"desired": work.desired.value}
    left = job.found - job.succeeded - job.failed
    running = min(running, left)
    return JobAnswer(
        job_id=job.id,
        query_condition=job.condition,
        created_time=job.created_at,
        start_time=job.start_at,
        end_time=job.ended_at,
        max_execution_time_in_seconds=int(job.most.total_seconds()),
        type=job.type,
        cloud_to_device_method=method,
        update_twin=twin,
        status=job.status,
        failure_reason=job.failure,
        device_job_statistics=StatisticsAnswer(
            device_count=job.found,
            failed_count=job.failed,
            succeeded_count=job.succeeded,
            running_count=running,
            pending_count=left - running,
        ),
    )


def shown_outcome(outcome: JobOutcome) -> OutcomeAnswer:
    """What came of a job for a device, as it is answered."""
    return OutcomeAnswer(
        device_id=outcome.device_key,
        status=outcome.status,
        outcome=None if outcome.detail is None else orjson.loads(outcome.detail),
        end_time=outcome.ended_at,
    )
