"""Enrollments as operators look at them: each with what its device made of it."""

from __future__ import annotations

from dataclasses import dataclass

from fleetroot.errors import EnrollmentNotFound
from fleetroot.ids import canonical
from fleetroot.provisioning import enrollments, registrations
from fleetroot.provisioning.model import Enrollment, EnrollmentKind, Registration, Service
from fleetroot.storage import Transaction


@dataclass(frozen=True, slots=True)
class EnrollmentShown:
    """An enrollment, and of an individual one the registration that its device made."""

    enrollment: Enrollment
    registration: Registration | None


def one(
    tx: Transaction, service: Service, kind: EnrollmentKind, enrollment_id: str
) -> EnrollmentShown:
    """The enrollment of that kind and id.

    Raises:
        EnrollmentNotFound: there is none.
    """
    enrollment = enrollments.find(tx, service.id, kind, enrollment_id)
    if enrollment is None:
        raise EnrollmentNotFound("Enrollment not found")
    if kind is EnrollmentKind.GROUP:
        return EnrollmentShown(enrollment, None)
    registration = registrations.find(tx, service.id, enrollment_id)
    is_of_it = registration is not None and registration.enrollment_kind is kind
    return EnrollmentShown(enrollment, registration if is_of_it else None)


def page(
    tx: Transaction, service: Service, kind: EnrollmentKind, *, after: str, limit: int
) -> tuple[list[EnrollmentShown], str | None]:
    """Up to `limit` enrollments of a kind whose keys sort behind `after`, and behind which key
    there are more.
    """
    found = enrollments.page(tx, service.id, kind, after=after, limit=limit + 1)
    shown = found[:limit]
    last = canonical(shown[-1].id) if shown else ""
    registered = (
        registrations.of_individuals(tx, service.id, after=after, last=last)
        if kind is EnrollmentKind.INDIVIDUAL
        else {}
    )
    page_of = [EnrollmentShown(each, registered.get(canonical(each.id))) for each in shown]
    return page_of, last if len(found) > limit else None
