"""Devices of the honest fleet, and of attackers who hold credentials of their own."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet import Mqtt, device_csr
from fleetroot import sas
from fleetroot.gateway.mqtt import Connect

REGISTER = "$dps/registrations/PUT/iotdps-register/"
ANSWERS = "$dps/registrations/res/#"


@dataclass(frozen=True)
class Place:
    """Where the server is, and from which address it is dialled."""

    bootstrap: dict[str, Any]
    source: str

    @property
    def mqtt(self) -> tuple[str, int]:
        return self.bootstrap["bind"], self.bootstrap["mqttPort"]

    @property
    def https(self) -> tuple[str, int]:
        return self.bootstrap["bind"], self.bootstrap["httpsPort"]

    @property
    def scope(self) -> str:
        return str(self.bootstrap["provisioning"]["idScope"])

    @property
    def hub(self) -> str:
        return str(self.bootstrap["hub"]["hostName"])

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.bootstrap["serverCaFile"])

    async def tcp(
        self, to: tuple[str, int] | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*(to or self.mqtt), local_addr=(self.source, 0))

    async def tls(
        self, context: ssl.SSLContext, to: tuple[str, int] | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = to or self.mqtt
        return await asyncio.open_connection(
            host,
            port,
            local_addr=(self.source, 0),
            ssl=context,
            server_hostname=self.bootstrap["hostname"],
        )

    async def provisioning(
        self, context: ssl.SSLContext, registration_id: str, token: bytes | None
    ) -> Mqtt:
        """A connection to the provisioning service, subscribed to its answers."""
        mqtt = Mqtt(*await self.tls(context))
        name = f"{self.scope}/registrations/{registration_id}/api-version=2026-11-01"
        await mqtt.connect(Connect(registration_id, username=name, password=token))
        await mqtt.subscribe(ANSWERS)
        return mqtt

    def token(self, registration_id: str, key: bytes | None = None) -> bytes:
        """A token for a registration id: by the group's key for it, or another."""
        group = base64.b64decode(self.bootstrap["enrollmentGroup"]["primaryKey"])
        return sas.sign_token(
            f"{self.scope}/registrations/{registration_id}",
            key or sas.derive_device_key(group, registration_id),
            datetime.now(UTC) + timedelta(hours=6),
        ).encode()


async def provision(place: Place, trust: ssl.SSLContext, device_id: str) -> ssl.SSLContext:
    """Provisions a device; a TLS context that shows its certificate."""
    key, csr = device_csr(device_id, curve=ec.SECP256R1())
    mqtt = await place.provisioning(trust, device_id, place.token(device_id))
    body = json.dumps({"registrationId": device_id, "csr": csr}).encode()
    answer = await mqtt.ask(REGISTER, body)
    await mqtt.close()
    assert answer.status == 200, answer.body
    leaf = base64.b64decode(answer.body["registrationState"]["issuedCertificateChain"][0])
    context = place.trust()
    pem = x509.load_der_x509_certificate(leaf).public_bytes(Encoding.PEM)
    pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def connect(place: Place, context: ssl.SSLContext, device_id: str) -> Mqtt:
    """Connects a device to the hub."""
    mqtt = Mqtt(*await place.tls(context))
    name = f"{place.hub}/{device_id}/?api-version=2021-04-12"
    try:
        await mqtt.connect(Connect(device_id, clean_session=True, keep_alive=600, username=name))
    except BaseException:
        mqtt.writer.transport.abort()
        raise
    return mqtt
