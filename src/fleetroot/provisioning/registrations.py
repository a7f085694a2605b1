"""Registrations: their table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, select, text

from fleetroot.ids import canonical
from fleetroot.provisioning.model import (
    Attestation,
    EnrollmentKind,
    Registration,
    Slot,
    Status,
    Substatus,
)
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import enrollments, registrations


def row(
    service_id: str,
    _registration_key: str,
    registration_id: str,
    enrollment_kind: str,
    enrollment_id: str,
    operation_id: str,
    status: str,
    substatus: str | None,
    hub_id: str | None,
    device_id: str | None,
    certificate_sha256: bytes | None,
    etag: str,
    created_at: datetime,
    updated_at: datetime,
    attestation: str,
    slot: str | None,
    certificate_info: str | None,
    payload: str | None,
    error_code: int | None,
    error_message: str | None,
) -> Registration:
    """A registration from the columns of its table, in their order."""
    return Registration(
        service_id,
        registration_id,
        EnrollmentKind(enrollment_kind),
        enrollment_id,
        operation_id,
        Status(status),
        Substatus(substatus) if substatus else None,
        hub_id,
        device_id,
        certificate_sha256,
        etag,
        created_at,
        updated_at,
        Attestation(attestation),
        Slot(slot) if slot else None,
        certificate_info,
        payload,
        error_code,
        error_message,
    )


_SAVE: Final = Command(upsert_into(registrations, keep=["created_at", "registration_id"]))
_of_service: Final = registrations.c.service_id == bindparam("service")
_is_registration: Final = _of_service & (registrations.c.registration_key == bindparam("key"))
_GET: Final = Query(select(registrations).where(_is_registration), row)
_REMOVE: Final = Command(delete(registrations).where(_is_registration))
_PAGE_OF_GROUP: Final = Query(
    select(registrations)
    .where(
        _of_service
        & text("enrollment_kind = 'group'")  # word for word as the index has it
        & (func.lower(registrations.c.enrollment_id) == bindparam("group"))
        & (registrations.c.registration_key > bindparam("after"))
    )
    .order_by(registrations.c.registration_key)
    .limit(bindparam("limit")),
    row,
)
_OF_INDIVIDUALS: Final = Query(
    select(registrations)
    .join(
        enrollments,
        (enrollments.c.service_id == registrations.c.service_id)
        & (enrollments.c.enrollment_key == registrations.c.registration_key)
        & (enrollments.c.kind == registrations.c.enrollment_kind),
    )
    .where(
        (enrollments.c.service_id == bindparam("service"))
        & (enrollments.c.kind == bindparam("kind"))
        & (enrollments.c.enrollment_key > bindparam("after"))
        & (enrollments.c.enrollment_key <= bindparam("last"))
    ),
    row,
)
_ANY: Final = Query(select(registrations.c.registration_key).where(_of_service).limit(1), str)
_REMOVE_OF_SERVICE: Final = Command(delete(registrations).where(_of_service))
_REMOVE_OF_HUB: Final = Command(
    delete(registrations).where(registrations.c.hub_id == bindparam("hub"))
)


def are_there(tx: Transaction, service_id: str) -> bool:
    """Whether the service has any."""
    return tx.first(_ANY, service=service_id) is not None


def remove_of_service(tx: Transaction, service_id: str) -> None:
    """Forgets the registrations of a service that goes."""
    tx.run(_REMOVE_OF_SERVICE, service=service_id)


def remove_of_hub(tx: Transaction, hub_id: str) -> None:
    """Forgets the registrations that led to a hub that goes."""
    tx.run(_REMOVE_OF_HUB, hub=hub_id)


def find(tx: Transaction, service_id: str, registration_id: str) -> Registration | None:
    """The registration of that id, in any spelling."""
    return tx.first(_GET, service=service_id, key=canonical(registration_id))


def page_of_group(
    tx: Transaction, service_id: str, group_id: str, *, after: str, limit: int
) -> list[Registration]:
    """Up to `limit` registrations under a group whose key sorts behind `after`; also those under a
    group of that id that was deleted.
    """
    return tx.all(
        _PAGE_OF_GROUP,
        service=service_id,
        group=canonical(group_id),
        after=after,
        limit=limit,
    )


def of_individuals(
    tx: Transaction, service_id: str, *, after: str, last: str
) -> dict[str, Registration]:
    """The registrations of a page of individual enrollments, by their keys.

    Args:
        after: behind which key the page begins.
        last: the key of its last enrollment.
    """
    found = tx.all(
        _OF_INDIVIDUALS,
        service=service_id,
        kind=EnrollmentKind.INDIVIDUAL.value,
        after=after,
        last=last,
    )
    return {canonical(each.registration_id): each for each in found}


def remove(tx: Transaction, registration: Registration) -> None:
    """Forgets one registration; what its device has, it keeps."""
    tx.run(
        _REMOVE,
        service=registration.service_id,
        key=canonical(registration.registration_id),
    )


def save(tx: Transaction, new: Iterable[Registration]) -> None:
    """Inserts each registration, or replaces the one of its id."""
    tx.run_many(_SAVE, map(_parameters, new))


def _parameters(registration: Registration) -> dict[str, Any]:
    return {
        "service_id": registration.service_id,
        "registration_key": canonical(registration.registration_id),
        "registration_id": registration.registration_id,
        "enrollment_kind": registration.enrollment_kind.value,
        "enrollment_id": registration.enrollment_id,
        "operation_id": registration.operation_id,
        "status": registration.status.value,
        "substatus": registration.substatus.value if registration.substatus else None,
        "hub_id": registration.hub_id,
        "device_id": registration.device_id,
        "certificate_sha256": registration.certificate_sha256,
        "etag": registration.etag,
        "created_at": registration.created_at,
        "updated_at": registration.updated_at,
        "attestation": registration.attestation.value,
        "credential_slot": registration.slot.value if registration.slot else None,
        "certificate_info": registration.certificate_info,
        "payload": registration.payload,
        "error_code": registration.error_code,
        "error_message": registration.error_message,
    }
