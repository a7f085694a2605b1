"""The device's side of provisioning: register, and ask how an operation stands.

A registration is answered at once. Everything is read in one snapshot, the device is attested, the
leaf is signed, and one unit of work makes device, certificate, hub identity and registration known
together. If anything that the decision rested on changed in between, nothing is kept and the
decision is made again.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import uuid4

from fleetroot.bus import Bus
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import (
    EnrollmentNotFound,
    InvalidArgument,
    RegistrationNotFound,
    TokenInvalid,
    Unauthorized,
    Unavailable,
)
from fleetroot.ids import canonical, check_registration_id, new_uuid
from fleetroot.pki import CsrRefused
from fleetroot.provisioning import attestation, candidates, enrollments, services
from fleetroot.provisioning.candidates import Candidate
from fleetroot.provisioning.commits import Changed, Commits, Provision
from fleetroot.provisioning.configuration import Configurations
from fleetroot.provisioning.model import (
    Enrollment,
    EnrollmentKind,
    LinkedHub,
    RegisterRequest,
    Registration,
    RegistrationResult,
    Status,
    Substatus,
)
from fleetroot.registry import devices
from fleetroot.registry.assignment import (
    Assignment,
    HubDirectory,
    KeysPin,
    PolicyPin,
    Seat,
    SymmetricKeys,
)
from fleetroot.registry.issuance import DeviceChanged, Issuance, SignedLeaf
from fleetroot.registry.model import Device, IssuedChain, Policy
from fleetroot.sas import SasToken
from fleetroot.storage import Store, Transaction

_ATTEMPTS: Final = 4


class _Attested(NamedTuple):
    """A device that proved who it is, under an enrollment."""

    candidate: Candidate
    enrollment: Enrollment
    keys: SymmetricKeys
    registration_id: str  # in the spelling that is stored


class _Plan(NamedTuple):
    """What a registration is going to do: one snapshot's decision.

    Attributes:
        hub: where the device goes.
        before: the device as it is; None for one that is new.
        device: the device as it will be.
        former: the device that the registration was before; None if it was none, or this one.
    """

    attested: _Attested
    policy: Policy | None
    hub: LinkedHub
    before: Device | None
    device: Device
    former: Device | None


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
    ) -> None:
        self._store = store
        self._issuance = issuance
        self._configurations = Configurations()
        self._commits = Commits(store, issuance, hub_directory, bus)
        self._keys = enrollments.OpenKeys(sealer)
        self._clock = clock

    async def has_id_scope(self, id_scope: str) -> bool:
        """Whether a provisioning service answers to the ID scope."""
        return await self._store.read(lambda tx: services.by_id_scope(tx, id_scope)) is not None

    async def register(self, request: RegisterRequest) -> RegistrationResult:
        """Provisions a device: attests it, assigns a hub, and issues its certificate if it asks.

        Raises:
            InvalidArgument: the registration id or the CSR is not good.
            EnrollmentNotFound: no enrollment answers to the registration id.
            Unauthorized: the device did not prove who it is, or is not allowed to be here.
            Unavailable: no hub, or no CA, can serve it now.
        """
        check_registration_id(request.registration_id)
        for _ in range(_ATTEMPTS):
            try:
                return await self._register_once(request)
            except (DeviceChanged, Changed):
                continue
        raise Unavailable("the device is being changed by others", retry_after=1)

    async def operation(
        self, id_scope: str, registration_id: str, token: SasToken | None, operation_id: str
    ) -> RegistrationResult:
        """How an operation of a device stands. Attestation is checked as for `register`.

        Raises:
            RegistrationNotFound: the device has no such operation.
            EnrollmentNotFound: no enrollment answers to the registration id.
            Unauthorized: the device did not prove who it is.
        """
        check_registration_id(registration_id)
        now = self._clock.now()

        def read(tx: Transaction) -> RegistrationResult:
            found = candidates.find(tx, self._configurations, id_scope, registration_id)
            self._attest(found, registration_id, token, now)
            registration = found.registration
            if registration is None or registration.operation_id != operation_id:
                raise RegistrationNotFound("the device has no such operation")
            fingerprint = registration.certificate_sha256
            chain = self._issuance.chain_of(tx, fingerprint) if fingerprint else None
            return _result(found, registration, chain)

        return await self._store.read(read)

    async def registration(
        self, id_scope: str, registration_id: str, token: SasToken | None
    ) -> RegistrationResult:
        """The registration of a device, without the certificate that it issued. Attestation is
        checked as for `register`.

        Raises:
            RegistrationNotFound: the device has none.
            EnrollmentNotFound: no enrollment answers to the registration id.
            Unauthorized: the device did not prove who it is.
        """
        check_registration_id(registration_id)
        now = self._clock.now()

        def read(tx: Transaction) -> RegistrationResult:
            found = candidates.find(tx, self._configurations, id_scope, registration_id)
            self._attest(found, registration_id, token, now)
            if found.registration is None:
                raise RegistrationNotFound("the device has no registration")
            return _result(found, found.registration, None)

        return await self._store.read(read)

    # --- attestation

    def _attest(
        self, found: Candidate, registration_id: str, token: SasToken | None, now: datetime
    ) -> _Attested:
        """Finds the enrollment that the device proves to be under."""
        likely = found.enrollments
        if not likely:
            raise EnrollmentNotFound("Enrollment not found", reason="no enrollment")
        if token is None:
            raise Unauthorized("no credential")
        attestation.check_token(token, found.configuration.service, registration_id, now)
        # Group keys are computed over the spelling that first registered.
        stored = found.registration.registration_id if found.registration else registration_id
        for enrollment in likely:
            keys = self._keys.of(enrollment)
            if keys is None:
                continue
            if enrollment.kind is EnrollmentKind.INDIVIDUAL:
                stored = enrollment.id
            of_device = attestation.device_keys(enrollment.kind, keys, stored)
            if attestation.is_signed_by_either(token, of_device):
                if not enrollment.settings.enabled:
                    raise Unauthorized("enrollment disabled", message="The enrollment is disabled")
                return _Attested(found, enrollment, of_device, stored)
        raise TokenInvalid("token signed with another key")

    # --- registration

    async def _register_once(self, request: RegisterRequest) -> RegistrationResult:
        now = self._clock.now()
        plan = await self._store.read(lambda tx: self._plan(tx, request, now))
        await _in_step()
        if not plan.device.enabled:
            raise Unauthorized("device disabled", message="The device is disabled")
        leaf = await self._sign(plan, request, now)
        registration = self._registration(plan, leaf, now)
        attested = plan.attested
        await self._commits.make_known(
            Provision(
                configuration=attested.candidate.configuration,
                enrollment=attested.enrollment,
                before=plan.before,
                device=plan.device,
                former=plan.former,
                leaf=leaf,
                assignment=self._assignment(plan),
                registration=registration,
            ),
            now,
        )
        return RegistrationResult(registration, plan.hub.host_name, leaf.chain if leaf else None)

    def _plan(self, tx: Transaction, request: RegisterRequest, now: datetime) -> _Plan:
        found = candidates.find(tx, self._configurations, request.id_scope, request.registration_id)
        attested = self._attest(found, request.registration_id, request.token, now)
        enrollment, configuration = attested.enrollment, found.configuration
        settings, name = enrollment.settings, enrollments.name_of(enrollment)
        device_id = settings.device_id or attested.registration_id
        namespace_id = configuration.service.namespace_id
        before = found.device
        if settings.device_id and canonical(device_id) != canonical(request.registration_id):
            before = devices.find(tx, namespace_id, device_id)
        if before is not None:
            self._check_reach(tx, enrollment, before)
        hub = self._allocate(attested)
        if before is None:
            device = devices.draft(
                namespace_id,
                device_id,
                policy_id=settings.policy_id,
                enrollment=name,
                hub_id=hub.id,
                now=now,
            )
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
        return _Plan(
            attested,
            configuration.policies[settings.policy_id] if settings.policy_id else None,
            hub,
            before,
            device,
            self._former(tx, found.registration, device, name),
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

    @staticmethod
    def _allocate(attested: _Attested) -> LinkedHub:
        """The hub that the device goes to: the enrollment's own, the one it is on where it shall
        stay there, else one of the linked by a hash of the registration id.
        """
        linked = attested.candidate.configuration.hubs
        settings, registration = attested.enrollment.settings, attested.candidate.registration
        if registration and registration.hub_id and not settings.update_hub_assignment:
            stays = linked.get(registration.hub_id)
            if stays is not None:
                return stays
        hubs = [hub for hub in linked.values() if settings.hub_id in (None, hub.id)]
        if not hubs:
            raise Unavailable("no hub is linked for this enrollment", reason="no linked hub")
        digest = sha256(canonical(attested.registration_id).encode()).digest()
        return hubs[int.from_bytes(digest[:8], "big") % len(hubs)]

    async def _sign(
        self, plan: _Plan, request: RegisterRequest, now: datetime
    ) -> SignedLeaf | None:
        policy = plan.policy
        if request.csr is None:
            return None
        if policy is None:
            raise InvalidArgument(
                "csr: the enrollment has no policy that could issue a certificate",
                reason="CSR without a policy",
            )
        try:
            csr = self._issuance.read_request(policy, request.csr, plan.attested.registration_id)
        except CsrRefused as error:
            raise InvalidArgument(f"csr: {error.message}", reason=error.reason) from error
        issuer = await self._issuance.issuer(policy)
        await _in_step()
        return self._issuance.sign(issuer, plan.device, csr, now)

    @staticmethod
    def _registration(plan: _Plan, leaf: SignedLeaf | None, now: datetime) -> Registration:
        attested, hub = plan.attested, plan.hub
        before = attested.candidate.registration
        if before is None or before.hub_id is None:
            substatus = Substatus.INITIAL_ASSIGNMENT
        elif before.hub_id == hub.id:
            substatus = Substatus.REPROVISIONED
        elif attested.enrollment.settings.migrate_device_data:
            substatus = Substatus.DEVICE_DATA_MIGRATED
        else:
            substatus = Substatus.DEVICE_DATA_RESET
        return Registration(
            service_id=attested.candidate.configuration.service.id,
            registration_id=attested.registration_id,
            enrollment_kind=attested.enrollment.kind,
            enrollment_id=attested.enrollment.id,
            operation_id=new_uuid(),
            status=Status.ASSIGNED,
            substatus=substatus,
            hub_id=hub.id,
            device_id=plan.device.device_id,
            certificate_sha256=leaf.certificate.sha256 if leaf else None,
            etag=devices.new_etag(),
            created_at=before.created_at if before else now,
            updated_at=now,
        )

    @staticmethod
    def _assignment(plan: _Plan) -> Assignment:
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
            pin=PolicyPin(settings.policy_id)
            if settings.policy_id
            else KeysPin(plan.attested.keys),
            leaves=tuple(seat for seat in seats if seat != there),
            migrate=settings.migrate_device_data,
            initial_twin=settings.initial_twin,
        )


async def _in_step() -> None:
    """Lets every registration of this turn of the loop come this far before any goes on. Many that
    do one thing after the other find its code and tables in the processor's caches, and the loop
    is not held up for the length of a whole registration.
    """
    await asyncio.sleep(0)


def _result(
    found: Candidate, registration: Registration, chain: IssuedChain | None
) -> RegistrationResult:
    hub = found.configuration.hubs.get(registration.hub_id or "")
    return RegistrationResult(registration, hub.host_name if hub else None, chain)
