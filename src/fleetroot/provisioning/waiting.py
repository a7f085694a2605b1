"""Registrations that cannot be answered at once: held for an operator's approval, or for whoever
allocates their hub.

Holding one is a unit of work like any other: the registration is `assigning`, and what it asked is
kept. A webhook is asked by whichever node has claimed the registration; if that node dies, the
claim runs out and the device's next poll begins again. See `pending` for how a registration goes
on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from fleetroot import audit
from fleetroot.audit import Action, Entry
from fleetroot.clock import Clock
from fleetroot.errors import ErrorCode
from fleetroot.ids import new_uuid
from fleetroot.provisioning import enrollments, pending, registrations, tpm_attestation
from fleetroot.provisioning.candidates import Candidate, find
from fleetroot.provisioning.commits import Changed, check_current
from fleetroot.provisioning.configuration import Configurations
from fleetroot.provisioning.model import (
    Enrollment,
    RegisterRequest,
    Registration,
    RegistrationResult,
    Status,
)
from fleetroot.provisioning.pending import Decision, PendingRegistration, WaitsFor
from fleetroot.provisioning.planning import Attested, MustWait
from fleetroot.registry.devices import new_etag
from fleetroot.storage import Store, Transaction

_CLAIM: Final = timedelta(minutes=2)  # longer than a webhook may take, with its retries
_log = structlog.get_logger("fleetroot.provisioning")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Whoever allocates gave no hub.

    Attributes:
        message: for the device.
        reason: for the operator.
    """

    code: ErrorCode
    message: str
    reason: str


class Allocator(Protocol):
    """Whoever decides where the devices of an enrollment with custom allocation go."""

    async def decide(
        self, candidate: Candidate, enrollment: Enrollment, waiting: PendingRegistration
    ) -> Decision | Refusal:
        """Asks for a decision about a device that proved who it is; takes its own time, less than
        two minutes.
        """
        ...


class NoAllocator:
    """Nobody is there to ask."""

    async def decide(
        self, _candidate: Candidate, _enrollment: Enrollment, _waiting: PendingRegistration
    ) -> Decision | Refusal:
        """Refuses."""
        return Refusal(ErrorCode.UNAVAILABLE, "nobody allocates", "no allocator")


