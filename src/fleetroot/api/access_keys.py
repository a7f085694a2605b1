"""Shared access keys of hubs and provisioning services over the operator API."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.answers import Listed
from fleetroot.api.arm.service_bodies import ShownRule, shown_rule, shown_rules
from fleetroot.api.description import operation_id
from fleetroot.api.service_routes import HubRoute, ServiceRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.registry.shared_access import WhichKey


class RotateBody(BaseModel):
    """Which of a policy's keys is drawn anew."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: WhichKey = Field(strict=False)


def _routes(name: str, prefix: str, route_class: type[HubRoute | ServiceRoute]) -> APIRouter:
    router = APIRouter(
        prefix=prefix,
        route_class=route_class,
        generate_unique_id_function=partial(operation_id, router=name),
    )

    @router.post("/keys")
    @needs(Permission.READ_SECRETS)
    async def list_(request: Request) -> Listed[ShownRule]:
        """Every shared access policy with its keys. A POST, because it is in the audit log."""
        owner = described_of(request).owner
        found = await services_of(request).access_keys.read_all(owner, by=actor_of(request))
        return Listed(value=shown_rules(found))

    @router.post("/keys/{key}/rotate")
    @needs(Permission.WRITE_SERVICES)
    async def rotate(request: Request, key: str, body: RotateBody) -> ShownRule:
        """Draws one of a policy's keys anew; the other stays."""
        owner = described_of(request).owner
        rotated = await services_of(request).access_keys.rotate(
            owner, key, body.key, by=actor_of(request)
        )
        return shown_rule(rotated)

    return router


of_hubs = _routes("of_hubs", "/fleetroot/hubs/{hub}", HubRoute)
of_services = _routes("of_services", "/fleetroot/provisioning-services/{service}", ServiceRoute)
