"""What devices attest with, and the enrollments that know it."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import ssl
from enum import StrEnum
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.devices import Device
from bench.floor import client_context, to_pem
from bench.manufacturer import Manufacturer, self_signed
from bench.tpm import Tpm, new_token
from fleetroot import sas

_AT_ONCE: Final = 500  # enrollments of an import
_IMPORT: Final = "/fleetroot/provisioning-services/default/importEnrollments"


class Attestation(StrEnum):
    """How devices prove who they are. With an enrollment of its own each, but where it is said.

    `GROUP_KEY`: by a key that is derived from that of a group.
    `KEY`: by a key.
    `STORED_KEY`: by a key, with an enrollment of the large store.
    `CERTIFICATE`: by a self-signed certificate.
    `CHAIN`: by a certificate and its intermediate CA's, below the root of a group.
    `TPM`: by the two steps of a TPM.
    """

    GROUP_KEY = "group key"
    KEY = "key"
    STORED_KEY = "stored key"
    CERTIFICATE = "certificate"
    CHAIN = "chain"
    TPM = "tpm"


def stored_id(number: int) -> str:
    """The registration id of an enrollment of the large store; they sort in no order."""
    return f"press-{hmac.digest(b'bench', str(number).encode(), 'sha256').hex()[:16]}"


def stored_key(registration_id: str) -> bytes:
    """And its primary key."""
    return hmac.digest(b"bench key", registration_id.encode(), "sha256")


class Enroller:
    """Enrolls devices with one server, and gives them what they attest with."""

    def __init__(self, bootstrap: dict[str, Any], trust: str, attestation: Attestation) -> None:
        """
        Args:
            bootstrap: what the server's bootstrap file says.
            trust: the CAs (PEM) that devices and operators trust.
            attestation: of all devices.
        """
        self._bootstrap = bootstrap
        self._trust = trust
        self._attestation = attestation
        self._manufacturer = Manufacturer()
        self._tpm = Tpm() if attestation is Attestation.TPM else None
        if attestation is Attestation.CHAIN:
            self._enroll_group()

    def enroll(self, devices: list[Device]) -> None:
        """Gives each its credential, which the server knows from now on."""
        wanted = [(device.id, told) for device in devices if (told := self._equip(device))]
        if wanted:
            self._import(wanted)

    def _equip(self, device: Device) -> dict[str, Any] | None:
        """Gives a device its credential: the attestation of an enrollment of its own, if any."""
        match self._attestation:
            case Attestation.GROUP_KEY:
                group = base64.b64decode(self._bootstrap["enrollmentGroup"]["primaryKey"])
                key = sas.derive_device_key(group, device.id)
                device.token = new_token(device.resource, key)
            case Attestation.STORED_KEY:
                device.token = new_token(device.resource, stored_key(device.id))
            case Attestation.KEY:
                keys = {which: sas.new_key() for which in ("primaryKey", "secondaryKey")}
                device.token = new_token(device.resource, keys["primaryKey"])
                told = {which: sas.encode_key(key) for which, key in keys.items()}
                return {"type": "symmetricKey", "symmetricKey": told}
            case Attestation.CERTIFICATE:
                certificate = self_signed(device.id, device.key)
                device.onboarding = client_context(self._trust, to_pem(device.key, certificate))
                pair = {"primary": _shown(certificate)}
                return {"type": "x509", "x509": {"clientCertificates": pair}}
            case Attestation.CHAIN:
                chain = self._manufacturer.device(device.id, device.key)
                device.onboarding = client_context(self._trust, to_pem(device.key, *chain))
            case Attestation.TPM:
                assert self._tpm is not None
                device.tpm = self._tpm
                return {"type": "tpm", "tpm": {"endorsementKey": self._tpm.told["endorsementKey"]}}
        return None

    def _enroll_group(self) -> None:
        shown = {"signingCertificates": {"primary": _shown(self._manufacturer.root)}}
        body = {
            "credentialPolicyName": "default",
            "attestation": {"type": "x509", "x509": shown},
        }
        with operator(self._bootstrap, self._trust) as http:
            path = f"/enrollmentGroups/bench-{secrets.token_hex(6)}"
            http.put(path, json=body).raise_for_status()

    def _import(self, wanted: list[tuple[str, dict[str, Any]]]) -> None:
        rows = [
            {
                "registrationId": id_,
                "credentialPolicyName": "default",
                "attestation": attestation,
            }
            for id_, attestation in wanted
        ]
        with operator(self._bootstrap, self._trust) as http:
            for first in range(0, len(rows), _AT_ONCE):
                some = rows[first : first + _AT_ONCE]
                answer = http.post(_IMPORT, content=json.dumps({"enrollments": some}))
                answer.raise_for_status()
                assert answer.json()["created"] == len(some), answer.text[:500]


def operator(bootstrap: dict[str, Any], trust: str) -> httpx.Client:
    """Who may do everything on a server."""
    return httpx.Client(
        base_url=f"https://{bootstrap['bind']}:{bootstrap['httpsPort']}",
        headers={
            "authorization": f"Bearer {bootstrap['adminToken']}",
            "content-type": "application/json",
        },
        verify=ssl.create_default_context(cadata=trust),
        timeout=60,
    )


def _shown(certificate: x509.Certificate) -> dict[str, str]:
    return {"certificate": base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()}
