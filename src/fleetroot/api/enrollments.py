"""Enrollments and enrollment groups over the provisioning service API: one by one, and by page.

Keys are answered to whoever wrote them, and by `attestationmechanism`, which is in the audit log.
Nobody who only reads gets them.
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response
from pydantic import RootModel

from fleetroot.access import Permission
from fleetroot.api.access import actor_of
from fleetroot.api.description import answers, operation_id
from fleetroot.api.enrollment_bodies import (
    AttestationAnswer,
    EnrollmentAnswer,
    EnrollmentBody,
    attestation_of,
)
from fleetroot.api.enrollment_translation import Translation
from fleetroot.api.preconditions import IfMatch
from fleetroot.api.provisioning_routes import Addressed, ApiVersion, asks, provisioning_router
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
from fleetroot.api.services import services_of
from fleetroot.provisioning.model import EnrollmentKind
from fleetroot.registry.shared_access import Right


class EnrollmentPage(RootModel[list[EnrollmentAnswer]]):
    """A page of enrollments or enrollment groups."""


def _routes(name: str, path: str, kind: EnrollmentKind, item_type: ItemType) -> APIRouter:
    router = provisioning_router(partial(operation_id, router=name))
    of_one = f"{path}/{{enrollment_id}}"

    @router.put(of_one, responses=answers(409, 412))
    @asks(Right.ENROLLMENT_WRITE, Permission.WRITE_ENROLLMENTS, Permission.READ_SECRETS)
    async def put(
        request: Request,
        service: Addressed,
        version: ApiVersion,
        enrollment_id: str,
        body: EnrollmentBody,
        if_match: IfMatch = None,
    ) -> EnrollmentAnswer:
        """Creates or replaces it. Keys that are left out are generated, or kept."""
        translation = await Translation.of(request, service, kind, version)
        wanted = translation.read(body, enrollment_id)
        made = await services_of(request).administration.put(
            service,
            kind,
            enrollment_id,
            wanted.settings,
            primary_key=wanted.primary_key,
            secondary_key=wanted.secondary_key,
            keep_policy=wanted.keep_policy,
            if_match=if_match,
            by=actor_of(request),
        )
        return translation.show_with_keys(made)

    @router.get(of_one)
    @asks(Right.ENROLLMENT_READ, Permission.READ)
    async def get(
        request: Request, service: Addressed, version: ApiVersion, enrollment_id: str
    ) -> EnrollmentAnswer:
        """What it is, without its keys."""
        found = await services_of(request).administration.shown(service, kind, enrollment_id)
        return (await Translation.of(request, service, kind, version)).show(found)

    @router.delete(of_one, status_code=204, responses=answers(412))
    @asks(Right.ENROLLMENT_WRITE, Permission.WRITE_ENROLLMENTS)
    async def delete(
        request: Request, service: Addressed, enrollment_id: str, if_match: IfMatch = None
    ) -> Response:
        """Deletes it. What its devices have, they keep."""
        await services_of(request).administration.delete(
            service, kind, enrollment_id, if_match, by=actor_of(request)
        )
        return Response(status_code=204)

    @router.post(f"{of_one}/attestationmechanism")
    @asks(Right.ENROLLMENT_WRITE, Permission.READ_SECRETS)
    async def attestation_mechanism(
        request: Request, service: Addressed, enrollment_id: str
    ) -> AttestationAnswer:
        """How its devices prove who they are, with its keys. A POST: it is in the audit log."""
        found = await services_of(request).administration.read_keys(
            service, kind, enrollment_id, by=actor_of(request)
        )
        return attestation_of(found)

    @router.post(f"{path}/query", responses=described(item_type))
    @asks(Right.ENROLLMENT_READ, Permission.READ)
    async def query(
        request: Request,
        response: Response,
        service: Addressed,
        version: ApiVersion,
        body: QueryBody,
        page_size: PageSize = DEFAULT_PAGE,
        continuation: Continuation = None,
    ) -> EnrollmentPage:
        """All of them by page, without their keys."""
        check_query(body)
        after = begin_behind(continuation, service, item_type.value)
        found, more_behind = await services_of(request).administration.page(
            service, kind, after=after, limit=page_size
        )
        end_page(response, item_type, more_behind, service, item_type.value)
        translation = await Translation.of(request, service, kind, version)
        return EnrollmentPage([translation.show(each) for each in found])

    return router


individual = _routes("individual", "/enrollments", EnrollmentKind.INDIVIDUAL, ItemType.ENROLLMENT)
groups = _routes("groups", "/enrollmentGroups", EnrollmentKind.GROUP, ItemType.ENROLLMENT_GROUP)
