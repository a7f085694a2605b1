"""Quarantine: the new devices of an enrollment, which wait until an operator lets them in.

A decision about many devices is made chunk by chunk, each of them whole; asked again, it goes on
with those that wait still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.errors import ErrorCode, NotFound
from fleetroot.ids import check_registration_id
from fleetroot.provisioning import enrollments, pending, registrations, waiting
from fleetroot.provisioning.model import EnrollmentKind, Service, Status
from fleetroot.provisioning.pending import PendingRegistration, WaitsFor
from fleetroot.registry.devices import new_etag
from fleetroot.storage import Store, Transaction

MAX_NAMED: Final = 1000  # registrations of one call
_CHUNK: Final = 200
_REJECTED: Final = "The registration was rejected"
_DECIDABLE: Final = (WaitsFor.APPROVAL, WaitsFor.NOTHING)
_Decide = Callable[[Transaction, PendingRegistration, datetime], None]


class Quarantine:
    """Devices that wait for approval, for operators."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def page(
        self,
        service: Service,
        enrollment: tuple[EnrollmentKind, str] | None,
        *,
        rejected: bool = False,
        after: str = "",
        limit: int,
    ) -> list[PendingRegistration]:
        """Up to `limit` registrations that wait, by id, behind `after`; or that were rejected."""
        waits_for = WaitsFor.NOTHING if rejected else WaitsFor.APPROVAL
        return await self._store.read(
            lambda tx: pending.page(tx, service.id, waits_for, enrollment, after=after, limit=limit)
        )

    async def approve(self, service: Service, ids: Sequence[str], *, by: Actor) -> int:
        """Lets devices in, each with its next call; those that were rejected, too. How many there
        were that had not been let in before: a call whose answer was lost can be made again, also
        when its devices have come in meanwhile.

        Raises:
            InvalidArgument: an id is not one.
            NotFound: one does not wait, was not rejected and is not in; nothing is done then.
        """
        return await self._decide(service, ids, _approve, Action.APPROVE_REGISTRATION, by)

    async def reject(self, service: Service, ids: Sequence[str], *, by: Actor) -> int:
        """Keeps devices out until they are approved. How many there were that had not been
        rejected before.

        Raises:
            InvalidArgument: an id is not one.
            NotFound: one does not wait; nothing is done then.
        """
        return await self._decide(service, ids, _reject, Action.REJECT_REGISTRATION, by)

    async def approve_all(
        self, service: Service, enrollment: tuple[EnrollmentKind, str], *, by: Actor
    ) -> int:
        """Lets every device in that waits under the enrollment now."""
        return await self._decide_all(
            service, enrollment, _approve, Action.APPROVE_REGISTRATION, by
        )

    async def reject_all(
        self, service: Service, enrollment: tuple[EnrollmentKind, str], *, by: Actor
    ) -> int:
        """Keeps every device out that waits under the enrollment now."""
        return await self._decide_all(service, enrollment, _reject, Action.REJECT_REGISTRATION, by)

    async def _decide(
        self, service: Service, ids: Sequence[str], decide: _Decide, action: Action, by: Actor
    ) -> int:
        for id_ in ids:
            check_registration_id(id_)
        now, approves = self._clock.now(), action is Action.APPROVE_REGISTRATION

        def unit(tx: Transaction) -> int:
            open_ = [id_ for id_ in ids if not (approves and _is_in(tx, service, id_))]
            found = [_decidable(tx, service, id_) for id_ in open_]
            return _carry_out(tx, service, found, decide, action, by, now)

        return await self._store.write(unit)

    async def _decide_all(
        self,
        service: Service,
        enrollment: tuple[EnrollmentKind, str],
        decide: _Decide,
        action: Action,
        by: Actor,
    ) -> int:
        now, done, after = self._clock.now(), 0, ""

        def unit(tx: Transaction) -> tuple[int, str]:
            found = pending.page(
                tx, service.id, WaitsFor.APPROVAL, enrollment, after=after, limit=_CHUNK
            )
            decided = _carry_out(tx, service, found, decide, action, by, now)
            return decided, found[-1].registration_id if found else ""

        while True:
            decided, after = await self._store.write(unit)
            done += decided
            if not after:
                return done


def _is_in(tx: Transaction, service: Service, registration_id: str) -> bool:
    found = registrations.find(tx, service.id, registration_id)
    return found is not None and found.status is Status.ASSIGNED


def _decidable(tx: Transaction, service: Service, registration_id: str) -> PendingRegistration:
    found = pending.find(tx, service.id, registration_id)
    if found is None or (found.waits_for not in _DECIDABLE and not found.decision.approved):
        raise NotFound(f"{registration_id} does not wait for approval")
    return found


def _carry_out(
    tx: Transaction,
    service: Service,
    found: Sequence[PendingRegistration],
    decide: _Decide,
    action: Action,
    by: Actor,
    now: datetime,
) -> int:
    wanted = WaitsFor.NOTHING if action is Action.REJECT_REGISTRATION else WaitsFor.DEVICE
    open_ = [each for each in found if each.waits_for in _DECIDABLE and each.waits_for != wanted]
    for each in open_:
        decide(tx, each, now)
    entries = [
        Entry(
            now,
            by,
            action,
            f"registration/{each.registration_id}",
            service.namespace_id,
            details={
                "enrollment": enrollments.name_for(
                    service.id, each.enrollment_kind, each.enrollment_id
                )
            },
        )
        for each in open_
    ]
    if entries:
        audit.append_many(tx, entries)
    return len(open_)


def _approve(tx: Transaction, waits: PendingRegistration, now: datetime) -> None:
    there = registrations.find(tx, waits.service_id, waits.registration_id)
    if there is not None and there.status is Status.FAILED:
        again = replace(
            there,
            status=Status.ASSIGNING,
            error_code=None,
            error_message=None,
            etag=new_etag(),
            updated_at=now,
        )
        registrations.save(tx, [again])
    decision = replace(waits.decision, approved=True)
    pending.save(tx, [replace(waits, waits_for=WaitsFor.DEVICE, decision=decision, updated_at=now)])


def _reject(tx: Transaction, waits: PendingRegistration, now: datetime) -> None:
    waiting.fail(tx, waits, ErrorCode.UNAUTHORIZED, _REJECTED, now)
    pending.save(tx, [replace(waits, waits_for=WaitsFor.NOTHING, updated_at=now)])
