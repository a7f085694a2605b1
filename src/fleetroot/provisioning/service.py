"""The device's side of provisioning: register, and ask how an operation stands.

A registration is answered at once, unless somebody has to decide about it first (`waiting`).
Everything is read in one snapshot, the device is attested, the
leaf is signed, and one unit of work makes device, certificate, hub identity and registration known
together. If anything that the decision rested on changed in between, nothing is kept and the
decision is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from fleetroot.bus import Bus
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import InvalidArgument, RegistrationNotFound, Unavailable
from fleetroot.ids import canonical, check_registration_id, new_uuid
from fleetroot.pki import CertificateRequest, CsrRefused, UnverifiedRequest
from fleetroot.provisioning import candidates, pending, services, tpm_attestation
from fleetroot.provisioning.attestation import NoKeyFits, TpmProof
from fleetroot.provisioning.candidates import Candidate
from fleetroot.provisioning.commits import Changed, Commits, Provision
from fleetroot.provisioning.configuration import Configuration, Configurations
from fleetroot.provisioning.limits import Limits
from fleetroot.provisioning.model import (
    OnboardingCredential,
    RegisterRequest,
    Registration,
    RegistrationResult,
    Status,
    Substatus,
)
from fleetroot.provisioning.newcomers import Newcomers
from fleetroot.provisioning.pending import PendingRegistration, WaitsFor
from fleetroot.provisioning.planning import Attested, MustWait, Plan, Planner, shows_certificate
from fleetroot.provisioning.together import Together, each
from fleetroot.provisioning.tpm_attestation import ChallengeDue
from fleetroot.provisioning.waiting import Allocator, NoAllocator, Waiting
from fleetroot.registry import devices
from fleetroot.registry.assignment import Assignment, HubDirectory, PolicyPin, Seat
from fleetroot.registry.issuance import (
    DeviceChanged,
    Issuance,
    Issuer,
    IssuerRevoked,
    SignedLeaf,
)
from fleetroot.registry.model import IssuedChain, Policy
from fleetroot.storage import Store, Transaction

_ATTEMPTS: Final = 4


class _Call(NamedTuple):
    """A device's call, and the source that it counts for."""

    request: RegisterRequest
    source: str | None


class _Asked(NamedTuple):
    """A certificate that a device asked for, and may have if the key is its own."""

    policy: Policy
    csr: UnverifiedRequest


class _Wanted(NamedTuple):
    """A certificate that a device asked for, and may have."""

    policy: Policy
    csr: CertificateRequest


class _Told(NamedTuple):
    """What a device that looks is told, and what its registration waits for."""

    result: RegistrationResult
    waits: PendingRegistration | None = None


