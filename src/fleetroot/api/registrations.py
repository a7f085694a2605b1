"""Registrations over the provisioning service API."""

from __future__ import annotations

from fastapi import Request, Response
from pydantic import RootModel

from fleetroot.access import Permission
from fleetroot.api.access import actor_of
from fleetroot.api.description import answers
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.provisioning_routes import Addressed, asks, provisioning_router
from fleetroot.api.queries import (
    DEFAULT_PAGE,
    Continuation,
    ItemType,
    PageSize,
    QueryBody,
    begin_behind,
    check_query,
    described,
    end_page,
)
from fleetroot.api.registration_bodies import RegistrationAnswer, show_registration
from fleetroot.api.services import services_of
from fleetroot.provisioning.model import Service
from fleetroot.registry.shared_access import Right

router = provisioning_router()


class RegistrationPage(RootModel[list[RegistrationAnswer]]):
    """A page of registrations."""


@router.get("/registrations/{registration_id}")
@asks(Right.REGISTRATION_STATUS_READ, Permission.READ)
async def get(request: Request, service: Addressed, registration_id: str) -> RegistrationAnswer:
    """What became of a device."""
    found = await services_of(request).registrations.get(service, registration_id)
    return show_registration(found, await _hosts(request, service))


@router.delete("/registrations/{registration_id}", status_code=204, responses=answers(412))
@asks(Right.REGISTRATION_STATUS_WRITE, Permission.WRITE_DEVICES)
async def delete(
    request: Request, service: Addressed, registration_id: str, if_match: IfMatch = None
) -> Response:
    """Forgets a registration. Its device keeps its hub identity and its certificates."""
    await services_of(request).registrations.delete(
        service, registration_id, if_match, by=actor_of(request)
    )
    return Response(status_code=204)


@router.post(
    "/registrations/{group_id}/query", responses=described(ItemType.REGISTRATION) | answers(404)
)
@asks(Right.REGISTRATION_STATUS_READ, Permission.READ)
async def query(
    request: Request,
    response: Response,
    service: Addressed,
    group_id: str,
    body: QueryBody | None = None,
    page_size: PageSize = DEFAULT_PAGE,
    continuation: Continuation = None,
) -> RegistrationPage:
    """The registrations under an enrollment group, by page."""
    check_query(body)
    asked = (ItemType.REGISTRATION.value, group_id)
    after = begin_behind(continuation, service, *asked)
    found, more_behind = await services_of(request).registrations.page(
        service, group_id, after=after, limit=page_size
    )
    end_page(response, ItemType.REGISTRATION, more_behind, service, *asked)
    hosts = await _hosts(request, service)
    return RegistrationPage([show_registration(each, hosts) for each in found])


async def _hosts(request: Request, service: Service) -> dict[str, str]:
    linked = await services_of(request).administration.linked_hubs(service)
    return {id_: host for host, id_ in linked.items()}
