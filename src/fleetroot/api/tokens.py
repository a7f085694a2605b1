"""Tokens over the operator API: listed, made, rotated, revoked.

A secret is in the answer that makes it and nowhere else.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.access import EVERYWHERE, Grant, Permission, Role, Token, TokenText
from fleetroot.access.access import DEFAULT_LIFETIME, DEFAULT_OVERLAP, FIRST
from fleetroot.api.access import OperatorRoute, actor_of, needs
from fleetroot.api.services import Services, services_of
from fleetroot.clock import iso8601

router = APIRouter(prefix="/fleetroot/tokens", route_class=OperatorRoute)

_Days = Annotated[float, Field(gt=0, le=3660)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CreateBody(_Body):
    """A token to make.

    Attributes:
        namespace: a role on this one; left out, on everything.
    """

    name: str = Field(max_length=64)
    role: Role = Field(strict=False)
    namespace: str | None = Field(default=None, max_length=64)
    days: _Days = DEFAULT_LIFETIME.days


class RotateBody(_Body):
    """How to rotate: the old secret is good for this much longer."""

    days: _Days = DEFAULT_LIFETIME.days
    overlap_seconds: float = Field(
        default=DEFAULT_OVERLAP.total_seconds(), ge=0, le=604800, alias="overlapSeconds"
    )


@router.get("")
@needs(Permission.READ)
async def list_(request: Request) -> dict[str, Any]:
    """Every token, oldest first."""
    services = services_of(request)
    return {"value": [_shown(services, token) for token in await services.access.tokens()]}


@router.post("", status_code=201)
@needs(Permission.WRITE_ACCESS)
async def create(request: Request, body: CreateBody) -> dict[str, Any]:
    """Makes a token."""
    services = services_of(request)
    scope = EVERYWHERE
    if body.namespace is not None:
        scope = (await services.registry.namespace(body.namespace)).id
    token, text = await services.access.create_token(
        body.name,
        Grant(body.role, scope),
        lifetime=timedelta(days=body.days),
        by=actor_of(request),
    )
    return _shown(services, token, text)


@router.post("/{name}/rotate")
@needs(Permission.WRITE_ACCESS)
async def rotate(request: Request, name: str, body: RotateBody | None = None) -> dict[str, Any]:
    """Gives a token a new secret."""
    services, body = services_of(request), body or RotateBody()
    token, text = await services.access.rotate_token(
        name,
        lifetime=timedelta(days=body.days),
        overlap=timedelta(seconds=body.overlap_seconds),
        by=actor_of(request),
    )
    if token.name == FIRST:
        services.keep_first_token(text)
    return _shown(services, token, text)


@router.post("/{name}/revoke")
@needs(Permission.WRITE_ACCESS)
async def revoke(request: Request, name: str) -> dict[str, Any]:
    """Ends a token."""
    services = services_of(request)
    return _shown(services, await services.access.revoke_token(name, by=actor_of(request)))


def _shown(services: Services, token: Token, text: TokenText | None = None) -> dict[str, Any]:
    namespace = services.namespace
    shown: dict[str, Any] = {
        "id": token.id,
        "name": token.name,
        "role": token.grant.role.value,
        "namespace": namespace.name if token.grant.namespace_id == namespace.id else None,
        "status": token.status(services.clock.now()),
        "createdBy": token.created_by,
        "createdAt": iso8601(token.created_at),
        "rotatedAt": iso8601(token.rotated_at) if token.rotated_at else None,
        "expiresAt": iso8601(token.expires_at),
        "lastUsedAt": iso8601(token.last_used_at) if token.last_used_at else None,
    }
    if text is not None:
        shown["token"] = text.text
    return shown
