"""What a registration is going to do, decided from one snapshot: who the device is, under which
enrollment, on which hub, and what becomes of what it was before.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final, NamedTuple
from uuid import uuid4

from fleetroot.audit import Actor, ActorKind
from fleetroot.custody import Sealer
from fleetroot.errors import EnrollmentNotFound, Throttled, Unauthorized
from fleetroot.ids import canonical
from fleetroot.provisioning import allocation, attestation, candidates, enrollments, pending
from fleetroot.provisioning.attestation import Evidence
from fleetroot.provisioning.candidates import Candidate
from fleetroot.provisioning.certificate_attestation import CertificateAttestation
from fleetroot.provisioning.configuration import Configuration, Configurations
from fleetroot.provisioning.model import (
    Attestation,
    Enrollment,
    EnrollmentAllocation,
    EnrollmentKind,
    LinkedHub,
    OnboardingCredential,
    RegisterRequest,
    Registration,
    Status,
)
from fleetroot.provisioning.pending import Decision, PendingRegistration, WaitsFor
from fleetroot.provisioning.tpm_attestation import TpmAttestation
from fleetroot.registry import devices
from fleetroot.registry.assignment import KeysPin
from fleetroot.registry.model import Device, Policy
from fleetroot.storage import Transaction

_NOTHING: Final = Decision()


class Attested(NamedTuple):
    """A device that proved who it is, under an enrollment.

    Attributes:
        evidence: what proved it.
        registration_id: in the spelling that is stored.
    """

    candidate: Candidate
    enrollment: Enrollment
    evidence: Evidence
    registration_id: str


class MustWait(Exception):
    """A device proved who it is, and is not to be answered yet."""

    def __init__(self, attested: Attested, waits_for: WaitsFor, by: Actor) -> None:
        super().__init__(waits_for.value)
        self.attested = attested
        self.waits_for = waits_for
        self.by = by


class Plan(NamedTuple):
    """What a registration is going to do: one snapshot's decision.

    Attributes:
        hub: where the device goes.
        before: the device as it is; None for one that is new.
        device: the device as it will be.
        former: the device that the registration was before; None if it was none, or this one.
        by: who asked, now that it is proved.
        waited: what was decided about it while it waited; None if it did not wait.
    """

    attested: Attested
    policy: Policy | None
    hub: LinkedHub
    before: Device | None
    device: Device
    former: Device | None
    by: Actor
    waited: PendingRegistration | None = None

    @property
    def decision(self) -> Decision:
        """What whoever allocates said of the device; nothing, where it was not asked."""
        custom = self.attested.enrollment.settings.allocation is EnrollmentAllocation.CUSTOM
        return self.waited.decision if custom and self.waited is not None else _NOTHING


class Planner:
    """Attests devices and decides about them."""

    def __init__(self, configurations: Configurations, sealer: Sealer) -> None:
        self._configurations = configurations
        self._keys = enrollments.OpenKeys(sealer)
        self._certificates = CertificateAttestation()
        self._tpms = TpmAttestation(sealer)

    def attest(
        self,
        tx: Transaction,
        found: Candidate,
        registration_id: str,
        credential: OnboardingCredential,
        now: datetime,
        most: int | None = None,
    ) -> Attested:
        """Finds the enrollment that the device proves to be under, among the `most` likeliest.

        Raises:
            EnrollmentNotFound: no enrollment answers to the registration id.
            Throttled: none of the `most` is it, and there are others.
            Unauthorized: the device did not prove who it is, or is not allowed to be here.
            ChallengeDue: its TPM is to prove it first.
        """
        individual = found.individual
        if credential.tpm is not None and credential.token is None and not credential.chain:
            # First, so that the answer does not tell how an enrollment attests.
            raise self._tpms.due(found, credential.tpm, now)
        if individual is not None and individual.settings.attestation is Attestation.X509:
            evidence = self._certificates.of_individual(
                tx, found.configuration.service, individual, credential.chain, now
            )
            return _allowed(Attested(found, individual, evidence, individual.id), now)
        if individual is not None and individual.settings.attestation is Attestation.TPM:
            service = found.configuration.service
            evidence = self._tpms.prove(service, individual, registration_id, credential, now)
            return _allowed(Attested(found, individual, evidence, individual.id), now)
        if individual is None and found.enrollments and shows_certificate(credential):
            group, evidence = self._certificates.of_group(
                tx, found, registration_id, credential.chain, now
            )
            return _allowed(Attested(found, group, evidence, _stored(found, registration_id)), now)
        return self._attest_by_key(found, registration_id, credential, now, most)

    def _attest_by_key(
        self,
        found: Candidate,
        registration_id: str,
        credential: OnboardingCredential,
        now: datetime,
        most: int | None,
    ) -> Attested:
        likely = found.enrollments
        if not likely:
            raise EnrollmentNotFound("Enrollment not found", reason="no enrollment")
        token = credential.token
        if token is None:
            raise Unauthorized("no credential")
        attestation.check_token(token, found.configuration.service, registration_id, now)
        # Group keys are computed over the spelling that first registered.
        stored = _stored(found, registration_id)
        for enrollment in likely[:most]:
            keys = self._keys.of(enrollment)
            if keys is None:
                continue
            if enrollment.kind is EnrollmentKind.INDIVIDUAL:
                stored = enrollment.id
            of_device = attestation.device_keys(enrollment.kind, keys, stored)
            slot = attestation.signed_by(token, of_device)
            if slot is not None:
                evidence = Evidence(KeysPin(of_device), slot)
                return _allowed(Attested(found, enrollment, evidence, stored), now)
        if most is not None and most < len(likely):
            raise Throttled("too many keys tried for this source", retry_after=5)
        raise attestation.NoKeyFits(len(likely))

    def plan(
        self, tx: Transaction, request: RegisterRequest, now: datetime, most: int | None = None
    ) -> Plan:
        """What the registration is to do, as this snapshot has it.

        Raises:
            Unauthorized: there is no such ID scope, or as `attest`; or the device is another's.
            EnrollmentNotFound: as `attest`.
            Unavailable: no hub is linked.
            MustWait: it is not decided yet.
        """
        found = candidates.find(tx, self._configurations, request.id_scope, request.registration_id)
        attested = self.attest(tx, found, request.registration_id, request.credential, now, most)
        enrollment = attested.enrollment
        settings, name = enrollment.settings, enrollments.name_of(enrollment)
        device_id = settings.device_id or attested.registration_id
        namespace_id = found.configuration.service.namespace_id
        before = found.device
        if settings.device_id and canonical(device_id) != canonical(request.registration_id):
            before = devices.find(tx, namespace_id, device_id)
        if before is not None:
            self._check_reach(tx, enrollment, before)
            if not before.enabled:
                raise Unauthorized("device disabled", message="The device is disabled")
        waited = _waited(tx, found, enrollment)
        hub = _hub(attested, waited, request)
        if before is None:
            device = self._draft(attested, hub, device_id, now)
        else:
            moves = before.enrollment not in (None, name)
            device = replace(
                before,
                policy_id=settings.policy_id,
                enrollment=name,
                hub_id=hub.id,
                # What it was issued under another enrollment does not count any more.
                generation=uuid4() if moves else before.generation,
            )
        return Plan(
            attested,
            _policy(attested),
            hub,
            before,
            device,
            self._former(tx, found.registration, device, name),
            _actor(attested, request),
            waited,
        )

    def plan_first(
        self,
        configuration: Configuration,
        request: RegisterRequest,
        now: datetime,
        most: int | None = None,
    ) -> Plan:
        """Like `plan`, for a registration id that nothing is known of, and a device that goes by a
        key.
        """
        stranger = Candidate(configuration, individual=None, registration=None, device=None)
        attested = self._attest_by_key(
            stranger, request.registration_id, request.credential, now, most
        )
        hub = _hub(attested, None, request)
        device = self._draft(attested, hub, attested.registration_id, now)
        by = _actor(attested, request)
        return Plan(attested, _policy(attested), hub, None, device, None, by)

    @staticmethod
    def _draft(attested: Attested, hub: LinkedHub, device_id: str, now: datetime) -> Device:
        """A device that nobody knew, as it will be."""
        enrollment = attested.enrollment
        return devices.draft(
            attested.candidate.configuration.service.namespace_id,
            device_id,
            policy_id=enrollment.settings.policy_id,
            enrollment=enrollments.name_of(enrollment),
            hub_id=hub.id,
            now=now,
        )

    @staticmethod
    def _check_reach(tx: Transaction, enrollment: Enrollment, device: Device) -> None:
        """A group's key is good for devices of the group: it must not reach one that provisions
        under another enrollment. An individual enrollment names its device, so it may.

        Raises:
            Unauthorized: the device is out of reach.
        """
        if (
            enrollment.kind is EnrollmentKind.GROUP
            and device.enrollment not in (None, enrollments.name_of(enrollment))
            and enrollments.exists(tx, device.enrollment)
        ):
            raise Unauthorized("device provisions under another enrollment")

    @staticmethod
    def _former(
        tx: Transaction, registration: Registration | None, device: Device, name: str
    ) -> Device | None:
        """The device that this registration was before its enrollment named another device id."""
        if registration is None or registration.device_id is None:
            return None
        former = devices.find(tx, device.namespace_id, registration.device_id)
        if former is None or former.device_key == device.device_key or former.enrollment != name:
            return None
        return former


def _waited(
    tx: Transaction, found: Candidate, enrollment: Enrollment
) -> PendingRegistration | None:
    """What the device waited for under this enrollment."""
    registration = found.registration
    if registration is None or registration.status not in (Status.ASSIGNING, Status.FAILED):
        return None
    waited = pending.find(tx, registration.service_id, registration.registration_id)
    return waited if waited is not None and waited.is_of(enrollment) else None


def _hub(
    attested: Attested, waited: PendingRegistration | None, request: RegisterRequest
) -> LinkedHub:
    """The hub that the device goes to.

    Raises:
        MustWait: somebody has to decide about the device first.
        Unavailable: there is none for it.
    """
    found, enrollment = attested.candidate, attested.enrollment
    if waited is not None and waited.waits_for is WaitsFor.NOTHING:
        raise MustWait(attested, WaitsFor.NOTHING, _actor(attested, request))
    is_approved = waited is not None and waited.decision.approved
    if enrollment.settings.quarantine and not is_approved and _is_new(attested):
        raise MustWait(attested, WaitsFor.APPROVAL, _actor(attested, request))
    hub = allocation.choose(
        found.configuration,
        enrollment,
        attested.registration_id,
        registration=found.registration,
        peer=request.peer,
        decided=waited.decision.hub_id if waited is not None else None,
    )
    if hub is None:
        raise MustWait(attested, WaitsFor.WEBHOOK, _actor(attested, request))
    return hub


def _is_new(attested: Attested) -> bool:
    """Whether the device has never been let in under this enrollment."""
    registration, enrollment = attested.candidate.registration, attested.enrollment
    return (
        registration is None
        or registration.hub_id is None
        or registration.enrollment_kind is not enrollment.kind
        or canonical(registration.enrollment_id) != canonical(enrollment.id)
    )


def shows_certificate(credential: OnboardingCredential) -> bool:
    """Whether a device that no enrollment names goes by its certificate; one with a token, too, may
    have an operational one.
    """
    return credential.token is None and bool(credential.chain)


def _stored(found: Candidate, registration_id: str) -> str:
    """The registration id in the spelling that first registered."""
    return found.registration.registration_id if found.registration else registration_id


def _allowed(attested: Attested, now: datetime) -> Attested:
    """Raises:
    Unauthorized: nobody provisions under the enrollment now.
    """
    settings = attested.enrollment.settings
    if not settings.enabled:
        raise Unauthorized("enrollment disabled", message="The enrollment is disabled")
    if settings.is_expired(now):
        raise Unauthorized("enrollment expired", message="The enrollment has expired")
    return attested


def _actor(attested: Attested, request: RegisterRequest) -> Actor:
    return Actor(ActorKind.DEVICE, attested.registration_id, request.peer, request.trace_id)


def _policy(attested: Attested) -> Policy | None:
    """The policy that issues to it."""
    policy_id = attested.enrollment.settings.policy_id
    return attested.candidate.configuration.policies[policy_id] if policy_id else None
