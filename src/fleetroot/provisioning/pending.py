"""Registrations that wait: what each of them asked, what it waits for, and what was decided.

A device whose registration waits is told `assigning` and asks again. Whoever decides writes down
the decision and no more; the device's next call proves again who it is, and finishes. So nobody is
given anything for an attestation of yesterday, and nothing is lost with a node that stops.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import orjson
from sqlalchemy import bindparam, delete, select

from fleetroot.ids import canonical
from fleetroot.provisioning.model import Enrollment, EnrollmentKind
from fleetroot.registry.issuance import CsrText
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import pending_registrations as table


class WaitsFor(StrEnum):
    """Whose turn it is."""

    APPROVAL = "approval"  # an operator's
    WEBHOOK = "webhook"  # of whoever allocates
    DEVICE = "device"  # which finishes with its next call
    NOTHING = "nothing"  # an operator said no


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided so far.

    Attributes:
        approved: an operator lets the device in.
        hub_id: where whoever allocates puts it.
        initial_twin: JSON text of a twin, instead of the enrollment's.
        payload: JSON text for the device.
    """

    approved: bool = False
    hub_id: str | None = None
    initial_twin: str | None = None
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class PendingRegistration:
    """A registration that waits.

    Attributes:
        csr, payload: of the device's newest request.
        peer: where that came from, host and port.
        claimed_until: until then, a node is getting the decision.
    """

    service_id: str
    registration_id: str
    enrollment_kind: EnrollmentKind
    enrollment_id: str
    waits_for: WaitsFor
    csr: CsrText | None
    payload: str | None
    peer: str | None
    decision: Decision
    claimed_until: datetime | None
    created_at: datetime
    updated_at: datetime

    def is_of(self, enrollment: Enrollment) -> bool:
        """Whether it waits to come in under that enrollment."""
        return self.enrollment_kind is enrollment.kind and canonical(
            self.enrollment_id
        ) == canonical(enrollment.id)


def _row(
    service_id: str,
    _registration_key: str,
    registration_id: str,
    enrollment_kind: str,
    enrollment_id: str,
    waits_for: str,
    request: str,
    peer: str | None,
    decision: str | None,
    claimed_until: datetime | None,
    created_at: datetime,
    updated_at: datetime,
) -> PendingRegistration:
    asked = orjson.loads(request)
    csr = asked["csr"]
    return PendingRegistration(
        service_id,
        registration_id,
        EnrollmentKind(enrollment_kind),
        enrollment_id,
        WaitsFor(waits_for),
        CsrText(csr, pem_allowed=asked["pemAllowed"]) if csr is not None else None,
        asked["payload"],
        peer,
        Decision(**orjson.loads(decision)) if decision else Decision(),
        claimed_until,
        created_at,
        updated_at,
    )


_of_service: Final = table.c.service_id == bindparam("service")
_is_one: Final = _of_service & (table.c.registration_key == bindparam("key"))
_of_enrollment: Final = (
    _of_service
    & (table.c.enrollment_kind == bindparam("kind"))
    & (table.c.enrollment_id == bindparam("enrollment"))
)
_behind: Final = (table.c.registration_key > bindparam("after")) & (
    table.c.waits_for == bindparam("waits")
)
_SAVE: Final = Command(upsert_into(table, keep=["created_at", "registration_id"]))
_GET: Final = Query(select(table).where(_is_one), _row)
_REMOVE: Final = Command(delete(table).where(_is_one))
_REMOVE_OF_ENROLLMENT: Final = Command(delete(table).where(_of_enrollment))
_REMOVE_OF_SERVICE: Final = Command(delete(table).where(_of_service))
_PAGE: Final = Query(
    select(table)
    .where(_of_service & _behind)
    .order_by(table.c.registration_key)
    .limit(bindparam("limit")),
    _row,
)
_PAGE_OF_ENROLLMENT: Final = Query(
    select(table)
    .where(_of_enrollment & _behind)
    .order_by(table.c.registration_key)
    .limit(bindparam("limit")),
    _row,
)


def find(tx: Transaction, service_id: str, registration_id: str) -> PendingRegistration | None:
    """What waits under that registration id, in any spelling."""
    return tx.first(_GET, service=service_id, key=canonical(registration_id))


def page(
    tx: Transaction,
    service_id: str,
    waits_for: WaitsFor,
    enrollment: tuple[EnrollmentKind, str] | None,
    *,
    after: str,
    limit: int,
) -> list[PendingRegistration]:
    """Up to `limit` registrations that wait for that, behind the id `after`; of one enrollment, if
    it is given.
    """
    where = {"service": service_id, "waits": waits_for.value, "after": canonical(after)}
    if enrollment is None:
        return tx.all(_PAGE, **where, limit=limit)
    kind, id_ = enrollment
    return tx.all(
        _PAGE_OF_ENROLLMENT, **where, kind=kind.value, enrollment=canonical(id_), limit=limit
    )


def save(tx: Transaction, new: Collection[PendingRegistration]) -> None:
    """Inserts each, or replaces the one of its registration id."""
    tx.run_many(
        _SAVE,
        (
            {
                "service_id": each.service_id,
                "registration_key": canonical(each.registration_id),
                "registration_id": each.registration_id,
                "enrollment_kind": each.enrollment_kind.value,
                "enrollment_id": canonical(each.enrollment_id),
                "waits_for": each.waits_for.value,
                "request": _request(each),
                "peer": each.peer,
                "decision": orjson.dumps(asdict(each.decision)).decode(),
                "claimed_until": each.claimed_until,
                "created_at": each.created_at,
                "updated_at": each.updated_at,
            }
            for each in new
        ),
    )


def _request(each: PendingRegistration) -> str:
    csr = each.csr
    return orjson.dumps(
        {
            "csr": csr.text if csr else None,
            "pemAllowed": csr.pem_allowed if csr else False,
            "payload": each.payload,
        }
    ).decode()


def remove(tx: Transaction, service_id: str, registration_id: str) -> None:
    """Nothing waits under that id any more."""
    tx.run(_REMOVE, service=service_id, key=canonical(registration_id))


def remove_of_enrollment(tx: Transaction, enrollment: Enrollment) -> None:
    """Nothing waits under an enrollment that goes."""
    tx.run(
        _REMOVE_OF_ENROLLMENT,
        service=enrollment.service_id,
        kind=enrollment.kind.value,
        enrollment=canonical(enrollment.id),
    )


def remove_of_service(tx: Transaction, service_id: str) -> None:
    """Nothing waits at a service that goes."""
    tx.run(_REMOVE_OF_SERVICE, service=service_id)
