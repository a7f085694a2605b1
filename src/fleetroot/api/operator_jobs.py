"""Jobs over the operator API: those of the hub that the path names, and what came of them for each
device.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.answers import Limit, Listed, Page
from fleetroot.api.description import answers
from fleetroot.api.job_bodies import (
    JobAnswer,
    JobBody,
    OutcomeAnswer,
    shown_job,
    shown_outcome,
)
from fleetroot.api.service_routes import HubRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.hub.job_model import DeviceStatus, JobStatus, JobType
from fleetroot.hub.model import Hub

router = APIRouter(prefix="/fleetroot/hubs/{hub}/jobs", route_class=HubRoute)

_Id = Annotated[str, Path(max_length=128)]


@router.get("")
@needs(Permission.READ)
async def list_(
    request: Request,
    type: JobType | None = None,  # noqa: A002 - a parameter's name on the wire
    status: JobStatus | None = None,
    limit: Limit = 100,
) -> Listed[JobAnswer]:
    """The hub's newest jobs."""
    jobs = services_of(request).hubs.jobs
    found = await jobs.page(await _hub(request), type_=type, status=status, limit=limit)
    return Listed(value=[shown_job(job, jobs.running(job)) for job in found])


@router.put("/{job_id}", responses=answers(409))
@needs(Permission.WRITE_DEVICES)
async def create(request: Request, job_id: _Id, body: JobBody) -> JobAnswer:
    """Makes a job; durable when this answers."""
    work, condition, start_at, most = body.asked(job_id)
    hub, by = await _hub(request), actor_of(request)
    jobs = services_of(request).hubs.jobs
    job = await jobs.create(hub, job_id, work, condition, start_at=start_at, most=most, by=by)
    return shown_job(job, 0)


@router.get("/{job_id}")
@needs(Permission.READ)
async def get(request: Request, job_id: _Id) -> JobAnswer:
    """A job, and how far it is."""
    jobs = services_of(request).hubs.jobs
    job = await jobs.get(await _hub(request), job_id)
    return shown_job(job, jobs.running(job))


@router.post("/{job_id}/cancel", responses=answers(409))
@needs(Permission.WRITE_DEVICES)
async def cancel(request: Request, job_id: _Id) -> JobAnswer:
    """Ends a job; devices whose turn it is are finished."""
    jobs = services_of(request).hubs.jobs
    job = await jobs.cancel(await _hub(request), job_id, by=actor_of(request))
    return shown_job(job, jobs.running(job))


@router.get("/{job_id}/devices")
@needs(Permission.READ)
async def devices(
    request: Request,
    job_id: _Id,
    status: DeviceStatus | None = None,
    after: Annotated[str, Query(max_length=256)] = "",
    limit: Limit = 100,
) -> Page[OutcomeAnswer, str]:
    """What came of a job for each device, in the order of their ids."""
    jobs = services_of(request).hubs.jobs
    found = await jobs.outcomes(
        await _hub(request), job_id, status=status, after=after, limit=limit
    )
    return Page(
        value=[shown_outcome(each) for each in found],
        next=found[-1].device_key if len(found) == limit else None,
    )


async def _hub(request: Request) -> Hub:
    return await services_of(request).hubs.by_name(described_of(request).owner.name)
