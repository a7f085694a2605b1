"""Renewal: a new key, and a certificate for it over the connection that the old one opened.

Source: Azure IoT Hub, certificate signing requests over MQTT (2025-08-01-preview).
"""

from __future__ import annotations

import json
from typing import Final
from uuid import uuid4

from fleetroot.agent.answer import Answer
from fleetroot.agent.client import Connection
from fleetroot.agent.credential import Credential, CredentialRequest
from fleetroot.agent.device import Device
from fleetroot.agent.errors import UnusableAnswer

_ANSWERS: Final = "$iothub/credentials/res/#"
_REQUEST: Final = "$iothub/credentials/POST/issueCertificate/"
_ISSUE_SECONDS: Final = 120.0  # from 202 to the certificate
_ACCEPTED: Final = 202
_CONFLICT: Final = 409


def renew(connection: Connection, device: Device) -> Credential:
    """Asks for a new certificate, and returns it with its key. The old one stays valid.

    A request that is still active is one of ours whose answer, and key, were lost: it is replaced.

    Raises:
        AgentError: there is no new certificate.
        Stopped: the bell said so.
    """
    connection.subscribe(_ANSWERS)
    request = CredentialRequest.make(device.onboarding.key_type, device.device_id)
    body = {"id": device.device_id, "csr": request.csr}
    answer = _ask(connection, body)
    if answer.status == _CONFLICT:
        answer = _ask(connection, body | {"replace": "*"})
    if answer.status != 200:
        raise answer.error("renewal")
    chain = answer.json().get("certificates")
    if not isinstance(chain, list):
        raise UnusableAnswer("the hub answered with no certificate")
    return request.fulfilled(chain)


def _ask(connection: Connection, body: dict[str, str]) -> Answer:
    """The final answer: the first, unless that says that the request is being worked on."""
    rid = str(uuid4())
    answer = connection.ask(f"{_REQUEST}?$rid={rid}", json.dumps(body).encode(), rid)
    if answer.status == _ACCEPTED:
        answer = connection.answer(rid, _ISSUE_SECONDS)
    return answer
