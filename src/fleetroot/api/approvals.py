"""Approvals over the operator API."""

from __future__ import annotations

from fastapi import APIRouter, Request

from fleetroot.access import Permission
from fleetroot.access.approvals import Approval
from fleetroot.api.access import EverywhereRoute, actor_of, needs
from fleetroot.api.answers import Answer, Listed, Time
from fleetroot.api.description import answers
from fleetroot.api.services import Services, services_of

router = APIRouter(prefix="/fleetroot/approvals", route_class=EverywhereRoute)


class ApprovalAnswer(Answer):
    """A request for a second person's approval, and what came of it."""

    id: str
    action: str
    subject: str
    status: str
    requested_by: str
    requested_at: Time
    expires_at: Time
    decided_by: str | None
    decided_at: Time | None


@router.get("")
@needs(Permission.READ)
async def list_(request: Request) -> Listed[ApprovalAnswer]:
    """The newest requests, newest first."""
    services = services_of(request)
    return Listed(value=[_shown(services, one) for one in await services.access.approvals()])


@router.post("/{approval_id}/approve", responses=answers(409))
@needs(Permission.APPROVE)
async def approve(request: Request, approval_id: str) -> ApprovalAnswer:
    """Approves a request; whoever asked can now do it, once."""
    return await _decide(request, approval_id, approve=True)


@router.post("/{approval_id}/reject", responses=answers(409))
@needs(Permission.APPROVE)
async def reject(request: Request, approval_id: str) -> ApprovalAnswer:
    """Rejects a request."""
    return await _decide(request, approval_id, approve=False)


async def _decide(request: Request, approval_id: str, *, approve: bool) -> ApprovalAnswer:
    services = services_of(request)
    return _shown(
        services,
        await services.access.decide(approval_id, approve=approve, by=actor_of(request)),
    )


def _shown(services: Services, approval: Approval) -> ApprovalAnswer:
    return ApprovalAnswer(
        id=approval.id,
        action=approval.action,
        subject=approval.subject,
        status=approval.status(services.clock.now()),
        requested_by=approval.requested_by,
        requested_at=approval.requested_at,
        expires_at=approval.expires_at,
        decided_by=approval.decided_by,
        decided_at=approval.decided_at,
    )
