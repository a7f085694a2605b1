"""The rooms of a server without its wires, for tests that decide what happens in which order.

The rooms are real, on a real database, and bootstrapped as a first start does it. Between them
and the database stands a `Junction`, where a test puts what is to happen just before or after the
next read or write of whoever comes along: an interleaving is forced here, and never hoped for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

from cryptography import x509
from sqlalchemy import Connection

import database
from fleet import Certified, device_csr
from fleetroot import sas
from fleetroot.access.access import Access
from fleetroot.audit import SYSTEM
from fleetroot.audit.audit import AuditLog
from fleetroot.bootstrap import Bootstrapped, bootstrap
from fleetroot.bus import LocalBus
from fleetroot.clock import ManualClock
from fleetroot.custody import KeyStore, MasterKey, MasterKeyKind, MasterKeySource, Sealer
from fleetroot.hub import hubs as hub_table
from fleetroot.hub import identities
from fleetroot.hub.cloud_to_device import QueuedMessage
from fleetroot.hub.directory import Directory
from fleetroot.hub.hub import Hubs
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import (
    CertificateProof,
    Channel,
    CredentialAnswer,
    CredentialWish,
    Ending,
    Identity,
)
from fleetroot.pki import IssuedCertificate, generation_of
from fleetroot.provisioning import Provisioning
from fleetroot.provisioning import services as service_table
from fleetroot.provisioning.administration import Administration
from fleetroot.provisioning.model import OnboardingCredential, RegisterRequest, RegistrationResult
from fleetroot.registry import inventory
from fleetroot.registry.device_resources import Description, DeviceResources
from fleetroot.registry.issuance import CsrText, Issuance
from fleetroot.registry.lifecycle import Lifecycle
from fleetroot.registry.model import Certificate, Device, Origin
from fleetroot.registry.namespace_administration import NamespaceAdministration
from fleetroot.registry.outbox import OutboxReader
from fleetroot.registry.policy_administration import PolicyAdministration
from fleetroot.registry.registry import Registry
from fleetroot.sas import SasToken
from fleetroot.settings import Settings
from fleetroot.storage import PostgresStore, SqliteStore, Transaction

T = TypeVar("T")
Step = Callable[[], Awaitable[object]]

PKI_URL = "http://pki.example"


class Junction:
    """A store that lets a test step in. Each step is taken once, by the next that comes; what the
    step itself reads and writes finds the steps behind it.
    """

    def __init__(self, store: SqliteStore | PostgresStore) -> None:
        self.store = store
        self.before_read: list[Step] = []
        self.after_read: list[Step] = []
        self.before_write: list[Step] = []
        self.after_write: list[Step] = []

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        await self._step(self.before_read)
        value = await self.store.read(unit)
        await self._step(self.after_read)
        return value

    async def search(self, unit: Callable[[Transaction], T], seconds: float) -> T:
        await self._step(self.before_read)
        value = await self.store.search(unit, seconds)
        await self._step(self.after_read)
        return value

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        await self._step(self.before_write)
        value = await self.store.write(unit)
        await self._step(self.after_write)
        return value

    def submit(self, unit: Callable[[Transaction], object]) -> None:
        self.store.submit(unit)

    def close(self) -> None:
        self.store.close()

    @staticmethod
    async def _step(steps: list[Step]) -> None:
        if steps:
            await steps.pop(0)()


@dataclass
class Wire:
    """A connection as a wire gives it to the hub; it keeps what it is told."""

    peer: str = "192.0.2.1:8883"
    trace_id: str = "trace"
    endings: list[Ending] = field(default_factory=list)
    answers: list[CredentialAnswer] = field(default_factory=list)
    on_answer: Callable[[CredentialAnswer], None] | None = None
    reads: bool = True  # and otherwise takes no cloud-to-device messages
    desired: list[tuple[dict[str, Any], int]] = field(default_factory=list)
    desired_unacknowledged: list[Callable[[], None]] = field(default_factory=list)
    commands: list[tuple[QueuedMessage, Callable[[], None]]] = field(default_factory=list)
    calls: list[tuple[str, str, bytes]] = field(default_factory=list)

    def end(self, why: Ending) -> None:
        self.endings.append(why)

    def answer_credential_request(
        self,
        request_id: str,
        answer: CredentialAnswer,
        qos: int,
        delivered: Callable[[], None] | None = None,
    ) -> bool:
        self.answers.append(answer)
        if self.on_answer is not None:
            self.on_answer(answer)
        if delivered is not None:
            delivered()
        return True

    def send_command(self, queued: QueuedMessage, qos: int, delivered: Callable[[], None]) -> bool:
        if self.reads:
            self.commands.append((queued, delivered))
            if qos == 0:
                delivered()
        return self.reads

    def desired_changed(
        self, patch: Mapping[str, Any], version: int, qos: int, delivered: Callable[[], None]
    ) -> bool:
        if self.reads:
            self.desired.append((dict(patch), version))
            if qos == 0:
                delivered()
            else:
                self.desired_unacknowledged.append(delivered)
        return self.reads

    def call_method(self, request_id: str, name: str, payload: bytes) -> bool:
        if self.reads:
            self.calls.append((request_id, name, payload))
        return self.reads

    @property
    def bodies(self) -> list[bytes]:
        """Of the cloud-to-device messages that it was sent."""
        return [queued.message.body for queued, _ in self.commands]

    def acknowledge(self, *places: int) -> None:
        """Acknowledges messages by their place among those that it was sent."""
        for place in places:
            self.commands[place][1]()


@dataclass
class Workbench:
    """A bootstrapped namespace, hub and provisioning service."""

    folder: Path
    clock: ManualClock
    store: Junction
    sealer: Sealer
    custody: KeyStore
    bus: LocalBus
    audit_log: AuditLog
    access: Access
    registry: Registry
    namespaces: NamespaceAdministration
    policies: PolicyAdministration
    lifecycle: Lifecycle
    issuance: Issuance
    directory: Directory
    outbox: OutboxReader
    hubs: Hubs
    administration: Administration
    provisioning: Provisioning
    made: Bootstrapped

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncIterator[Self]:
        folder.mkdir(exist_ok=True)
        clock = ManualClock(datetime.now(UTC).replace(microsecond=0))
        source = MasterKeySource(MasterKeyKind.ENVIRONMENT)
        sealer, bus = Sealer(MasterKey(bytes(range(32)), source)), LocalBus()
        custody, store = KeyStore(sealer), Junction(database.store_of(folder))
        try:
            audit_log = await AuditLog.open(store, custody, clock)
            access = Access(store, clock)
            registry = Registry(store, bus, clock)
            occupants = {"hubs": hub_table.occupy, "provisioning services": service_table.occupy}
            namespaces = NamespaceAdministration(store, custody, clock, occupants)
            policies = PolicyAdministration(store, custody, hub_table.Trust(), clock)
            lifecycle = Lifecycle(store, custody, hub_table.Trust(), bus, clock)
            issuance = Issuance(store, custody)
            outbox = OutboxReader(store, bus, clock, interval=timedelta(milliseconds=10))
            hubs = Hubs(store, issuance, sealer, outbox, clock)
            directory = Directory(sealer)
            administration = Administration(store, directory, sealer, clock)
            provisioning = Provisioning(store, issuance, directory, sealer, bus, clock)
            settings = Settings(data=folder, hostname="hub.example")
            made = await bootstrap(
                settings, namespaces, policies, hubs, administration, PKI_URL, store
            )
            await outbox.start()
            await hubs.start()
            yield cls(
                folder,
                clock,
                store,
                sealer,
                custody,
                bus,
                audit_log,
                access,
                registry,
                namespaces,
                policies,
                lifecycle,
                issuance,
                directory,
                outbox,
                hubs,
                administration,
                provisioning,
                made,
            )
        finally:
            store.close()

    # --- what devices do

    def token(self, registration_id: str) -> SasToken:
        key = sas.derive_device_key(self.made.group.keys.primary, registration_id)
        resource = f"{self.made.service.id_scope}/registrations/{registration_id}"
        expires_at = self.clock.now() + timedelta(hours=1)
        return SasToken.parse(sas.sign_token(resource, key, expires_at, "registration"))

    async def register(self, registration_id: str, csr: str | None = None) -> RegistrationResult:
        """Registers a device of the group `default`."""
        return await self.provisioning.register(self.registration(registration_id, csr))

    def registration(self, registration_id: str, csr: str | None = None) -> RegisterRequest:
        """What a device of the group `default` asks."""
        return RegisterRequest(
            self.made.service.id_scope,
            registration_id,
            OnboardingCredential(self.token(registration_id)),
            CsrText(csr) if csr else None,
        )

    async def provision(self, registration_id: str) -> Certified:
        """Registers a device with a CSR; its certificate."""
        key, csr = device_csr(registration_id)
        result = await self.register(registration_id, csr)
        assert result.chain is not None
        return Certified(result.chain.certificates, key)

    async def renew(self, session: LiveSession, request_id: str, wish: CredentialWish) -> None:
        """Asks for a certificate, and waits until the request is over."""
        issuing = await self.hubs.renewal.request(session, request_id, wish)
        if issuing is not None:
            await issuing

    async def connect(
        self, device_id: str, certified: Certified, wire: Wire | None = None
    ) -> LiveSession:
        """Connects a device to the hub; it listens to the answers of certificate requests."""
        proof = CertificateProof(certified.chain[:1])
        session, _ = await self.hubs.connect(
            self.made.hub.host_name, device_id, proof, wire or Wire(), clean_session=True
        )
        session.subscriptions[Channel.CREDENTIALS] = 1
        return session

    async def put_device(self, device_id: str) -> None:
        """Enters a device in the registry by hand, if it is not there."""
        await self._devices.put(
            self.made.namespace,
            device_id,
            Description(),
            enabled=True,
            policy=None,
            if_match=None,
            create_only=False,
            by=SYSTEM,
        )

    async def delete_device(self, device_id: str) -> None:
        """Deletes a device from the registry."""
        assert await self._devices.delete(self.made.namespace, device_id, if_match=None, by=SYSTEM)

    @property
    def _devices(self) -> DeviceResources:
        return DeviceResources(self.store, self.bus, self.clock)

    # --- what a test looks at

    async def inventory(self, device_id: str) -> list[Certificate]:
        """The device's certificates, newest first."""
        return await self.registry.certificates(self.made.namespace, device_id=device_id)

    async def identity(self, device_id: str) -> Identity | None:
        """The device's identity on the hub."""
        hub = self.made.hub
        return await self.store.store.read(lambda tx: identities.find(tx, hub.id, device_id))

    async def settled(self) -> None:
        """Waits until what was submitted before is committed, and what came of that."""
        await database.settled(self.store.store)
        for _ in range(3):
            await asyncio.sleep(0)  # whoever was told of a commit submits what it has to
        self.hubs.finish()
        await database.settled(self.store.store)

    @contextmanager
    def sql(self) -> Iterator[Connection]:
        """A transaction of somebody who goes around the program."""
        engine = database.engine_of(self.folder)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def contents(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table."""
        return database.contents(self.folder)

    def crash(self, to: Path) -> Path:
        """The database as it would be found if the machine lost its power now."""
        return database.crash(self.folder, to)

    @asynccontextmanager
    async def reading_the_outbox(self) -> AsyncIterator[None]:
        """The node's reader runs."""
        task = asyncio.create_task(self.outbox.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def contents(crashed: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, after `Workbench.crash`."""
    return database.found_after(crashed)


def generation(certified: Certified) -> str:
    """The generation that a certificate carries."""
    return str(generation_of(x509.load_der_x509_certificate(certified.chain[0])))


class Recorder:
    """Puts certificates into the inventory as issuance does, with contents of a test's choice."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._numbers = itertools.count(0xABCDEF)

    async def __call__(
        self, device: Device, *, sha256: bytes | None = None, serial: int | None = None
    ) -> bool:
        bench, number = self._bench, next(self._numbers)
        now = bench.clock.now()
        issued = IssuedCertificate(
            der=b"certificate %d" % number,
            serial=number if serial is None else serial,
            sha256=number.to_bytes(32, "little") if sha256 is None else sha256,
            not_before=now,
            not_after=now + timedelta(days=30),
            crl_shard=0,
        )
        policy = bench.made.policy
        return await bench.store.write(
            lambda tx: inventory.record(
                tx,
                [
                    inventory.NewCertificate(
                        device, issued, policy.authority_id, policy.id, Origin.PROVISIONING, now
                    )
                ],
            )
        )
