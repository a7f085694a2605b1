"""Certificates that end soon and were not renewed yet, over the operator API."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, namespace_of, needs, of_namespaces
from fleetroot.api.answers import Answer, Limit, Listed, Page
from fleetroot.api.certificates import CertificateAnswer, certificate_body
from fleetroot.api.description import answers, operation_id
from fleetroot.api.services import services_of
from fleetroot.registry.expiring import Place

router = APIRouter(
    prefix="/fleetroot/certificates/expiring",
    route_class=OperatorRoute,
    generate_unique_id_function=partial(operation_id, area="operator"),
)
namespaced = of_namespaces("/certificates/expiring")

_Within = Annotated[
    int, Query(ge=1, le=10 * 365 * 86400, description="Seconds from now, a week by default.")
]
_WEEK = 7 * 86400
_Policy = Annotated[str | None, Query(max_length=128)]


class DayCountAnswer(Answer):
    """How many certificates of a policy end on a day, UTC."""

    policy: str
    day: str
    certificates: int


@router.get("", responses=answers(404))
@namespaced.get("", responses=answers(404))
@needs(Permission.READ)
async def expiring(
    request: Request,
    within: _Within = _WEEK,
    policy: _Policy = None,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 100,
) -> Page[CertificateAnswer, str]:
    """A page of the certificates that end within a time and whose devices have no newer one, the
    first to end first; `next` is the `after` of the next page.
    """
    services = services_of(request)
    place = None if after is None else Place.parse(after)
    found = await services.registry.expiring(
        namespace_of(request), timedelta(seconds=within), policy=policy, after=place, limit=limit
    )
    now = services.clock.now()
    last = Place(found[-1].not_after, found[-1].id) if len(found) == limit else None
    return Page(
        value=[certificate_body(certificate, now) for certificate in found],
        next=None if last is None else str(last),
    )


@router.get("/counts", responses=answers(404))
@namespaced.get("/counts", responses=answers(404))
@needs(Permission.READ)
async def counts(
    request: Request, within: _Within = _WEEK, policy: _Policy = None
) -> Listed[DayCountAnswer]:
    """How many of them there are, by day and policy."""
    found = await services_of(request).registry.expiring_counts(
        namespace_of(request), timedelta(seconds=within), policy=policy
    )
    return Listed(
        value=[
            DayCountAnswer(
                policy=each.policy, day=each.day.isoformat(), certificates=each.certificates
            )
            for each in found
        ]
    )
