"""Devices of the load generator, and the two kinds of line that they have to a server."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bench.floor import client_context, make_csr, to_pem
from fleetroot import sas
from fleetroot.gateway.mqtt import (
    Connack,
    ConnackCode,
    Connect,
    Decoder,
    Packet,
    Publish,
    Suback,
    Subscribe,
    encode,
)

_API_VERSION = "2026-11-01"
_ANSWERS = "$dps/registrations/res/#"
_REGISTER = "$dps/registrations/PUT/iotdps-register/?$rid=1"


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server is dialled."""

    address: str
    port: int
    host_name: str


class ComeBack(Exception):
    """The server told a device to come back later.

    Attributes:
        seconds: after how long; None: it did not say.
    """

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(f"come back in {seconds} s")
        self.seconds = seconds


class Device:
    """One device: a key, a token and a CSR, made beforehand."""

    def __init__(
        self, bootstrap: dict[str, Any], device_id: str, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.id = device_id
        self.scope = bootstrap["provisioning"]["idScope"]
        self.hub = bootstrap["hub"]["hostName"]
        self.token = sas.sign_token(
            f"{self.scope}/registrations/{device_id}",
            sas.derive_device_key(
                base64.b64decode(bootstrap["enrollmentGroup"]["primaryKey"]), device_id
            ),
            datetime.now(UTC) + timedelta(hours=6),
        )
        self.body = json.dumps({"registrationId": device_id, "csr": make_csr(device_id, key)})
        self.context: ssl.SSLContext | None = None
        self._key = key

    def certify(self, state: dict[str, Any], trust: str) -> None:
        """Takes the operational certificate out of a registration; sends the leaf only."""
        leaf = x509.load_der_x509_certificate(base64.b64decode(state["issuedCertificateChain"][0]))
        self.context = client_context(trust, to_pem(self._key, leaf))


class ProvisioningLine(Protocol):
    """A connection on which a device registers, as often as it likes."""

    async def register(self, device: Device) -> dict[str, Any]:
        """The registration state."""
        ...

    def close(self) -> None: ...


class MqttLine:
    """A device's MQTT connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder(1024 * 1024)
        self._packets: list[Packet] = []

    @classmethod
    async def to_provisioning(
        cls, door: Door, context: ssl.SSLContext, device: Device, source: str | None = None
    ) -> MqttLine:
        """Connects, from an address of this machine, and subscribes to the answers."""
        line = cls(*await _dial(door, context, source))
        username = f"{device.scope}/registrations/{device.id}/api-version={_API_VERSION}"
        try:
            await line._connect(
                Connect(device.id, username=username, password=device.token.encode())
            )
            line._send(Subscribe(1, ((_ANSWERS, 0),)))
            assert isinstance(await line._receive(), Suback)
        except BaseException:  # a device that has lost patience hangs up
            line.close()
            raise
        return line

    @classmethod
    async def to_hub(cls, door: Door, device: Device) -> MqttLine:
        """Connects with the operational certificate; any broker takes this CONNECT."""
        assert device.context is not None
        line = cls(*await _dial(door, device.context))
        username = f"{device.hub}/{device.id}/?api-version=2025-08-01-preview"
        await line._connect(
            Connect(device.id, clean_session=True, keep_alive=1000, username=username)
        )
        return line

    async def register(self, device: Device) -> dict[str, Any]:
        self._send(Publish(_REGISTER, device.body.encode(), 0, False, False, None))
        answer = await self._receive()
        assert isinstance(answer, Publish)
        if "/res/429/" in answer.topic or "/res/503/" in answer.topic:
            raise ComeBack(float(answer.topic.rpartition("retry-after=")[2]))
        assert "/res/200/" in answer.topic, answer.payload
        state: dict[str, Any] = json.loads(answer.payload)["registrationState"]
        return state

    def close(self) -> None:
        self._writer.close()

    async def _connect(self, connect: Connect) -> None:
        self._send(connect)
        connack = await self._receive()
        assert isinstance(connack, Connack)
        if connack.code is ConnackCode.SERVER_UNAVAILABLE:
            raise ComeBack
        assert connack.code is ConnackCode.ACCEPTED, connack.code

    def _send(self, packet: Packet) -> None:
        self._writer.write(encode(packet))

    async def _receive(self) -> Packet:
        while not self._packets:
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._packets += self._decoder.feed(data)
        return self._packets.pop(0)


class HttpsLine:
    """A device's kept-alive HTTPS connection to the provisioning service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to_provisioning(
        cls, door: Door, context: ssl.SSLContext, _device: Device
    ) -> HttpsLine:
        """Connects; HTTP needs no more."""
        return cls(*await _dial(door, context))

    async def register(self, device: Device) -> dict[str, Any]:
        path = f"/{device.scope}/registrations/{device.id}/register?api-version={_API_VERSION}"
        self._writer.write(
            f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {device.token}\r\n"
            "Content-Type: application/json\r\nConnection: keep-alive\r\n"
            f"Content-Length: {len(device.body)}\r\n\r\n{device.body}".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self._reader.readexactly(int(fields["content-length"]))
        assert head[0].split()[1] == "200", (head[0], body)
        state: dict[str, Any] = json.loads(body)["registrationState"]
        return state

    def close(self) -> None:
        self._writer.close()


async def _dial(
    door: Door, context: ssl.SSLContext, source: str | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        door.address,
        door.port,
        ssl=context,
        server_hostname=door.host_name,
        limit=64 * 1024,
        local_addr=None if source is None else (source, 0),
    )
