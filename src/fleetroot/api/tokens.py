"""Tokens over the operator API: listed, made, rotated, revoked.

A secret is in the answer that makes it and nowhere else.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.access import EVERYWHERE, Grant, Permission, Role, Token, TokenText
from fleetroot.access.access import DEFAULT_LIFETIME, DEFAULT_OVERLAP, FIRST
from fleetroot.api.access import EverywhereRoute, actor_of, needs
from fleetroot.api.answers import Answer, Listed, Time
from fleetroot.api.description import answers
from fleetroot.api.namespaces import namespace_names, scope_name
from fleetroot.api.services import services_of

router = APIRouter(prefix="/fleetroot/tokens", route_class=EverywhereRoute)

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


class TokenAnswer(Answer):
    """A token, without its secret.

    Attributes:
        namespace: what its role is on; null: everything.
    """

    id: str
    name: str
    role: Role
    namespace: str | None
    status: str
    created_by: str
    created_at: Time
    rotated_at: Time | None
    expires_at: Time
    last_used_at: Time | None


class NewToken(TokenAnswer):
    """A token with its secret, which is told this once."""

    token: str = Field(repr=False)


@router.get("")
@needs(Permission.READ)
async def list_(request: Request) -> Listed[TokenAnswer]:
    """Every token, oldest first."""
    found, names = await services_of(request).access.tokens(), await namespace_names(request)
    return Listed(value=[_shown(request, token, names) for token in found])


@router.post("", status_code=201, responses=answers(404, 409))
@needs(Permission.WRITE_ACCESS)
async def create(request: Request, body: CreateBody) -> NewToken:
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
    return await _new(request, token, text)


@router.post("/{name}/rotate")
@needs(Permission.WRITE_ACCESS)
async def rotate(request: Request, name: str, body: RotateBody | None = None) -> NewToken:
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
    return await _new(request, token, text)


@router.post("/{name}/revoke")
@needs(Permission.WRITE_ACCESS)
async def revoke(request: Request, name: str) -> TokenAnswer:
    """Ends a token."""
    token = await services_of(request).access.revoke_token(name, by=actor_of(request))
    return _shown(request, token, await namespace_names(request))


async def _new(request: Request, token: Token, text: TokenText) -> NewToken:
    shown = _shown(request, token, await namespace_names(request))
    return NewToken(**dict(shown), token=text.text)


def _shown(request: Request, token: Token, names: dict[str, str]) -> TokenAnswer:
    return TokenAnswer(
        id=token.id,
        name=token.name,
        role=token.grant.role,
        namespace=scope_name(token.grant, names),
        status=token.status(services_of(request).clock.now()),
        created_by=token.created_by,
        created_at=token.created_at,
        rotated_at=token.rotated_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
    )
