"""Approvals over the operator API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from fleetroot.access import Permission
from fleetroot.access.approvals import Approval
from fleetroot.api.access import OperatorRoute, actor_of, needs
from fleetroot.api.services import Services, services_of
from fleetroot.clock import iso8601

router = APIRouter(prefix="/fleetroot/approvals", route_class=OperatorRoute)


@router.get("")
@needs(Permission.READ)
async def list_(request: Request) -> dict[str, Any]:
    """The newest requests, newest first."""
    services = services_of(request)
    return {"value": [_shown(services, one) for one in await services.access.approvals()]}


@router.post("/{approval_id}/approve")
@needs(Permission.APPROVE)
async def approve(request: Request, approval_id: str) -> dict[str, Any]:
    """Approves a request; whoever asked can now do it, once."""
    return await _decide(request, approval_id, approve=True)


@router.post("/{approval_id}/reject")
@needs(Permission.APPROVE)
async def reject(request: Request, approval_id: str) -> dict[str, Any]:
    """Rejects a request."""
    return await _decide(request, approval_id, approve=False)


async def _decide(request: Request, approval_id: str, *, approve: bool) -> dict[str, Any]:
    services = services_of(request)
    return _shown(
        services,
        await services.access.decide(approval_id, approve=approve, by=actor_of(request)),
    )


def _shown(services: Services, approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "action": approval.action,
        "subject": approval.subject,
        "status": approval.status(services.clock.now()),
        "requestedBy": approval.requested_by,
        "requestedAt": iso8601(approval.requested_at),
        "expiresAt": iso8601(approval.expires_at),
        "decidedBy": approval.decided_by,
        "decidedAt": iso8601(approval.decided_at) if approval.decided_at else None,
    }