class Provisioning:
    """Registers devices."""

    def __init__(
        self,
        store: Store,
        issuance: Issuance,
        hub_directory: HubDirectory,
        sealer: Sealer,
        bus: Bus,
        clock: Clock,
        *,
        allocator: Allocator | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._store = store
        self._issuance = issuance
        self._configurations = Configurations()
        self._newcomers = Newcomers(store, self._configurations)
        self._commits = Commits(store, issuance, hub_directory, bus)
        self._planner = Planner(self._configurations, sealer)
        self._limits = limits or Limits(clock)
        self._requests = Together(self._register_all)
        self._waiting = Waiting(store, self._configurations, allocator or NoAllocator(), clock)
        self._clock = clock

    async def has_id_scope(self, id_scope: str) -> bool:
        """Whether a provisioning service answers to the ID scope."""
        return await self._store.read(lambda tx: services.by_id_scope(tx, id_scope)) is not None

    async def register(self, request: RegisterRequest) -> RegistrationResult:
        """Provisions a device: attests it, assigns a hub, and issues its certificate if it asks; or
        holds the registration, which is `assigning` then.

        Raises:
            InvalidArgument: the registration id or the CSR is not good.
            EnrollmentNotFound: no enrollment answers to the registration id.
            Unauthorized: the device did not prove who it is, or is not allowed to be here.
            TpmChallenge: its TPM is to prove it.
            Unavailable: no hub, or no CA, can serve it now.
            Throttled: the device, its source or all of its service ask more often than they may.
        """
        check_registration_id(request.registration_id)
        call = _Call(request, self._limits.admit(request.peer))
        for _ in range(_ATTEMPTS):
            try:
                return await self._requests.ask(call)
            except (DeviceChanged, IssuerRevoked, Changed):
                continue
            except MustWait as must:
                service = must.attested.candidate.configuration.service
                self._limits.register(
                    service.id,
                    service.namespace_id,
                    canonical(request.registration_id),
                    certificate=False,
                )
                try:
                    return await self._waiting.hold(must, request)
                except Changed:
                    continue
            except ChallengeDue as due:
                raise due.challenge() from None
        raise Unavailable("the device is being changed by others", retry_after=1)

    async def operation(
        self,
        id_scope: str,
        registration_id: str,
        credential: OnboardingCredential,
        operation_id: str,
        peer: str | None = None,
    ) -> RegistrationResult:
        """How an operation of a device stands, asked from `peer`, host and port; it is finished by
        this if it waited and is decided. Attestation is checked as for `register`.

        Raises:
            InvalidArgument: the CSR that it began with is not good.
            RegistrationNotFound: the device has no such operation.
            EnrollmentNotFound: no enrollment answers to the registration id.
            Unauthorized: the device did not prove who it is.
            Throttled: as `register`.
        """

        def answer(tx: Transaction, found: Candidate) -> _Told:
            registration = found.registration
            if registration is None or registration.operation_id != operation_id:
                raise RegistrationNotFound("the device has no such operation")
            if registration.status is Status.ASSIGNING:
                waits = pending.find(tx, registration.service_id, registration_id)
                return _Told(RegistrationResult(registration, None, None), waits)
            fingerprint = registration.certificate_sha256
            chain = self._issuance.chain_of(tx, fingerprint) if fingerprint else None
            return _Told(_result(found, registration, chain))

        result, waits = await self._look(id_scope, registration_id, credential, peer, answer)
        if waits is None:
            return result
        if waits.waits_for is not WaitsFor.DEVICE:
            self._waiting.ask_soon(id_scope, result.registration, waits.waits_for)
            return result
        asked = RegisterRequest(
            id_scope,
            registration_id,
            credential,
            waits.csr,
            peer or waits.peer,
            payload=waits.payload,
        )
        return await self.register(asked)

    async def registration(
        self,
        id_scope: str,
        registration_id: str,
        credential: OnboardingCredential,
        peer: str | None = None,
    ) -> RegistrationResult:
        """The registration of a device, without the certificate that it issued, asked from `peer`,
        host and port. Attestation is checked as for `register`.

        Raises:
            RegistrationNotFound: the device has none.
            EnrollmentNotFound: no enrollment answers to the registration id.
            Unauthorized: the device did not prove who it is.
            Throttled: as `register`.
        """

        def answer(_tx: Transaction, found: Candidate) -> _Told:
            if found.registration is None:
                raise RegistrationNotFound("the device has no registration")
            return _Told(_result(found, found.registration, None))

        told = await self._look(id_scope, registration_id, credential, peer, answer)
        return told.result

    async def _look(
        self,
        id_scope: str,
        registration_id: str,
        credential: OnboardingCredential,
        peer: str | None,
        answer: Callable[[Transaction, Candidate], _Told],
    ) -> _Told:
        """What `answer` reads of a device that attests."""
        check_registration_id(registration_id)
        now, source = self._clock.now(), self._limits.admit(peer)
        most = self._limits.most_trials(source)

        def read(tx: Transaction) -> tuple[Attested, _Told | RegistrationNotFound]:
            found = candidates.find(tx, self._configurations, id_scope, registration_id)
            attested = self._planner.attest(tx, found, registration_id, credential, now, most)
            try:
                return attested, answer(tx, found)
            except RegistrationNotFound as error:
                return attested, error

        try:
            attested, answered = await self._store.read(read)
        except NoKeyFits as error:
            self._limits.failed(source, error.tried)
            raise
        self._limits.poll(attested.candidate.configuration.service.id, registration_id)
        if isinstance(answered, RegistrationNotFound):
            raise answered
        return answered._replace(result=_with_tpm_key(answered.result, attested.evidence.tpm))

    async def stop(self) -> None:
        """Asks nobody for a decision any more."""
        await self._waiting.stop()

    # --- registration

    async def _register_all(
        self, calls: Sequence[_Call]
    ) -> Sequence[RegistrationResult | Exception]:
        """Takes all of them through a step before any takes the next: what does one thing over and
        over finds its code and tables in the processor's caches. Between steps the loop is free.
        """
        now = self._clock.now()
        plans = each(self._admit, calls, await self._plan_all(calls, now))
        requests = [call.request for call in calls]
        await asyncio.sleep(0)
        asked = each(self._read_csr, requests, plans)
        await asyncio.sleep(0)
        wanted = each(_verify, asked)
        issuers = [await self._issuer(of) for of in wanted]
        await asyncio.sleep(0)
        leaves = await self._sign_all(plans, wanted, issuers, now)
        await asyncio.sleep(0)
        registrations = each(partial(self._registration, now), plans, leaves)
        provisions = each(_provision, plans, leaves, registrations)
        known = await self._commits.make_known(provisions, now)
        return each(_issued, provisions, plans, known)

    async def _plan_all(self, calls: Sequence[_Call], now: datetime) -> Sequence[Plan | Exception]:
        newcomers = await self._newcomers.configurations_for([call.request for call in calls])
        plans = each(partial(self._plan_newcomer, now), calls, newcomers)
        known = await asyncio.gather(
            *(
                self._plan_known(call, now)
                for call, plan in zip(calls, plans, strict=True)
                if plan is None
            )
        )
        of_known = iter(known)
        return [next(of_known) if plan is None else plan for plan in plans]

    def _admit(self, call: _Call, plan: Plan) -> Plan:
        device = plan.device
        self._limits.register(
            plan.attested.candidate.configuration.service.id,
            device.namespace_id,
            device.device_key,
            certificate=call.request.csr is not None,
        )
        return plan

    def _plan_newcomer(
        self, now: datetime, call: _Call, configuration: Configuration | None
    ) -> Plan | None:
        credential = call.request.credential
        if configuration is None or shows_certificate(credential) or credential.tpm is not None:
            return None
        most = self._limits.most_trials(call.source)
        try:
            return self._planner.plan_first(configuration, call.request, now, most)
        except NoKeyFits as error:
            self._limits.failed(call.source, error.tried)
            raise

    async def _plan_known(self, call: _Call, now: datetime) -> Plan | Exception:
        request, most = call.request, self._limits.most_trials(call.source)
        try:
            plan = await self._store.read(lambda tx: self._planner.plan(tx, request, now, most))
        except NoKeyFits as error:
            self._limits.failed(call.source, error.tried)
            return error
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            return error
        return plan

    def _read_csr(self, request: RegisterRequest, plan: Plan) -> _Asked | None:
        if request.csr is None:
            return None
        policy = plan.policy
        if policy is None:
            raise InvalidArgument(
                "csr: the enrollment has no policy that could issue a certificate",
                reason="CSR without a policy",
            )
        try:
            csr = self._issuance.read_request(policy, request.csr, plan.attested.registration_id)
        except CsrRefused as error:
            raise _refused(error) from error
        return _Asked(policy, csr)

    async def _issuer(self, wanted: _Wanted | Exception | None) -> Issuer | Exception | None:
        if not isinstance(wanted, _Wanted):
            return wanted
        try:
            return await self._issuance.issuer(wanted.policy)
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            return error

    async def _sign_all(
        self,
        plans: Sequence[Plan | Exception],
        wanted: Sequence[_Wanted | Exception | None],
        issuers: Sequence[Issuer | Exception | None],
        now: datetime,
    ) -> Sequence[SignedLeaf | Exception | None]:
        """Keys in software sign here, one after the other; those in a token beside each other, in
        its threads.
        """
        if not any(isinstance(issuer, Issuer) and issuer.waits for issuer in issuers):
            return each(partial(self._sign, now), plans, wanted, issuers)
        return await asyncio.gather(
            *(
                self._sign_waiting(now, plan, of, issuer)
                for plan, of, issuer in zip(plans, wanted, issuers, strict=True)
            )
        )

    async def _sign_waiting(
        self,
        now: datetime,
        plan: Plan | Exception,
        wanted: _Wanted | Exception | None,
        issuer: Issuer | Exception | None,
    ) -> SignedLeaf | Exception | None:
        if isinstance(plan, Exception):
            return plan
        if not isinstance(wanted, _Wanted):
            return wanted
        if not isinstance(issuer, Issuer):
            return issuer
        try:
            return await self._issuance.sign_waiting(
                issuer, plan.device, wanted.csr, now, by=plan.by
            )
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            return error

    def _sign(
        self, now: datetime, plan: Plan, wanted: _Wanted | None, issuer: Issuer | None
    ) -> SignedLeaf | None:
        if wanted is None or issuer is None:
            return None
        return self._issuance.sign(issuer, plan.device, wanted.csr, now, by=plan.by)

    @staticmethod
    def _registration(now: datetime, plan: Plan, leaf: SignedLeaf | None) -> Registration:
        attested, hub = plan.attested, plan.hub
        before = attested.candidate.registration
        if before is None or before.hub_id is None:
            substatus = Substatus.INITIAL_ASSIGNMENT
        elif before.hub_id == hub.id:
            substatus = Substatus.REPROVISIONED
        elif _migrates(plan):
            substatus = Substatus.DEVICE_DATA_MIGRATED
        else:
            substatus = Substatus.DEVICE_DATA_RESET
        return Registration(
            service_id=attested.candidate.configuration.service.id,
            registration_id=attested.registration_id,
            enrollment_kind=attested.enrollment.kind,
            enrollment_id=attested.enrollment.id,
            operation_id=before.operation_id
            if before is not None and before.status is Status.ASSIGNING
            else new_uuid(),
            status=Status.ASSIGNED,
            substatus=substatus,
            hub_id=hub.id,
            device_id=plan.device.device_id,
            certificate_sha256=leaf.certificate.sha256 if leaf else None,
            etag=devices.new_etag(),
            created_at=before.created_at if before else now,
            updated_at=now,
            attestation=attested.enrollment.settings.attestation,
            slot=attested.evidence.slot,
            certificate_info=attested.evidence.certificate_info,
            payload=plan.decision.payload,
        )


def _verify(asked: _Asked | None) -> _Wanted | None:
    if asked is None:
        return None
    try:
        return _Wanted(asked.policy, asked.csr.verify())
    except CsrRefused as error:
        raise _refused(error) from error


def _refused(error: CsrRefused) -> InvalidArgument:
    return InvalidArgument(f"csr: {error.message}", reason=error.reason)


def _provision(plan: Plan, leaf: SignedLeaf | None, registration: Registration) -> Provision:
    attested = plan.attested
    return Provision(
        configuration=attested.candidate.configuration,
        enrollment=attested.enrollment,
        before=plan.before,
        device=plan.device,
        former=plan.former,
        by=plan.by,
        leaf=leaf,
        assignment=_assignment(plan),
        registration=registration,
        waited=plan.waited,
        tpm=attested.evidence.tpm,
    )


def _assignment(plan: Plan) -> Assignment:
    settings = plan.attested.enrollment.settings
    there = Seat(plan.hub.id, plan.device.device_id)
    seats = [
        Seat(left.hub_id, left.device_id)
        for left in (plan.before, plan.former)
        if left is not None and left.hub_id is not None
    ]
    return Assignment(
        hub_id=there.hub_id,
        device_id=there.device_id,
        pin=PolicyPin(settings.policy_id) if settings.policy_id else plan.attested.evidence.pin,
        leaves=tuple(seat for seat in seats if seat != there),
        migrate=_migrates(plan),
        initial_twin=plan.decision.initial_twin or settings.initial_twin,
        iot_edge=settings.iot_edge,
    )


def _migrates(plan: Plan) -> bool:
    """Whether what the device has on another hub moves with it. A twin that its webhook gives wins
    over the enrollment's choice (Azure DPS, "Understand custom allocation policies").
    """
    migrates = plan.attested.enrollment.settings.migrate_device_data
    return migrates and plan.decision.initial_twin is None


def _issued(provision: Provision, plan: Plan, _known: None) -> RegistrationResult:
    leaf = provision.leaf
    chain = leaf.chain if leaf else None
    result = RegistrationResult(provision.registration, plan.hub.host_name, chain)
    return _with_tpm_key(result, provision.tpm)


def _with_tpm_key(result: RegistrationResult, proof: TpmProof | None) -> RegistrationResult:
    """A TPM gets its key for the hub even where a policy issues: its clients wait for it."""
    if proof is None or result.registration.status is not Status.ASSIGNED:
        return result
    return replace(result, tpm_key=tpm_attestation.hub_key_for(proof))


def _result(
    found: Candidate, registration: Registration, chain: IssuedChain | None
) -> RegistrationResult:
    hub = None
    if registration.status is Status.ASSIGNED:
        hub = found.configuration.hubs.get(registration.hub_id or "")
    return RegistrationResult(registration, hub.host_name if hub else None, chain)
