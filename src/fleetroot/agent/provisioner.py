"""Provisioning: with the onboarding credential, to a hub and an operational certificate.

Source: Azure DPS, "Communicate with DPS using MQTT", api-version 2026-11-01.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from fleetroot import sas
from fleetroot.agent.answer import Answer, one_line
from fleetroot.agent.backoff import Backoff
from fleetroot.agent.bell import Bell
from fleetroot.agent.client import Connection, Login
from fleetroot.agent.credential import CredentialRequest
from fleetroot.agent.device import Device, Onboarding
from fleetroot.agent.errors import (
    AgentError,
    CredentialRefused,
    RequestRefused,
    Stopped,
    Transient,
    UnusableAnswer,
)
from fleetroot.agent.report import Happening, Reporter
from fleetroot.agent.tls import make_context
from fleetroot.clock import Clock

API_VERSION: Final = "2026-11-01"
TIMEOUT_SECONDS: Final = 60.0
_ANSWERS: Final = "$dps/registrations/res/#"
_REGISTER: Final = "$dps/registrations/PUT/iotdps-register/"
_OPERATION: Final = "$dps/registrations/GET/iotdps-get-operationstatus/"
_TOKEN_LIFETIME: Final = timedelta(hours=1)
_POLL_SECONDS: Final = 2.0  # where the service does not say
_KEY_NAME: Final = "registration"


class Provisioner:
    """Provisions one device."""

    def __init__(
        self, onboarding: Onboarding, clock: Clock, bell: Bell, reporter: Reporter
    ) -> None:
        self._onboarding = onboarding
        self._clock = clock
        self._bell = bell
        self._reporter = reporter

    def provision(self, timeout: float, backoff: Backoff) -> Device:
        """Provisions, trying again after what passes by itself for up to `timeout` seconds.

        Raises:
            AgentError: the last failure, or one that trying again cannot mend.
            Stopped: the bell said so.
        """
        end = self._clock.monotonic() + timeout
        while True:
            try:
                return self.attempt(max(end - self._clock.monotonic(), 0.0))
            except Transient as failure:
                seconds = backoff.next(failure.retry_after)
                if self._clock.monotonic() + seconds >= end:
                    raise
                self._reporter.tell(
                    Happening.WAITING, f"{seconds:.1f} s: {failure.message}", seconds=seconds
                )
            self._bell.pause(seconds)
            if self._bell.stopped:
                raise Stopped

    def attempt(self, timeout: float = TIMEOUT_SECONDS) -> Device:
        """Provisions once. The service may take `timeout` seconds to assign a hub.

        Raises:
            Transient: trying again may help.
            CredentialRefused, RequestRefused: the service does not provision this device.
            AgentError: anything else that an operator must see to.
            Stopped: the bell said so.
        """
        onboarding = self._onboarding
        if onboarding.symmetric_key is None:
            raise AgentError("there is no symmetric key to provision with")
        self._reporter.tell(
            Happening.PROVISIONING,
            f"{onboarding.registration_id} at {onboarding.endpoint}",
            registrationId=onboarding.registration_id,
            host=onboarding.host,
        )
        request = CredentialRequest.make(onboarding.key_type, onboarding.registration_id)
        connection = self._connect(onboarding.symmetric_key)
        try:
            connection.open()
            connection.subscribe(_ANSWERS)
            state = self._register(connection, request.csr, timeout)
        except CredentialRefused as refused:
            raise CredentialRefused(f"provisioning is refused: {refused.message}") from refused
        finally:
            connection.close()
        return self._device(state, request)

    def _connect(self, key: bytes) -> Connection:
        onboarding = self._onboarding
        resource = f"{onboarding.id_scope}/registrations/{onboarding.registration_id}"
        login = Login(
            client_id=onboarding.registration_id,
            username=f"{resource}/api-version={API_VERSION}",
            password=sas.sign_token(resource, key, self._clock.now() + _TOKEN_LIFETIME, _KEY_NAME),
        )
        context = make_context(onboarding.host, onboarding.ca)
        return Connection(onboarding.endpoint, context, login, self._bell)

    def _register(self, connection: Connection, csr: str, timeout: float) -> dict[str, Any]:
        """The registration's state, once it is assigned."""
        end = self._clock.monotonic() + timeout
        body = {"registrationId": self._onboarding.registration_id, "csr": csr}
        rid = str(uuid4())
        answer = connection.ask(f"{_REGISTER}?$rid={rid}", json.dumps(body).encode(), rid)
        while True:
            status = _check(answer)
            word = status.get("status")
            if word == "assigned":
                state = status.get("registrationState")
                if not isinstance(state, dict):
                    raise UnusableAnswer("the service assigned a hub and does not say which")
                return state
            if word not in ("assigning", "unassigned"):
                raise _failed(status)
            seconds = answer.retry_after or _POLL_SECONDS
            if self._clock.monotonic() + seconds > end:
                raise AgentError(f"the service assigned no hub in {timeout:.0f} s")
            self._bell.pause(seconds)
            if self._bell.stopped:
                raise Stopped
            rid = str(uuid4())
            operation = quote(str(status.get("operationId", "")), safe="")
            answer = connection.ask(f"{_OPERATION}?$rid={rid}&operationId={operation}", b"", rid)

    def _device(self, state: dict[str, Any], request: CredentialRequest) -> Device:
        hub, device_id = state.get("assignedHub"), state.get("deviceId")
        chain = state.get("issuedCertificateChain")
        if not (isinstance(hub, str) and hub and isinstance(device_id, str) and device_id):
            raise UnusableAnswer("the service assigned a hub and does not say which")
        if not chain:
            raise AgentError(
                f"the service assigned {hub} and issued no certificate: "
                "the enrollment names no policy"
            )
        if not isinstance(chain, list):
            raise UnusableAnswer("the server answered with no readable certificate")
        device = Device(
            onboarding=self._onboarding,
            hub=hub,
            device_id=device_id,
            credential=request.fulfilled(chain),
            obtained_at=self._clock.now(),
        )
        self._reporter.tell(
            Happening.PROVISIONED,
            f"{device_id} to {hub}, certificate until {device.credential.not_after:%Y-%m-%d}",
            deviceId=device_id,
            assignedHub=hub,
            **device.credential.described(),
        )
        return device


def _check(answer: Answer) -> dict[str, Any]:
    """The body of an answer that went well.

    Raises:
        ServerBusy: 429 or 5xx.
        RequestRefused: another 4xx.
        UnusableAnswer: nothing that the protocol knows.
    """
    if answer.status in (200, 202):
        return answer.json()
    raise answer.error("provisioning")


def _failed(status: dict[str, Any]) -> AgentError:
    """A registration that ended without a hub."""
    state = status.get("registrationState")
    state = state if isinstance(state, dict) else {}
    message = state.get("errorMessage") or f"the registration is {status.get('status')}"
    return RequestRefused(f"provisioning is refused: {one_line(message)}", status=400)
