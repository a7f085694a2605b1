"""Registrations over the operator API, below the provisioning service that the path names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.answers import Page
from fleetroot.api.description import answers
from fleetroot.api.operator_enrollments import PREFIX, service_of
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.registration_bodies import RegistrationAnswer, show_registration
from fleetroot.api.service_routes import ServiceRoute
from fleetroot.api.services import services_of
from fleetroot.ids import canonical

router = APIRouter(prefix=PREFIX + "/registrations", route_class=ServiceRoute)


@router.get("")
@needs(Permission.READ)
async def list_(
    request: Request,
    group: Annotated[str, Query(max_length=256, description="An enrollment group.")],
    after: Annotated[str, Query(max_length=256)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[RegistrationAnswer, str]:
    """A page of the registrations under a group, by id; `next` is the `after` of the next page."""
    found, more_behind = await services_of(request).registrations.page(
        service_of(request), group, after=canonical(after), limit=limit
    )
    hosts = await _hosts(request)
    return Page(value=[show_registration(each, hosts) for each in found], next=more_behind)


@router.get("/{registration_id}")
@needs(Permission.READ)
async def get(request: Request, registration_id: str) -> RegistrationAnswer:
    """What became of a device."""
    found = await services_of(request).registrations.get(service_of(request), registration_id)
    return show_registration(found, await _hosts(request))


@router.delete("/{registration_id}", status_code=204, responses=answers(412))
@needs(Permission.WRITE_DEVICES)
async def delete(request: Request, registration_id: str, if_match: IfMatch = None) -> Response:
    """Forgets a registration. Its device keeps its hub identity and its certificates."""
    await services_of(request).registrations.delete(
        service_of(request), registration_id, if_match, by=actor_of(request)
    )
    return Response(status_code=204)


async def _hosts(request: Request) -> dict[str, str]:
    linked = await services_of(request).administration.linked_hubs(service_of(request))
    return {id_: host for host, id_ in linked.items()}
