"""The composition root: builds every room, starts them in order and stops them in the other.

Nothing else knows all rooms. Start: the data folder is locked and migrated, the rooms are built,
what a first start makes is made, the ports open, the files that tell how to reach them are written.
Stop: the ports close, requests and messages that were accepted are answered, sessions end, the
database closes last.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final
from weakref import WeakSet

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from fleetroot import __version__, bootstrap
from fleetroot.access.access import Access
from fleetroot.access.approvals import Guarded
from fleetroot.api.device_messages import DeviceMessages
from fleetroot.api.device_registrations import DeviceRegistrations
from fleetroot.api.ports import DevicePort, console_port, http_application, https_port
from fleetroot.api.services import Services
from fleetroot.audit import Entry
from fleetroot.audit.audit import AuditLog
from fleetroot.bus import LocalBus
from fleetroot.clock import Clock, SystemClock
from fleetroot.custody import (
    Custody,
    MasterKeyConfig,
    Token,
    TokenConfig,
    TokenState,
    forget_master_keys,
    keep_master_key,
    load_master_key,
    new_master_key,
    read_pin,
)
from fleetroot.errors import FleetrootError, Unavailable
from fleetroot.gateway import server_certificate
from fleetroot.gateway.connection import DeviceConnection, Wire
from fleetroot.gateway.hub_wire import HubWire
from fleetroot.gateway.names import ProvisioningName, parse_name
from fleetroot.gateway.provisioning_wire import ProvisioningWire
from fleetroot.gateway.refusal_history import RefusalHistory, Subject, SubjectKind
from fleetroot.gateway.refusals import Refusals
from fleetroot.gateway.served_names import ServedNames
from fleetroot.gateway.server_certificate import OperatorsCertificate, ServerCertificate
from fleetroot.gateway.tls import HttpServer, Refusal, TlsListener, make_context
from fleetroot.gateway.websocket import MqttOverWebSocket
from fleetroot.hub import hubs as hub_table
from fleetroot.hub.administration import HubAdministration
from fleetroot.hub.commands import CommandRules
from fleetroot.hub.directory import Directory
from fleetroot.hub.events import Retention
from fleetroot.hub.hub import Hubs
from fleetroot.hub.identity_administration import IdentityAdministration
from fleetroot.hub.jobs import JobRules
from fleetroot.hub.methods import MethodRules
from fleetroot.hub.queries import QueryRules
from fleetroot.hub.service_access import ServiceAccess
from fleetroot.hub.statistics import Statistics
from fleetroot.limits import (
    FAULTS,
    capped_source_of,
    http_limits,
    mqtt_limits,
    provisioning_rates,
    raise_open_files,
    tls_limits,
)
from fleetroot.metrics import Metrics
from fleetroot.pace import Pace
from fleetroot.pki import sha256_fingerprint
from fleetroot.provisioning import Provisioning
from fleetroot.provisioning import services as service_table
from fleetroot.provisioning.administration import Administration
from fleetroot.provisioning.custom_allocation import CustomAllocation
from fleetroot.provisioning.limits import Limits
from fleetroot.provisioning.quarantine import Quarantine
from fleetroot.provisioning.regions import Regions
from fleetroot.provisioning.registration_administration import RegistrationAdministration
from fleetroot.provisioning.service_administration import References, ServiceAdministration
from fleetroot.provisioning.webhook_addresses import WebhookRules
from fleetroot.provisioning.webhook_client import WebhookClient, WebhookLimits
from fleetroot.provisioning.webhook_secrets import WebhookSecretStore
from fleetroot.registry.access_keys import AccessKeys
from fleetroot.registry.device_resources import DeviceResources
from fleetroot.registry.expiry import Expiring, ExpiryWatch
from fleetroot.registry.issuance import Issuance
from fleetroot.registry.lifecycle import Lifecycle
from fleetroot.registry.namespace_administration import NamespaceAdministration
from fleetroot.registry.ocsp_responders import OcspResponders
from fleetroot.registry.offline_lists import OfflineLists
from fleetroot.registry.outbox import OutboxReader
from fleetroot.registry.policy_administration import LeafLimits, PolicyAdministration
from fleetroot.registry.publishing import RevocationPublisher
from fleetroot.registry.registry import Registry
from fleetroot.registry.revocation_jobs import RevocationJobs
from fleetroot.registry.third_party_lists import ThirdPartyLists
from fleetroot.registry.uploaded_certificates import UploadedCertificates
from fleetroot.settings import Settings, TokenSettings
from fleetroot.storage import databases, installation
from fleetroot.storage.databases import Database
from fleetroot.upkeep.backup import Backups
from fleetroot.upkeep.rotation import Rotation, open_sealer
from fleetroot.upkeep.sealed import SEAL_CHECK, sealed_columns

_LOCK_FILE: Final = ".lock"
_CHECKPOINTS: Final = 5.0  # seconds between checkpoints of the audit log
_TOKENS: Final = 5.0  # seconds between looks whether tokens are there
_SHORT_DUTIES: Final = 60.0  # seconds between their rounds
_LONG_DUTIES: Final = 3600.0
_CUT_SECONDS: Final = 1.0  # for connections that have nothing left to say
_log = structlog.get_logger("fleetroot.app")


class Server:
    """A running Fleetroot, all in one process."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.metrics = Metrics()
        self.ports: dict[str, int] = {}
        self._failures: Pace[str] = Pace(
            settings.failures_per_source_per_second,
            settings.failures_per_source,
            self.clock.monotonic,
        )
        self._refusals = Refusals(
            self.metrics.count_refusal,
            self.clock,
            history=RefusalHistory(in_all=settings.refusals_kept),
            lines_per_second=settings.refusal_lines_per_second,
            charge=self._failures.take,
            note=self._note_refusal,
        )
        self._running: list[asyncio.Task[None]] = []
        self._tls: list[tuple[TlsListener, bool]] = []  # whether it asks for a certificate
        self._http: list[HttpServer] = []
        self._mqtt: TlsListener | None = None
        self._devices: WeakSet[DeviceConnection] = WeakSet()
        self._lock: int | None = None
        self._operators = (
            OperatorsCertificate(settings.server_certificate, settings.server_key)
            if settings.server_certificate is not None and settings.server_key is not None
            else None
        )
        self._renewing = asyncio.Lock()
        self._files = raise_open_files()
        self._mqtt_limits = mqtt_limits(settings)

    # --- start

    async def start(self) -> None:
        """Starts everything; when this returns the server is ready.

        Raises:
            FleetrootError: the data folder or the database cannot be used.
            MasterKeyUnusable, WrongMasterKey: nor can the master key.
            OSError: a port cannot be bound.
        """
        started_at = self.clock.now()
        data = self._open_data_folder()
        self._database = await asyncio.to_thread(self._open_database, data)
        self.store = self._database.store
        self._master_key = load_master_key(_master_key_config(self.settings), data)
        self._sealer = await open_sealer(self.store, self._master_key)
        self._build(data)
        await self._check_master_key()
        await self._look_at_tokens()
        self.audit_log = await AuditLog.open(self.store, self._custody, self.clock)
        await self.rotation.start()
        await self._outbox.start()
        await self.hubs.start()
        await self.lifecycle.renew_due()
        await self.registry.mark_expired()  # before the ports open: what expired while we were away
        await self._open_ports(data, started_at)
        await self.publisher.update()  # ready: every URL in a certificate has its list
        self._running = [
            asyncio.create_task(self._outbox.run(), name="outbox"),
            asyncio.create_task(
                _every(
                    _SHORT_DUTIES,
                    self.registry.mark_expired,
                    self.lifecycle.renew_due,
                    self.hubs.end_expired,
                    self.hubs.remove_old_events,
                    self.hubs.renewal.remove_expired,
                    self.hubs.commands.look,
                    self.hubs.jobs.remove_old,
                    self._renew_server_certificate,
                    self.expiry.look,
                    self._summarize_refusals,
                    self.access.write_uses,
                    self._renew_first_token,
                    self._finish_rotation,
                ),
                name="short duties",
            ),
            asyncio.create_task(self.hubs.event_log.run(), name="announcements"),
            asyncio.create_task(self.publisher.run(), name="revocation lists"),
            asyncio.create_task(_every(_CHECKPOINTS, self.audit_log.write), name="audit log"),
            asyncio.create_task(_every(_LONG_DUTIES, self._outbox.prune), name="long duties"),
            asyncio.create_task(_every(1.0, self.rotation.run), name="master key"),
            asyncio.create_task(_every(1.0, self.revocation_jobs.work), name="revocations"),
            asyncio.create_task(_every(1.0, self.hubs.jobs.look), name="jobs"),
            asyncio.create_task(_every(_TOKENS, self._look_at_tokens), name="tokens"),
        ]

    def _open_data_folder(self) -> Path:
        data = self.settings.data
        bootstrap.make_private_folder(data)
        self._lock = os.open(data / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"another server is running on {data}") from None
        return data

    def _open_database(self, data: Path) -> Database:
        url = self.settings.database_url
        if url is None:
            return databases.open_sqlite(data)
        return databases.open_postgresql(url.get_secret_value())

    def _build(self, data: Path) -> None:
        settings, clock = self.settings, self.clock
        self._custody = Custody(
            self._sealer, self._open_tokens(), authorities_in=settings.authority_keys
        )
        self._bus = bus = LocalBus()
        self.access = Access(
            self.store,
            clock,
            second_person_for=[Guarded(name) for name in settings.second_person_for],
        )
        self.registry = Registry(self.store, bus, clock)
        self.revocation_jobs = RevocationJobs(self.store, bus, clock)
        self.namespaces = NamespaceAdministration(
            self.store,
            self._custody,
            clock,
            {"hubs": hub_table.occupy, "provisioning services": service_table.occupy},
        )
        trust = hub_table.Trust()
        self.policies = PolicyAdministration(
            self.store, self._custody, trust, clock, _leaf_limits(settings)
        )
        self.lifecycle = Lifecycle(self.store, self._custody, trust, bus, clock)
        within = timedelta(days=settings.expiry_warning_days)
        self.expiry = ExpiryWatch(self.store, clock, within, self._server_expiry)
        issuance = Issuance(self.store, self._custody)
        self._outbox = OutboxReader(
            self.store, bus, clock, lease=timedelta(seconds=settings.lease_seconds)
        )
        self.ocsp = OcspResponders(self.store, self._custody, clock)
        self.publisher = RevocationPublisher(
            self.store,
            self._custody,
            self.ocsp,
            clock,
            batch=timedelta(seconds=settings.crl_batch_seconds),
        )
        self.publisher.listen_to(self._outbox)
        limits = Limits(clock, provisioning_rates(settings), capped_source_of(settings))
        self.hubs = Hubs(
            self.store,
            issuance,
            self._sealer,
            self._outbox,
            clock,
            _retention(settings),
            Pace(
                settings.connects_per_device_per_second,
                settings.connects_per_device,
                clock.monotonic,
            ),
            on_alert=self.metrics.count_alert,
            certificates=limits.certificates,
            command_rules=_command_rules(settings),
            method_rules=MethodRules(settings.method_calls_per_device, settings.method_calls),
            on_method=self.metrics.count_method_call,
            job_rules=_job_rules(settings),
            query_rules=QueryRules(settings.query_seconds, settings.query_groups),
            end_with_certificate=settings.end_expired_connections,
        )
        self.hub_access = ServiceAccess(self.store, self._sealer, clock)
        directory = Directory(self._sealer)
        webhooks, watch = _webhook_limits(settings), self.metrics.count_webhook_call
        self.webhook_secrets = WebhookSecretStore(self.store, self._sealer, clock)
        self.administration = Administration(
            self.store, directory, self._sealer, clock, webhooks.rules
        )
        self.rotation = Rotation(
            self.store,
            self._sealer,
            clock,
            sealed_columns([server_certificate.sealed_name]),
            present=lambda: load_master_key(_master_key_config(settings), data),
            keep=lambda master: keep_master_key(master, data),
            forget=lambda master: forget_master_keys(master, data),
        )
        self.provisioning = Provisioning(
            self.store,
            issuance,
            directory,
            self._sealer,
            bus,
            clock,
            allocator=CustomAllocation(
                WebhookClient(webhooks, clock=clock, watch=watch),
                self.webhook_secrets,
                directory,
                clock,
                watch,
            ),
            limits=limits,
        )

    async def _check_master_key(self) -> None:
        """Raises:
        WrongMasterKey: the folder was sealed with another one.
        """
        kept = await self.store.read(lambda tx: installation.get(tx, SEAL_CHECK))
        if kept is not None:
            self._sealer.check(kept)
            return
        check = self._sealer.seal_check()
        await self.store.write(lambda tx: installation.put(tx, SEAL_CHECK, check))

    async def _open_ports(self, data: Path, started_at: datetime) -> None:
        """Opens every port. The plain one is first, because its number may be part of the PKI URL
        that the first CA embeds; HTTP answers 503 until everything is there.
        """
        settings = self.settings
        plain, https, console = _Late(), _Late(), _Late()
        self.ports["httpPort"] = await self._http_server(plain).serve_plain(
            settings.bind, settings.http_port
        )
        pki_url = await bootstrap.public_pki_url(self.store, settings, self.ports["httpPort"])
        made = await bootstrap.bootstrap(
            settings,
            self.namespaces,
            self.policies,
            self.hubs,
            self.administration,
            pki_url,
            self.store,
        )
        self._certificate = await self._server_certificate()
        await self.expiry.look()
        self.ports["mqttPort"] = await self._open_mqtt()
        self.ports["httpsPort"] = await self._open_https(https, settings.https_port, ask=True)
        self.ports["consolePort"] = await self._open_https(
            console, settings.console_port, ask=False
        )
        token = await bootstrap.first_token(self.access, data)
        await bootstrap.write_files(
            settings,
            made,
            self.ports,
            token,
            self._certificate.trust,
            self.hubs,
            self.administration,
        )
        services = Services(
            registry=self.registry,
            device_resources=DeviceResources(self.store, self._bus, self.clock),
            publisher=self.publisher,
            ocsp=self.ocsp,
            third_party_lists=ThirdPartyLists(self.store, self._bus, self.clock),
            offline_lists=OfflineLists(self.store, self.clock),
            revocation_jobs=self.revocation_jobs,
            namespaces=self.namespaces,
            policies=self.policies,
            lifecycle=self.lifecycle,
            expiry=self.expiry,
            access=self.access,
            audit_log=self.audit_log,
            administration=self.administration,
            registrations=RegistrationAdministration(self.store, self.clock),
            provisioning_services=ServiceAdministration(
                self.store, self._sealer, self.clock, self._served_names()
            ),
            quarantine=Quarantine(self.store, self.clock),
            hubs=self.hubs,
            regions=Regions(self.store, self.clock),
            webhook_secrets=self.webhook_secrets,
            hub_administration=HubAdministration(
                self.store, self._sealer, self.clock, self._served_names(), References()
            ),
            hub_access=self.hub_access,
            hub_statistics=Statistics(self.store),
            identities=IdentityAdministration(self.store, self._sealer, self._bus, self.clock),
            access_keys=AccessKeys(self.store, self._sealer, self.clock),
            uploaded_certificates=UploadedCertificates(self.store, self._bus, self.clock),
            namespace=made.namespace,
            clock=self.clock,
            version=__version__,
            started_at=started_at,
            master_key_where=self._master_key.where,
            database=self._database.shown,
            pki_url=pki_url,
            token_states=self._custody.states,
            rotation=self.rotation,
            backups=Backups(
                self.store,
                data,
                self.rotation,
                self.audit_log,
                self.clock,
                master_key=self._master_key.source,
                version=__version__,
            ),
            new_master_key=lambda key, passphrase: new_master_key(
                _master_key_config(settings),
                data,
                MasterKeyConfig(key=key, passphrase=passphrase),
            ),
            keep_first_token=lambda text: bootstrap.keep_first_token(data, text),
        )
        self.metrics.add_gauges(self._gauges)
        bodies = settings.http_body_bytes
        plain.app = http_application(services, self._refusals, bodies)
        console.app = console_port(services, self._refusals, bodies)
        https.app = DevicePort(
            DeviceRegistrations(self.provisioning, self._refusals, self.clock),
            DeviceMessages(self.hubs, self._refusals, self.clock),
            MqttOverWebSocket(self._device_connection, self._refusals),
            https_port(services, self._refusals, bodies, self.metrics.registry),
        )

    def _http_server(self, app: ASGIApp) -> HttpServer:
        server = HttpServer(app, http_limits(self.settings), self._http_refused)
        self._http.append(server)
        return server

    async def _open_https(self, app: ASGIApp, port: int, *, ask: bool) -> int:
        server = self._http_server(app)
        listener = self._listener(server.protocol_factory, port, ask=ask)
        await server.serve_tls(listener)
        return listener.port

    async def _open_mqtt(self) -> int:
        self._mqtt = self._listener(self._device_connection, self.settings.mqtt_port, ask=True)
        await self._mqtt.start()
        return self._mqtt.port

    def _listener(
        self, factory: Callable[[], asyncio.Protocol], port: int, *, ask: bool
    ) -> TlsListener:
        """A TLS port; `ask` for a client certificate where devices come."""
        settings = self.settings
        listener = TlsListener(
            settings.bind,
            port,
            factory,
            make_context(self._certificate.identity, request_client_certificate=ask),
            tls_limits(settings, self._files),
            on_refused=self._handshake_refused,
            is_barred=self._failures.is_spent,
            trusted_proxies=settings.trusted_proxies,
        )
        self._tls.append((listener, ask))
        return listener

    def _device_connection(self) -> DeviceConnection:
        connection = DeviceConnection(self._wire, self._refusals, self._mqtt_limits)
        self._devices.add(connection)
        return connection

    async def _wire(self, connection: DeviceConnection, username: str) -> Wire:
        """The translation of the service that the user name names."""
        name = parse_name(username)
        if isinstance(name, ProvisioningName):
            connection.about = Subject(
                SubjectKind.REGISTRATION, name.id_scope, name.registration_id
            )
            return ProvisioningWire(connection, name, self.provisioning, self.clock)
        connection.about = Subject(SubjectKind.DEVICE, name.host_name, name.device_id)
        return HubWire(connection, name, self.hubs, self.clock)

    def _http_refused(self, reason: str, peer: str) -> None:
        self._refusals.add("http", reason, peer=peer)

    def _handshake_refused(self, refusal: Refusal) -> None:
        peer = f"{refusal.peer[0]}:{refusal.peer[1]}" if refusal.peer else "?"
        reason = f"{refusal.reason}: {refusal.detail}" if refusal.detail else refusal.reason
        # What was turned away at the door has cost nothing yet, and is charged for nothing.
        self._refusals.add("tls", reason, peer=peer, charge=refusal.reason in FAULTS)

    async def _renew_first_token(self) -> None:
        await bootstrap.renew_first_token(self.access, self.settings.data)

    def _note_refusal(self, entry: Entry, label: str) -> None:
        if hasattr(self, "audit_log"):  # before that there is no database
            self.audit_log.note_refusal(entry, label)

    async def _finish_rotation(self) -> None:
        await self.rotation.finish()

    async def _summarize_refusals(self) -> None:
        self._refusals.summarize()

    # --- tokens

    def _open_tokens(self) -> list[Token]:
        return [
            Token(_token_config(name, token), self._token_changed)
            for name, token in self.settings.tokens.items()
        ]

    async def _look_at_tokens(self) -> None:
        """Finds out how the tokens stand, also while nobody signs."""
        if self.settings.tokens:
            await asyncio.to_thread(self._custody.look)
            for state in self._custody.states():
                self.metrics.note_token(state.name, up=state.away is None)

    def _token_changed(self, state: TokenState) -> None:
        """Called from the thread that saw it."""
        self.metrics.note_token(state.name, up=state.away is None)
        if state.away is None:
            _log.warning("token is back", alert="token", token=state.name)
        else:
            _log.error("token is away", alert="token", token=state.name, reason=state.away)

    def _gauges(self) -> dict[str, tuple[str, float]]:
        assert self._mqtt is not None  # noqa: S101 - gauges are read once it is there
        stats = self._mqtt.stats()
        return {
            "fleetroot_mqtt_connections": ("Connections on the MQTT port.", stats.connections),
            "fleetroot_mqtt_handshakes_unfinished": (
                "TLS handshakes on the MQTT port that are not done.",
                stats.handshakes,
            ),
            "fleetroot_method_calls_waiting": (
                "Calls of direct methods that wait for an answer.",
                len(self.hubs.methods),
            ),
            "fleetroot_jobs_running": ("Jobs that are being worked on.", len(self.hubs.jobs)),
            "fleetroot_hub_sessions": ("Devices connected to a hub.", len(self.hubs.live)),
            "fleetroot_expiring": (
                "Certificates of CAs and of the server that end within the warning time.",
                len(self.expiry.soon),
            ),
            "fleetroot_first_expiry_timestamp_seconds": (
                "When the first certificate of a CA or of the server ends.",
                self.expiry.first.timestamp() if self.expiry.first else 0.0,
            ),
        }

    # --- the server's certificate

    async def _server_certificate(self) -> ServerCertificate:
        if self._operators is not None:
            return await asyncio.to_thread(self._operators.read, self.clock.now())
        return await server_certificate.issue(
            self.store, self._custody, await self._hosts(), self.clock.now()
        )

    async def _hosts(self) -> list[str]:
        """Every name that the server's certificate is to have."""
        settings = self.settings
        own = [settings.services_domain] if settings.services_domain else []
        return server_certificate.host_names(
            settings.hostname,
            settings.bind,
            *own,
            *await self.hubs.host_names(),
            *await self.administration.host_names(),
        )

    def _served_names(self) -> ServedNames:
        settings = self.settings
        return ServedNames(
            settings.services_domain or server_certificate.domain_of(settings.hostname),
            lambda: self._certificate,
            self._renew_server_certificate,
        )

    def _server_expiry(self) -> list[Expiring]:
        """The server's certificate; one of our own only if it was not renewed when it was due."""
        if self._certificate.renew_at is not None and not self._certificate.is_due(
            self.clock.now()
        ):
            return []
        return [
            Expiring(
                "server certificate",
                self.settings.hostname,
                sha256_fingerprint(each),
                each.not_valid_after_utc,
            )
            for each in self._certificate.identity.certificate_chain
        ]

    async def _renew_server_certificate(self) -> None:
        """Shows a new certificate from the next handshake on: the operator's, when its files have
        changed, or one of our own, when the old one is due or lacks a service's name.

        Raises:
            InvalidArgument: the operator's new one cannot be used. The old one stays.
        """
        async with self._renewing:  # or what was read first could be shown last
            now, new = self.clock.now(), None
            if self._operators is not None:
                new = await asyncio.to_thread(self._operators.read_if_changed, now)
            elif self._certificate.is_due(now) or self._certificate.lacks(await self._hosts()):
                new = await self._server_certificate()
            if new is not None:
                self._show(new)

    def _show(self, new: ServerCertificate) -> None:
        before, self._certificate = self._certificate, new
        if new.trust != before.trust:
            bootstrap.write_trust(self.settings.data, new.trust)
        for listener, ask in self._tls:
            listener.reload(make_context(new.identity, request_client_certificate=ask))
        _log.info("server certificate renewed")

    async def reload(self) -> None:
        """What SIGHUP asks for: reads the operator's certificate now, if its files have changed."""
        try:
            await self._renew_server_certificate()
        except FleetrootError as error:
            _log.error("cannot reload", error=error.message)

    # --- stop

    async def stop(self) -> None:
        """Stops everything in order; what was accepted is answered within the drain time. Stops
        what `start` had begun when it failed, too.
        """
        grace = self.settings.drain_seconds
        if hasattr(self, "hubs"):
            # Before their devices go: what a job has in flight is done again, and did not fail.
            await self.hubs.jobs.stop()
            self.hubs.stop_waiting()
        await asyncio.gather(self._finish_devices(grace), *(h.stop(grace) for h in self._http))
        if hasattr(self, "provisioning"):
            await self.provisioning.stop()
        if hasattr(self, "hubs"):
            self.hubs.stop()
        for listener, _ in self._tls:
            await listener.stop(_CUT_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(*(device.settle() for device in tuple(self._devices)))
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if hasattr(self, "hubs"):
            self.hubs.finish()
        if hasattr(self, "audit_log"):
            # The next start goes on where this one ended, so whatever this comes to is no reason
            # to keep the database and the folder.
            with suppress(TimeoutError):
                async with asyncio.timeout(max(grace, _CUT_SECONDS)):
                    await _try(self.audit_log.write)
        if hasattr(self, "_database"):
            await asyncio.to_thread(self._database.store.close)
        if hasattr(self, "_custody"):
            await asyncio.to_thread(self._custody.close)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _finish_devices(self, grace: float) -> None:
        """Lets no more devices in, and answers what those that are in have asked."""
        if self._mqtt is None:
            return
        self._mqtt.stop_accepting()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(*(device.finish() for device in tuple(self._devices)))


class _Late:
    """An ASGI application that is filled after its port was opened."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.app is not None:
            await self.app(scope, receive, send)
            return
        kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
        headers = [(b"retry-after", b"1"), (b"content-length", b"0")]
        await send({"type": f"{kind}.start", "status": 503, "headers": headers})
        await send({"type": f"{kind}.body", "body": b""})


def _master_key_config(settings: Settings) -> MasterKeyConfig:
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return MasterKeyConfig(
        key_file=settings.master_key_file,
        key=settings.master_key.get_secret_value() if settings.master_key else None,
        credentials_directory=Path(credentials) if credentials else None,
        passphrase=settings.passphrase.get_secret_value() if settings.passphrase else None,
    )


def _token_config(name: str, token: TokenSettings) -> TokenConfig:
    if token.pin is not None:
        pin = token.pin.get_secret_value()
    else:
        assert token.pin_file is not None  # noqa: S101 - the settings have one of them
        pin = read_pin(token.pin_file)
    return TokenConfig(
        name=name,
        module=token.module,
        label=token.label,
        pin=pin,
        threads=token.threads,
        timeout=token.timeout_seconds,
        retry_seconds=token.retry_seconds,
    )


def _command_rules(settings: Settings) -> CommandRules:
    return CommandRules(
        lifetime=timedelta(hours=settings.command_hours),
        depth=settings.command_queue_depth,
        deliveries=settings.command_deliveries,
        feedback_lifetime=timedelta(hours=settings.feedback_hours),
    )


def _job_rules(settings: Settings) -> JobRules:
    return JobRules(
        per_second=settings.job_devices_per_second,
        at_once=settings.job_devices_at_once,
        kept=timedelta(days=settings.job_days),
    )


def _retention(settings: Settings) -> Retention:
    return Retention(
        age=timedelta(hours=settings.event_retention_hours),
        count=settings.event_retention_count,
        size=settings.event_retention_megabytes * 1024 * 1024,
    )


@cache
def _machines_trust() -> ssl.SSLContext:
    """What this machine trusts; to read it takes 30 ms, so the servers of a process share it."""
    return ssl.create_default_context()


def _webhook_limits(settings: Settings) -> WebhookLimits:
    tls = _machines_trust()
    if settings.webhook_ca is not None:
        tls = ssl.create_default_context()
        try:
            tls.load_verify_locations(settings.webhook_ca)
        except OSError as error:  # ssl.SSLError is one
            raise Unavailable(f"webhook_ca cannot be used: {error}") from None
    return WebhookLimits(
        seconds=settings.webhook_seconds,
        tries=settings.webhook_tries,
        rules=WebhookRules(settings.webhook_plain_http, settings.webhook_networks),
        tls=tls,
    )


def _leaf_limits(settings: Settings) -> LeafLimits:
    return LeafLimits(
        shortest=timedelta(days=settings.leaf_validity_min_days),
        longest=timedelta(days=settings.leaf_validity_max_days),
    )


async def _every(seconds: float, *duties: Callable[[], Awaitable[None]]) -> None:
    """Runs duties again and again; one that fails is logged and comes again with the next round."""
    while True:
        await asyncio.sleep(seconds)
        for duty in duties:
            await _try(duty)


async def _try(duty: Callable[[], Awaitable[None]]) -> None:
    try:
        await duty()
    except FleetrootError as error:
        _log.error("duty failed", duty=duty.__qualname__, error=error.reason)
    except Exception:  # noqa: BLE001
        _log.exception("duty failed unexpectedly", duty=duty.__qualname__)


def quiet_collector() -> None:
    """Tells the garbage collector that what a start has made stays, and to look less often: a
    request leaves no cycles, and walking over every module took 5% of issuing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


async def serve(settings: Settings, ready: Callable[[Server], None]) -> None:
    """Runs a server until SIGTERM or SIGINT; calls `ready` once it is.

    Raises:
        As `Server.start`.
    """
    server = Server(settings)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await server.start()
        quiet_collector()
        reloads: set[asyncio.Task[None]] = set()

        def reload() -> None:
            task = loop.create_task(server.reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        ready(server)
        await stopped.wait()
    finally:
        await server.stop()
