"""How a device comes in that somebody has to decide about first: asked of the rooms, without wires.

Each way in is told by devices and operators who know what they were answered, and nothing else.
Told again after a fault, it goes on from there.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from faults import Faults

from fleet import device_csr
from fleetroot import sas
from fleetroot.audit import SYSTEM, Action
from fleetroot.errors import TpmChallenge, Unauthorized
from fleetroot.provisioning import Provisioning
from fleetroot.provisioning.candidates import Candidate
from fleetroot.provisioning.model import (
    Attestation,
    Enrollment,
    EnrollmentAllocation,
    EnrollmentKind,
    EnrollmentSettings,
    OnboardingCredential,
    RegisterRequest,
    Status,
    TpmKeys,
    Webhook,
)
from fleetroot.provisioning.pending import Decision, PendingRegistration
from fleetroot.provisioning.quarantine import Quarantine
from fleetroot.registry.issuance import CsrText
from fleetroot.sas import SasToken
from model_tpm import ModelTpm
from workbench import Workbench

BETWEEN_CALLS = timedelta(minutes=1)  # half of what a node may claim a registration for
CLAIM = 2 * BETWEEN_CALLS
STORAGE_ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
Decide = Callable[..., Awaitable[int]]


@dataclass
class Allocator:
    """Whoever allocates. It outlives the nodes that ask it.

    Attributes:
        asked: for each device, until when each node that asked had claimed its registration.
    """

    asked: defaultdict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    hub_id: str = ""

    async def decide(
        self, _candidate: Candidate, _enrollment: Enrollment, waiting: PendingRegistration
    ) -> Decision:
        assert waiting.claimed_until is not None
        self.asked[waiting.registration_id].append(waiting.claimed_until)
        return Decision(hub_id=self.hub_id, payload='"decided"')


@dataclass
class Node:
    """The rooms that let devices in."""

    bench: Workbench
    provisioning: Provisioning
    quarantine: Quarantine
    faults: Faults

    @classmethod
    @asynccontextmanager
    async def running(
        cls, folder: Path, allocator: Allocator, since: datetime | None = None
    ) -> AsyncIterator[Node]:
        """A node on the folder's database, whose clock is not before `since`."""
        async with Workbench.opened(folder) as bench:
            if since is not None:
                bench.clock.advance(max(since - bench.clock.now(), timedelta()))
            allocator.hub_id = bench.made.hub.id
            provisioning = Provisioning(
                bench.store,
                bench.issuance,
                bench.directory,
                bench.sealer,
                bench.bus,
                bench.clock,
                allocator=allocator,
            )
            faults = Faults(bench.store)
            try:
                yield cls(bench, provisioning, Quarantine(bench.store, bench.clock), faults)
            finally:
                faults.bury()
                await provisioning.stop()

    async def decided(self) -> None:
        """Waits until nobody is asked for a decision."""
        asking = [task for task in asyncio.all_tasks() if task.get_name() == "allocation"]
        await asyncio.gather(*asking)


class WayIn:
    """A device and its operator, and what they were told.

    Attributes:
        operation, status, received: the device's operation, how it stood, and the certificates that
            it was given.
    """

    writes: int  # of a way in without a fault
    decision: int | None = None  # the write of them that makes an allocation durable
    waits = True  # so that a poll finishes it, and not the call that began it

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.operation: str | None = None
        self.status: Status | None = None
        self.received: list[bytes] = []
        self._csr = CsrText(device_csr(id_)[1])
        self._key = b""
        self._is_decided = False

    def settings(self, node: Node) -> EnrollmentSettings:
        """Of its enrollment."""
        return EnrollmentSettings(policy_id=node.bench.made.policy.id, quarantine=True)

    async def prepare(self, node: Node) -> None:
        """What is there before."""
        self._key = await self._enroll(node, self.settings(node))

    async def go(self, node: Node) -> None:
        """The way in, from where they know it to be.

        Raises:
            Unavailable: one of them was told to come back.
        """
        raise NotImplementedError

    def entries(self) -> dict[Action, int]:
        """What of it is in the audit log, and how often."""
        return {Action.HOLD_REGISTRATION: 1, Action.APPROVE_REGISTRATION: 1}

    # --- what operators do

    async def _enroll(
        self, node: Node, settings: EnrollmentSettings, *, again: bool = False
    ) -> bytes:
        bench = node.bench
        made = await bench.administration.put(
            bench.made.service,
            EnrollmentKind.INDIVIDUAL,
            self.id,
            settings,
            if_match="*" if again else None,
            by=SYSTEM,
        )
        return made.keys.primary if made.keys else b""

    async def _approve(self, node: Node) -> None:
        await self._decide(node, node.quarantine.approve)

    async def _decide(self, node: Node, how: Decide) -> None:
        if not self._is_decided:
            await how(node.bench.made.service, [self.id], by=SYSTEM)
            self._is_decided = True

    # --- what the device does

    async def _ask(self, node: Node) -> Status:
        """Polls its operation, or registers as long as it knows of none."""
        node.bench.clock.advance(BETWEEN_CALLS)
        scope, credential = node.bench.made.service.id_scope, self._credential(node)
        if self.operation is None:
            asked = RegisterRequest(scope, self.id, credential, self._csr)
            result = await node.provisioning.register(asked)
        else:
            result = await node.provisioning.operation(scope, self.id, credential, self.operation)
        assert self.operation in (None, result.registration.operation_id)
        self.operation, self.status = result.registration.operation_id, result.registration.status
        if result.chain is not None and result.chain.certificates[0] not in self.received:
            self.received.append(result.chain.certificates[0])
        return self.status

    def _credential(self, node: Node) -> OnboardingCredential:
        return OnboardingCredential(self._token(node, self._key))

    def _token(self, node: Node, key: bytes) -> SasToken:
        resource = f"{node.bench.made.service.id_scope}/registrations/{self.id}"
        expires_at = node.bench.clock.now() + timedelta(hours=1)
        return SasToken.parse(sas.sign_token(resource, key, expires_at, "registration"))


