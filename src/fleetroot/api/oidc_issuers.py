"""OIDC issuers over the operator API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.access import EVERYWHERE, Grant, OidcIssuer, Permission, Role
from fleetroot.api.access import EverywhereRoute, actor_of, needs
from fleetroot.api.answers import Answer, Listed, Time
from fleetroot.api.description import answers
from fleetroot.api.namespaces import namespace_names, scope_name
from fleetroot.api.services import Services, services_of

router = APIRouter(prefix="/fleetroot/oidc-issuers", route_class=EverywhereRoute)

_Text = Annotated[str, Field(max_length=2048)]


class GrantBody(BaseModel):
    """What a value of the role claim gives."""

    model_config = ConfigDict(extra="forbid")

    role: Role
    namespace: str | None = Field(default=None, max_length=64)


class IssuerBody(BaseModel):
    """An issuer, but for its name; see `access.OidcIssuer`."""

    model_config = ConfigDict(extra="forbid")

    issuer: _Text
    audience: _Text
    role_claim: _Text = Field(default="roles", alias="roleClaim")
    roles: dict[_Text, GrantBody] = Field(max_length=256)
    ca: str | None = Field(default=None, max_length=65536)


class GrantAnswer(Answer):
    """What a value of the role claim gives."""

    role: Role
    namespace: str | None


class IssuerAnswer(Answer):
    """An issuer."""

    name: str
    issuer: str
    audience: str
    role_claim: str
    roles: dict[str, GrantAnswer]
    ca: str | None
    created_at: Time


@router.get("")
@needs(Permission.READ)
async def list_(request: Request) -> Listed[IssuerAnswer]:
    """Every issuer, by name."""
    names = await namespace_names(request)
    found = await services_of(request).access.oidc_issuers()
    return Listed(value=[_shown(one, names) for one in found])


@router.put("/{name}", responses=answers(409))
@needs(Permission.WRITE_ACCESS)
async def put(request: Request, name: str, body: IssuerBody) -> IssuerAnswer:
    """Adds an issuer, or replaces it."""
    services = services_of(request)
    issuer = OidcIssuer(
        name=name,
        issuer=body.issuer,
        audience=body.audience,
        role_claim=body.role_claim,
        roles={value: await _grant(services, grant) for value, grant in body.roles.items()},
        ca=body.ca,
        created_at=services.clock.now(),
    )
    await services.access.put_oidc_issuer(issuer, by=actor_of(request))
    return _shown(issuer, await namespace_names(request))


@router.delete("/{name}", status_code=204)
@needs(Permission.WRITE_ACCESS)
async def delete(request: Request, name: str) -> Response:
    """Removes an issuer."""
    await services_of(request).access.remove_oidc_issuer(name, by=actor_of(request))
    return Response(status_code=204)


async def _grant(services: Services, body: GrantBody) -> Grant:
    if body.namespace is None:
        return Grant(body.role, EVERYWHERE)
    return Grant(body.role, (await services.registry.namespace(body.namespace)).id)


def _shown(issuer: OidcIssuer, names: dict[str, str]) -> IssuerAnswer:
    return IssuerAnswer(
        name=issuer.name,
        issuer=issuer.issuer,
        audience=issuer.audience,
        role_claim=issuer.role_claim,
        roles={
            value: GrantAnswer(role=grant.role, namespace=scope_name(grant, names))
            for value, grant in issuer.roles.items()
        },
        ca=issuer.ca,
        created_at=issuer.created_at,
    )
