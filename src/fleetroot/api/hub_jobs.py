"""Jobs over the hub's service API: made, shown, cancelled and listed.

A list is paged: the continuation says behind which job a page begins. It opens nothing that the
caller may not ask anyway, so it is checked and not signed.

Source: Azure IoT Hub service REST API, 2021-04-12, "Jobs".
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Header, Path, Query, Request, Response

from fleetroot.access import Permission
from fleetroot.api.access import actor_of
from fleetroot.api.description import answers
from fleetroot.api.hub_routes import AddressedHub, asks, hub_router
from fleetroot.api.job_bodies import JobAnswer, JobBody, JobsAnswer, shown_job
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument
from fleetroot.hub.job_model import Job, JobStatus, JobType
from fleetroot.hub.jobs import MAX_PAGE
from fleetroot.registry.shared_access import Right

router = hub_router()

_CONTINUATION: Final = "x-ms-continuation"
_PAGED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            _CONTINUATION: {
                "description": "Where the next page begins. The last page has none.",
                "schema": {"type": "string"},
            }
        }
    }
}

JobId = Annotated[str, Path(max_length=128)]


# Before the routes that take it for an id.
@router.get("/jobs/v2/query", responses=_PAGED)
@asks(Right.SERVICE_CONNECT, Permission.READ)
async def query(
    request: Request,
    response: Response,
    hub: AddressedHub,
    job_type: Annotated[JobType | None, Query(alias="jobType")] = None,
    job_status: Annotated[JobStatus | None, Query(alias="jobStatus")] = None,
    size: Annotated[int, Header(alias="x-ms-max-item-count", ge=1, le=MAX_PAGE)] = 100,
    continuation: Annotated[str | None, Header(alias=_CONTINUATION, max_length=512)] = None,
) -> JobsAnswer:
    """The hub's jobs, newest first."""
    jobs = services_of(request).hubs.jobs
    before = None if continuation is None else _read(continuation)
    found = await jobs.page(hub, type_=job_type, status=job_status, before=before, limit=size)
    if len(found) == size:
        response.headers[_CONTINUATION] = _written(found[-1])
    return JobsAnswer([shown_job(job, jobs.running(job)) for job in found])


@router.put("/jobs/v2/{job_id}", responses=answers(409))
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def create(request: Request, hub: AddressedHub, job_id: JobId, body: JobBody) -> JobAnswer:
    """Makes a job; durable when this answers."""
    work, condition, start_at, most = body.asked(job_id)
    jobs = services_of(request).hubs.jobs
    by = actor_of(request)
    job = await jobs.create(hub, job_id, work, condition, start_at=start_at, most=most, by=by)
    return shown_job(job, 0)


@router.get("/jobs/v2/{job_id}")
@asks(Right.SERVICE_CONNECT, Permission.READ)
async def get(request: Request, hub: AddressedHub, job_id: JobId) -> JobAnswer:
    """A job, and how far it is."""
    jobs = services_of(request).hubs.jobs
    job = await jobs.get(hub, job_id)
    return shown_job(job, jobs.running(job))


@router.post("/jobs/v2/{job_id}/cancel", responses=answers(409))
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def cancel(request: Request, hub: AddressedHub, job_id: JobId) -> JobAnswer:
    """Ends a job; devices whose turn it is are finished."""
    jobs = services_of(request).hubs.jobs
    job = await jobs.cancel(hub, job_id, by=actor_of(request))
    return shown_job(job, jobs.running(job))


def _written(job: Job) -> str:
    text = f"{job.created_at.timestamp():.6f} {job.id}"
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _read(continuation: str) -> tuple[datetime, str]:
    try:
        text = base64.urlsafe_b64decode(continuation + "=" * (-len(continuation) % 4)).decode()
        at, _, job_id = text.partition(" ")
        return datetime.fromtimestamp(float(at), UTC), job_id
    except (binascii.Error, ValueError, OverflowError, OSError):
        raise InvalidArgument(f"{_CONTINUATION}: is not one of a list of jobs") from None
