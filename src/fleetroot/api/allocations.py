"""How provisioning services allocate devices, over the operator API: regions, and the secrets that
calls of webhooks are signed with.
"""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.answers import Answer, Listed
from fleetroot.api.description import answers
from fleetroot.api.service_routes import ServiceRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.provisioning.model import Service
from fleetroot.provisioning.regions import (
    MAX_LATENCIES,
    MAX_MILLISECONDS,
    MAX_NETWORKS,
    DescribedRegion,
)
from fleetroot.provisioning.service_administration import DescribedService
from fleetroot.provisioning.webhook_secrets import WebhookSecrets
from fleetroot.registry.shared_access import WhichKey

router = APIRouter(prefix="/fleetroot/provisioning-services/{service}", route_class=ServiceRoute)

_Network = Annotated[str, Field(min_length=1, max_length=64)]
_HostName = Annotated[str, Field(min_length=1, max_length=253)]
_Milliseconds = Annotated[int, Field(ge=0, le=MAX_MILLISECONDS)]


class RegionBody(BaseModel):
    """A region: networks (CIDR), and milliseconds to hubs by their host names; one of the two."""

    model_config = ConfigDict(extra="forbid", strict=True)

    networks: Annotated[list[_Network], Field(max_length=MAX_NETWORKS)] = []
    latencies: Annotated[dict[_HostName, _Milliseconds], Field(max_length=MAX_LATENCIES)] = {}


class RegionAnswer(Answer):
    """A region."""

    name: str
    networks: list[str]
    latencies: dict[str, int]


class RotateSecretBody(BaseModel):
    """Which of the two is drawn anew."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: WhichKey = Field(strict=False)


class WebhookSecretsAnswer(Answer):
    """Secrets, base64 of 32 bytes."""

    primary: str = Field(repr=False)
    secondary: str = Field(repr=False)


@router.get("/regions")
@needs(Permission.READ)
async def list_regions(request: Request) -> Listed[RegionAnswer]:
    """Every region, by name."""
    found = await services_of(request).regions.list_all(_service(request))
    return Listed(value=[_shown(region) for region in found])


@router.put("/regions/{region}", responses=answers(409))
@needs(Permission.WRITE_SERVICES)
async def put_region(request: Request, region: str, body: RegionBody) -> RegionAnswer:
    """Adds a region, or replaces the one of its name."""
    wanted = DescribedRegion(region, body.networks, body.latencies)
    made = await services_of(request).regions.put(_service(request), wanted, by=actor_of(request))
    return _shown(made)


@router.delete("/regions/{region}", status_code=204)
@needs(Permission.WRITE_SERVICES)
async def delete_region(request: Request, region: str) -> Response:
    """Forgets a region."""
    await services_of(request).regions.delete(_service(request), region, by=actor_of(request))
    return Response(status_code=204)


@router.post("/webhookSecrets")
@needs(Permission.READ_SECRETS)
async def webhook_secrets(request: Request) -> WebhookSecretsAnswer:
    """What calls of webhooks are signed with. A POST, because it is in the audit log."""
    found = await services_of(request).webhook_secrets.read(_service(request), by=actor_of(request))
    return _secrets(found)


@router.post("/webhookSecrets/rotate")
@needs(Permission.WRITE_SERVICES)
async def rotate_webhook_secret(request: Request, body: RotateSecretBody) -> WebhookSecretsAnswer:
    """Draws one of the secrets anew; the other stays."""
    rotated = await services_of(request).webhook_secrets.rotate(
        _service(request), body.key, by=actor_of(request)
    )
    return _secrets(rotated)


def _service(request: Request) -> Service:
    described = described_of(request)
    assert isinstance(described, DescribedService)  # noqa: S101 - of a ServiceRoute
    return described.service


def _shown(region: DescribedRegion) -> RegionAnswer:
    return RegionAnswer(
        name=region.name, networks=list(region.networks), latencies=dict(region.latencies)
    )


def _secrets(found: WebhookSecrets) -> WebhookSecretsAnswer:
    return WebhookSecretsAnswer(
        primary=base64.b64encode(found.primary).decode(),
        secondary=base64.b64encode(found.secondary).decode(),
    )
