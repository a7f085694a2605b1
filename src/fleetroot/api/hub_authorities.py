"""The issuing CAs that a hub trusts, over the operator API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.answers import Answer, Listed, Time
from fleetroot.api.service_routes import HubRoute
from fleetroot.api.services import services_of

router = APIRouter(prefix="/fleetroot/hubs/{hub}/authorities", route_class=HubRoute)


class TrustedAuthorityAnswer(Answer):
    """An issuing CA that was synchronized to the hub, and the policy that it signs for, unless that
    was deleted.
    """

    id: str
    policy: str | None
    not_after: Time
    synchronized_at: Time


@router.get("")
@needs(Permission.READ)
async def list_(request: Request, hub: str) -> Listed[TrustedAuthorityAnswer]:
    """The issuing CAs that the hub trusts, oldest first."""
    hubs = services_of(request).hubs
    found = await hubs.trusted_authorities(await hubs.by_name(hub))
    return Listed(
        value=[
            TrustedAuthorityAnswer(
                id=each.id,
                policy=each.policy,
                not_after=each.not_after,
                synchronized_at=each.synchronized_at,
            )
            for each in found
        ]
    )


@router.delete("/{authority_id}", status_code=204)
@needs(Permission.WRITE_CREDENTIALS)
async def distrust(
    request: Request, hub: str, authority_id: Annotated[str, Path(max_length=128)]
) -> Response:
    """Takes an issuing CA from what the hub trusts: connections by it end at once. The next
    synchronization of its namespace brings it back.
    """
    hubs = services_of(request).hubs
    await hubs.distrust(await hubs.by_name(hub), authority_id, by=actor_of(request))
    return Response(status_code=204)