class Waiting:
    """Holds registrations, and gets decisions for them."""

    def __init__(
        self,
        store: Store,
        configurations: Configurations,
        allocator: Allocator,
        clock: Clock,
    ) -> None:
        self._store = store
        self._configurations = configurations
        self._allocator = allocator
        self._clock = clock
        self._asking: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def hold(self, must: MustWait, request: RegisterRequest) -> RegistrationResult:
        """Makes durable that a registration waits, and what it asked.

        Raises:
            Changed: what that was decided on is not so any more.
        """
        attested, now = must.attested, self._clock.now()
        if must.waits_for is WaitsFor.NOTHING:
            assert attested.candidate.registration is not None  # noqa: S101 - it was rejected
            return RegistrationResult(attested.candidate.registration, None, None)
        registration = _assigning(attested, now)

        def unit(tx: Transaction) -> None:
            check_current(tx, attested.candidate.configuration, attested.enrollment)
            service_id = registration.service_id
            there = registrations.find(tx, service_id, registration.registration_id)
            before = attested.candidate.registration
            if (there and there.etag) != (before and before.etag):
                raise Changed
            waits = pending.find(tx, service_id, registration.registration_id)
            registrations.save(tx, [registration])
            pending.save(tx, [_held(must, request, waits, now)])
            # Polls do not tell it again.
            namespace_id = attested.candidate.configuration.service.namespace_id
            tpm_attestation.keep(tx, attested.evidence.tpm, namespace_id, now, must.by)
            if waits is None or waits.waits_for is not must.waits_for:
                _note(tx, must, now)

        await self._store.write(unit)
        self.ask_soon(request.id_scope, registration, must.waits_for)
        return RegistrationResult(registration, None, None)

    def ask_soon(self, id_scope: str, registration: Registration, waits_for: WaitsFor) -> None:
        """Begins to ask whoever allocates the registration, if that is what it waits for."""
        key = (registration.service_id, registration.registration_id)
        if waits_for is WaitsFor.WEBHOOK and key not in self._asking:
            task = asyncio.get_running_loop().create_task(
                self._ask(id_scope, registration), name="allocation"
            )
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))

    async def stop(self) -> None:
        """Ends what is being asked; the claims run out, and the devices' polls ask again."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, id_scope: str, registration: Registration) -> None:
        try:
            claimed = await self._store.write(lambda tx: self._claim(tx, id_scope, registration))
            if claimed is None:
                return
            candidate, enrollment, waits = claimed
            decision = await self._allocator.decide(candidate, enrollment, waits)
            await self._store.write(lambda tx: self._decided(tx, waits, enrollment, decision))
        except Exception as error:  # noqa: BLE001 - the device's next poll begins again
            _log.error(
                "allocation failed", registration_id=registration.registration_id, exc_info=error
            )

    def _claim(
        self, tx: Transaction, id_scope: str, registration: Registration
    ) -> tuple[Candidate, Enrollment, PendingRegistration] | None:
        now = self._clock.now()
        waits = pending.find(tx, registration.service_id, registration.registration_id)
        if waits is None or waits.waits_for is not WaitsFor.WEBHOOK:
            return None
        if waits.claimed_until is not None and now < waits.claimed_until <= now + _CLAIM:
            return None
        enrollment = enrollments.find(
            tx, waits.service_id, waits.enrollment_kind, waits.enrollment_id
        )
        if enrollment is None:
            return None
        waits = replace(waits, claimed_until=now + _CLAIM)
        pending.save(tx, [waits])
        return (
            find(tx, self._configurations, id_scope, registration.registration_id),
            enrollment,
            waits,
        )

    def _decided(
        self,
        tx: Transaction,
        asked: PendingRegistration,
        enrollment: Enrollment,
        decision: Decision | Refusal,
    ) -> None:
        now = self._clock.now()
        waits = pending.find(tx, asked.service_id, asked.registration_id)
        if (
            waits is None
            or waits.waits_for is not WaitsFor.WEBHOOK
            or waits.claimed_until != asked.claimed_until
            or not waits.is_of(enrollment)
        ):
            return  # somebody else decided, or it does not wait any more
        if isinstance(decision, Refusal):
            fail(tx, waits, decision.code, decision.message, now)
            pending.remove(tx, waits.service_id, waits.registration_id)
            _log.warning(
                "allocation refused",
                registration_id=waits.registration_id,
                reason=decision.reason,
            )
            return
        decided = replace(
            waits,
            waits_for=WaitsFor.DEVICE,
            decision=replace(decision, approved=waits.decision.approved),
            claimed_until=None,
            updated_at=now,
        )
        pending.save(tx, [decided])


def fail(
    tx: Transaction, waits: PendingRegistration, code: ErrorCode, message: str, now: datetime
) -> None:
    """Ends a registration that waits: it failed."""
    there = registrations.find(tx, waits.service_id, waits.registration_id)
    if there is not None:
        failed = replace(
            there,
            status=Status.FAILED,
            error_code=code.value,
            error_message=message,
            etag=new_etag(),
            updated_at=now,
        )
        registrations.save(tx, [failed])


def _assigning(attested: Attested, now: datetime) -> Registration:
    """The registration of a device that waits. What it had, it keeps; a call that is made again is
    the same operation.
    """
    before, enrollment = attested.candidate.registration, attested.enrollment
    waits_already = before is not None and before.status is Status.ASSIGNING
    return Registration(
        service_id=enrollment.service_id,
        registration_id=attested.registration_id,
        enrollment_kind=enrollment.kind,
        enrollment_id=enrollment.id,
        operation_id=before.operation_id if before and waits_already else new_uuid(),
        status=Status.ASSIGNING,
        substatus=before.substatus if before else None,
        hub_id=before.hub_id if before else None,
        device_id=before.device_id if before else None,
        certificate_sha256=before.certificate_sha256 if before else None,
        etag=new_etag(),
        created_at=before.created_at if before else now,
        updated_at=now,
        attestation=enrollment.settings.attestation,
        slot=attested.evidence.slot,
        certificate_info=attested.evidence.certificate_info,
    )


def _held(
    must: MustWait, request: RegisterRequest, before: PendingRegistration | None, now: datetime
) -> PendingRegistration:
    attested = must.attested
    goes_on = before is not None and before.is_of(attested.enrollment)
    return PendingRegistration(
        service_id=attested.enrollment.service_id,
        registration_id=attested.registration_id,
        enrollment_kind=attested.enrollment.kind,
        enrollment_id=attested.enrollment.id,
        waits_for=must.waits_for,
        csr=request.csr,
        payload=request.payload,
        peer=request.peer,
        decision=before.decision if before and goes_on else Decision(),
        claimed_until=before.claimed_until if before and goes_on else None,
        created_at=before.created_at if before else now,
        updated_at=now,
    )


def _note(tx: Transaction, must: MustWait, now: datetime) -> None:
    enrollment = must.attested.enrollment
    audit.append(
        tx,
        Entry(
            now,
            must.by,
            Action.HOLD_REGISTRATION,
            f"registration/{must.attested.registration_id}",
            must.attested.candidate.configuration.service.namespace_id,
            details={"enrollment": enrollments.name_of(enrollment), "for": must.waits_for.value},
        ),
    )
