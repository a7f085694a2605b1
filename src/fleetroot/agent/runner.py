"""A device at work: connect, report, send, renew, and come back after whatever happened.

    ┌─▶ CONNECTING ──accepted──▶ WORKING ──renewed──▶ CONNECTING, with the new certificate
    │     │      │                  │
    │  refused  failed             lost
    │     │      └────────┐         │
    │     ▼               ▼         ▼
    │ PROVISIONING ──failed──▶ WAITING ──▶ CONNECTING
    │     │
    └───done

Rule 1: only a refusal of the certificate leads to PROVISIONING: CONNACK 4 or 5, or a second TLS
alert since the hub last accepted it. A network that is down, a server that is busy (CONNACK 3) or
one that is not trusted says nothing about the certificate, and leads to WAITING.

Rule 2: every failure is followed by WAITING, which grows while failures follow each other, and
starts anew when a connection has stood for as long as the longest wait. The one way around it is a
new certificate, and that once: a credential that was refused before it was ever accepted is not
replaced before a wait.

Rule 3: a renewal that fails leaves the connection alone. The old certificate has a third of its
life left, so renewal has waits of its own, up to an hour.

Rule 4: a new credential is durable in the folder before it is used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from fleetroot.agent.backoff import LONGEST_SECONDS, Backoff
from fleetroot.agent.bell import Bell
from fleetroot.agent.client import Connection, Login
from fleetroot.agent.device import Device
from fleetroot.agent.errors import (
    AgentError,
    ConnectionLost,
    CredentialRefused,
    RequestRefused,
    ServerBusy,
    Stopped,
    Unreachable,
)
from fleetroot.agent.provisioner import Provisioner
from fleetroot.agent.renewal import renew
from fleetroot.agent.report import Happening, Reporter
from fleetroot.agent.state import DeviceFolder
from fleetroot.agent.tls import Endpoint, make_context
from fleetroot.clock import Clock, iso8601

API_VERSION: Final = "2025-08-01-preview"  # the one that renews
RENEW_AT: Final = 2 / 3
_TWIN_ANSWERS: Final = "$iothub/twin/res/#"
_REPORTED: Final = "$iothub/twin/PATCH/properties/reported/"
_RENEWAL_WAIT: Final = 3600.0
_LOOK_AGAIN: Final = 300.0  # at the wall clock, which a suspended machine moves unseen


@dataclass(frozen=True, slots=True)
class Settings:
    """How a device works.

    Attributes:
        renew_at: fraction of a certificate's lifetime after which it is renewed.
        telemetry_interval: seconds between heartbeats; None: none.
        longest_wait: seconds between attempts, at most.
        hub_address: what is dialled, and the port, instead of the hub's own name.
        renew_now: renew on the first connection, due or not.
    """

    renew_at: float = RENEW_AT
    telemetry_interval: float | None = None
    longest_wait: float = LONGEST_SECONDS
    hub_address: tuple[str, int | None] | None = None
    renew_now: bool = False


class Runner:
    """Runs the device of one folder, whose lock the caller holds."""

    def __init__(
        self,
        folder: DeviceFolder,
        settings: Settings,
        clock: Clock,
        bell: Bell,
        reporter: Reporter,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._bell = bell
        self._reporter = reporter
        self._device = folder.load()
        self._backoff = Backoff(settings.longest_wait)
        self._renewal_backoff = Backoff(max(settings.longest_wait, _RENEWAL_WAIT))
        self._renew_now = settings.renew_now
        self._try_renewal_at = 0.0  # on the monotonic clock
        self._unproven = False  # the credential is new, and no hub has accepted it yet
        self._alerts = 0  # TLS alerts since a hub accepted it

    def run(self) -> None:
        """Works until the bell says stop."""
        try:
            while not self._bell.stopped:
                try:
                    self._session()
                except CredentialRefused as refused:
                    self._refused(refused)
                except AgentError as failure:
                    self._wait(failure)
        except Stopped:
            pass
        self._reporter.tell(Happening.STOPPED, "told to")

    def run_once(self) -> None:
        """Connects, reports, sends a heartbeat if they are on, renews if it is time, and is done. A
        refused certificate is replaced; every other failure is the end.

        Raises:
            AgentError: it could not do all of that.
            Stopped: the bell said so.
        """
        done = False
        while not done:
            try:
                done = self._session(once=True)
            except CredentialRefused as refused:
                if self._unproven or self._device.onboarding.symmetric_key is None:
                    raise
                self._reporter.tell(Happening.REFUSED, refused.message)
                self._provision()

    # --- one connection

    def _session(self, *, once: bool = False) -> bool:
        """One connection to the hub, from CONNECT to its end. Returns True when there is nothing
        more to do, False to connect again (with a new certificate).
        """
        connection = self._connection()
        try:
            connection.open()
            self._accepted()
            self._report_certificate(connection)
            return self._work(connection, once=once)
        finally:
            connection.close()

    def _connection(self) -> Connection:
        device, settings = self._device, self._settings
        address, port = settings.hub_address or (device.hub, None)
        endpoint = Endpoint(device.hub, address, port or device.onboarding.port)
        context = make_context(device.hub, device.onboarding.ca)
        self._folder.load_into(context)
        login = Login(
            client_id=device.device_id,
            username=f"{device.hub}/{device.device_id}/?api-version={API_VERSION}",
            clean_session=False,
        )
        return Connection(endpoint, context, login, self._bell)

    def _accepted(self) -> None:
        device = self._device
        self._unproven = False
        self._alerts = 0
        self._reporter.tell(
            Happening.CONNECTED,
            f"{device.device_id} to {device.hub}, certificate {device.credential.sha256[:16]}",
            deviceId=device.device_id,
            hub=device.hub,
            sha256=device.credential.sha256,
        )

    def _report_certificate(self, connection: Connection) -> None:
        """Reports the certificate's dates in the twin. A hub that does not take them is no reason
        not to work.
        """
        described = self._device.credential.described()
        rid = str(uuid4())
        patch = json.dumps({"certificate": described}).encode()
        try:
            connection.subscribe(_TWIN_ANSWERS, qos=0)
            answer = connection.ask(f"{_REPORTED}?$rid={rid}", patch, rid)
            if answer.status not in (200, 204):
                raise answer.error("the report")
        except (RequestRefused, ServerBusy, Unreachable) as failure:
            self._reporter.tell(Happening.FAILED, failure.message)
            return
        self._reporter.tell(
            Happening.REPORTED,
            f"the certificate's dates, {described['notBefore']} to {described['notAfter']}",
            **described,
        )

    def _work(self, connection: Connection, *, once: bool) -> bool:
        """Sends and renews until there is nothing more to do (True), or a new certificate (False).

        Raises:
            ConnectionLost: the connection is over.
        """
        began = heartbeat = self._clock.monotonic()
        interval = self._settings.telemetry_interval
        while not self._bell.stopped:
            now = self._clock.monotonic()
            if now - began >= self._settings.longest_wait:
                self._backoff.reset()
            connection.check()
            if interval is not None and now >= heartbeat:
                self._send_heartbeat(connection)
                heartbeat = now + interval
            if self._renewal_in() <= 0 and self._renew(connection, once=once):
                return False
            if once:
                return True
            until_heartbeat = _LOOK_AGAIN if interval is None else heartbeat - now
            self._bell.watch(min(until_heartbeat, max(self._renewal_in(), 0.0), _LOOK_AGAIN))
        return True

    def _send_heartbeat(self, connection: Connection) -> None:
        device = self._device
        topic = (
            f"devices/{device.device_id}/messages/events/"
            "%24.ct=application%2Fjson&%24.ce=utf-8&kind=heartbeat"
        )
        body = {
            "at": iso8601(self._clock.now()),
            "certificate": {"notAfter": iso8601(device.credential.not_after)},
        }
        connection.publish(topic, json.dumps(body).encode())
        self._reporter.tell(Happening.SENT, "a heartbeat")

    # --- new certificates

    def _renewal_in(self) -> float:
        """Seconds until the next renewal is to be tried."""
        wait = self._try_renewal_at - self._clock.monotonic()
        if self._renew_now:
            return wait
        due = self._device.renew_at(self._settings.renew_at)
        return max((due - self._clock.now()).total_seconds(), wait)

    def _renew(self, connection: Connection, *, once: bool) -> bool:
        """Renews; whether there is a new certificate."""
        self._reporter.tell(
            Happening.RENEWING,
            f"the certificate until {self._device.credential.not_after:%Y-%m-%d}",
        )
        try:
            credential = renew(connection, self._device)
            self._keep(self._device.renewed(credential, self._clock.now()))
        except ConnectionLost:
            raise
        except AgentError as failure:
            if once:
                raise
            seconds = self._renewal_backoff.next(failure.retry_after)
            self._try_renewal_at = self._clock.monotonic() + seconds
            self._reporter.tell(
                Happening.FAILED,
                f"{failure.message}; the next renewal is tried in {seconds:.1f} s",
                seconds=seconds,
            )
            return False
        self._renewal_backoff.reset()
        self._renew_now = False
        self._reporter.tell(
            Happening.RENEWED,
            f"certificate {credential.sha256[:16]} until {credential.not_after:%Y-%m-%d}",
            **credential.described(),
        )
        return True

    def _provision(self) -> None:
        """Provisions again.

        Raises:
            AgentError: it is not to be, now.
        """
        onboarding = self._device.onboarding
        provisioner = Provisioner(onboarding, self._clock, self._bell, self._reporter)
        self._keep(provisioner.attempt())

    def _keep(self, device: Device) -> None:
        self._folder.store(device)
        self._device = device
        self._unproven = True

    # --- failures

    def _refused(self, refused: CredentialRefused) -> None:
        """The hub does not accept the certificate: replace it, by the rules at the top."""
        self._reporter.tell(Happening.REFUSED, refused.message)
        if refused.in_handshake:
            self._alerts += 1
            if self._alerts == 1:
                self._wait(refused)
                return
        if self._unproven or self._device.onboarding.symmetric_key is None:
            self._wait(refused)
        if self._device.onboarding.symmetric_key is None or self._bell.stopped:
            return
        try:
            self._provision()
        except AgentError as failure:
            self._wait(failure)

    def _wait(self, failure: AgentError) -> None:
        if isinstance(failure, ConnectionLost):
            self._reporter.tell(Happening.LOST, failure.message)
        seconds = self._backoff.next(failure.retry_after)
        self._reporter.tell(
            Happening.WAITING, f"{seconds:.1f} s: {failure.message}", seconds=seconds
        )
        self._bell.pause(seconds)