class Approved(WayIn):
    """It is held, an operator approves it, and its next poll finishes."""

    writes = 3

    async def go(self, node: Node) -> None:
        await self._ask(node)
        await self._approve(node)
        assert await self._ask(node) is Status.ASSIGNED


class RejectedFirst(WayIn):
    """It is rejected, which ends it; somebody thinks better of it, and it is let in."""

    writes = 4
    _is_rejected = False

    async def go(self, node: Node) -> None:
        if not self._is_rejected:
            await self._ask(node)
            await self._decide(node, node.quarantine.reject)
            assert await self._ask(node) is Status.FAILED
            assert await node.bench.inventory(self.id) == []
            self._is_rejected, self._is_decided = True, False
        await self._approve(node)
        assert await self._ask(node) is Status.ASSIGNED

    def entries(self) -> dict[Action, int]:
        return super().entries() | {Action.REJECT_REGISTRATION: 1}


class Expired(WayIn):
    """Its enrollment expires while it waits; it is let in when an operator has put that off."""

    writes = 4
    _is_refused = _is_put_off = False

    def settings(self, node: Node) -> EnrollmentSettings:
        ends = node.bench.clock.now() + 8 * BETWEEN_CALLS
        return replace(super().settings(node), expires_at=ends)

    async def go(self, node: Node) -> None:
        if self.operation is None:
            await self._ask(node)
        await self._approve(node)
        if not self._is_refused:
            node.bench.clock.advance(9 * BETWEEN_CALLS)
            with pytest.raises(Unauthorized, match="expired"):
                await self._ask(node)
            assert await node.bench.inventory(self.id) == []
            self._is_refused = True
        if not self._is_put_off:
            await self._enroll(node, super().settings(node), again=True)
            self._is_put_off = True
        assert await self._ask(node) is Status.ASSIGNED


class Allocated(WayIn):
    """A webhook says where it goes, and its next poll finishes."""

    writes = 4
    decision = 2

    def settings(self, node: Node) -> EnrollmentSettings:
        return EnrollmentSettings(
            policy_id=node.bench.made.policy.id,
            allocation=EnrollmentAllocation.CUSTOM,
            webhook=Webhook("https://webhook.example/", "2021-10-01"),
        )

    async def go(self, node: Node) -> None:
        for _ in range(4):  # as often as a fault may make it
            if await self._ask(node) is Status.ASSIGNED:
                return
            await node.decided()
        raise AssertionError("it is not finished")

    def entries(self) -> dict[Action, int]:
        return {Action.HOLD_REGISTRATION: 1}


class ByTpm(WayIn):
    """Its TPM is challenged, and proves itself: at once, and with every poll by the same key."""

    writes = 1
    waits = False

    def __init__(self, id_: str) -> None:
        super().__init__(id_)
        self._tpm = ModelTpm(STORAGE_ROOT_KEY, STORAGE_ROOT_KEY)

    def settings(self, node: Node) -> EnrollmentSettings:
        settings = EnrollmentSettings(policy_id=node.bench.made.policy.id)
        keys = TpmKeys(self._tpm.endorsement_key)
        return replace(settings, attestation=Attestation.TPM, tpm=keys)

    async def go(self, node: Node) -> None:
        await self._be_challenged(node)
        assert await self._ask(node) is Status.ASSIGNED

    def entries(self) -> dict[Action, int]:
        return {Action.KEEP_STORAGE_ROOT: 1}

    async def _be_challenged(self, node: Node) -> None:
        if self._tpm.keys:
            return  # it has been
        with pytest.raises(TpmChallenge) as challenged:
            await self._ask(node)
        self._tpm.activate(challenged.value.authentication_key)

    def _credential(self, node: Node) -> OnboardingCredential:
        told = TpmKeys(self._tpm.endorsement_key, self._tpm.storage_root_key)
        if not self._tpm.keys:
            return OnboardingCredential(tpm=told, may_be_challenged=True)
        token = self._token(node, self._tpm.keys["key"])
        return OnboardingCredential(
            token, tpm=told if self.operation is None else None, may_be_challenged=True
        )


class ByTpmAndWaits(ByTpm):
    """It is held: its storage root key is kept when it is, and the key of its token stays good."""

    waits = True
    then: type[WayIn]

    def settings(self, node: Node) -> EnrollmentSettings:
        keys = TpmKeys(self._tpm.endorsement_key)
        return replace(self.then.settings(self, node), attestation=Attestation.TPM, tpm=keys)

    async def go(self, node: Node) -> None:
        await self._be_challenged(node)
        await self.then.go(self, node)

    def entries(self) -> dict[Action, int]:
        return self.then.entries(self) | ByTpm.entries(self)


class ByTpmApproved(ByTpmAndWaits):
    writes = Approved.writes
    then = Approved


class ByTpmAllocated(ByTpmAndWaits):
    writes, decision = Allocated.writes, Allocated.decision
    then = Allocated


WAYS_IN = (Approved, RejectedFirst, Expired, Allocated, ByTpm, ByTpmApproved, ByTpmAllocated)
