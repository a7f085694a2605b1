"""Enrollments over the operator API, below the provisioning service that the path names.

The bodies are those of the service API. Keys are in no answer but those that are asked for them.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from fleetroot import sas
from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.answers import Page
from fleetroot.api.description import answers
from fleetroot.api.enrollment_bodies import EnrollmentAnswer, EnrollmentBody, SymmetricKeyAnswer
from fleetroot.api.enrollment_translation import Translation
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.provisioning_routes import SERVICE_VERSIONS
from fleetroot.api.service_routes import ServiceRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.errors import Conflict
from fleetroot.ids import canonical
from fleetroot.provisioning.model import EnrollmentKind, Service
from fleetroot.provisioning.service_administration import DescribedService

PREFIX = "/fleetroot/provisioning-services/{service}"
router = APIRouter(prefix=PREFIX + "/enrollments", route_class=ServiceRoute)

Kind = Annotated[
    EnrollmentKind, Query(description="Whether enrollments are meant, or enrollment groups.")
]


async def translation_of(request: Request, kind: EnrollmentKind) -> Translation:
    """What reads and shows enrollments of the service, in the words of the newest service API."""
    return await Translation.of(request, service_of(request), kind, SERVICE_VERSIONS[-1])


def service_of(request: Request) -> Service:
    """The provisioning service that the path names."""
    described = described_of(request)
    assert isinstance(described, DescribedService)  # noqa: S101 - its route is a ServiceRoute
    return described.service


@router.get("")
@needs(Permission.READ)
async def list_(
    request: Request,
    kind: Kind = EnrollmentKind.INDIVIDUAL,
    after: Annotated[str, Query(max_length=256)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[EnrollmentAnswer, str]:
    """A page of enrollments without their keys, by id; `next` is the `after` of the next page."""
    found, more_behind = await services_of(request).administration.page(
        service_of(request), kind, after=canonical(after), limit=limit
    )
    translation = await translation_of(request, kind)
    return Page(value=[translation.show(each) for each in found], next=more_behind)


@router.get("/{enrollment_id}")
@needs(Permission.READ)
async def get(
    request: Request, enrollment_id: str, kind: Kind = EnrollmentKind.INDIVIDUAL
) -> EnrollmentAnswer:
    """One enrollment, without its keys."""
    administration = services_of(request).administration
    found = await administration.shown(service_of(request), kind, enrollment_id)
    return (await translation_of(request, kind)).show(found)


@router.post("/{enrollment_id}/keys", responses=answers(409))
@needs(Permission.READ_SECRETS)
async def keys(
    request: Request, enrollment_id: str, kind: Kind = EnrollmentKind.INDIVIDUAL
) -> SymmetricKeyAnswer:
    """The symmetric keys of one enrollment. A POST, because it is in the audit log."""
    found = await services_of(request).administration.read_keys(
        service_of(request), kind, enrollment_id, by=actor_of(request)
    )
    if found.keys is None:
        raise Conflict("the enrollment attests by no symmetric keys")
    return SymmetricKeyAnswer(
        primary_key=sas.encode_key(found.keys.primary),
        secondary_key=sas.encode_key(found.keys.secondary),
    )


@router.put("/{enrollment_id}", responses=answers(409, 412))
@needs(Permission.WRITE_ENROLLMENTS)
async def put(
    request: Request,
    enrollment_id: str,
    body: EnrollmentBody,
    kind: Kind = EnrollmentKind.INDIVIDUAL,
    if_match: IfMatch = None,
) -> EnrollmentAnswer:
    """Creates or replaces an enrollment; keys that are left out are kept, or generated."""
    administration, service = services_of(request).administration, service_of(request)
    translation = await translation_of(request, kind)
    wanted = translation.read(body, enrollment_id)
    await administration.put(
        service,
        kind,
        enrollment_id,
        wanted.settings,
        primary_key=wanted.primary_key,
        secondary_key=wanted.secondary_key,
        if_match=if_match,
        by=actor_of(request),
    )
    return translation.show(await administration.shown(service, kind, enrollment_id))


@router.delete("/{enrollment_id}", status_code=204, responses=answers(412))
@needs(Permission.WRITE_ENROLLMENTS)
async def delete(
    request: Request,
    enrollment_id: str,
    kind: Kind = EnrollmentKind.INDIVIDUAL,
    if_match: IfMatch = None,
) -> Response:
    """Deletes an enrollment; what its devices have, they keep."""
    await services_of(request).administration.delete(
        service_of(request), kind, enrollment_id, if_match, by=actor_of(request)
    )
    return Response(status_code=204)
