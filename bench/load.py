"""The load generator: devices, in a process of their own, so that the server's CPU is its own.

It is told on its command line what to do, prints a JSON line when it is ready, waits for a line on
stdin, does it, and prints what it did. What devices prepare beforehand (keys, CSRs, tokens) is
prepared before it says that it is ready.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.floor import make_csr
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

_CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
_ANSWERS = "$dps/registrations/res/#"
_REGISTER = "$dps/registrations/PUT/iotdps-register/?$rid=1"


@dataclass(frozen=True)
class Order:
    """What to do: `onboard` (TLS, attestation, CSR, certificate), `issue` (the same over kept
    connections, many times), `connect` (TLS with an operational certificate, CONNECT), `idle` (the
    same, and stay)."""

    job: str
    bootstrap: dict[str, Any]
    curve: str
    prefix: str
    devices: int
    at_once: int
    times: int = 1


class Device:
    """One device: a key, a token and a CSR, made beforehand."""

    def __init__(self, order: Order, number: int, key: ec.EllipticCurvePrivateKey) -> None:
        self.id = f"{order.prefix}-{number}"
        self.key = key
        scope = order.bootstrap["provisioning"]["idScope"]
        group = base64.b64decode(order.bootstrap["enrollmentGroup"]["primaryKey"])
        self.username = f"{scope}/registrations/{self.id}/api-version=2026-11-01"
        self.token = sas.sign_token(
            f"{scope}/registrations/{self.id}",
            sas.derive_device_key(group, self.id),
            datetime.now(UTC) + timedelta(hours=6),
        ).encode()
        self.body = json.dumps({"registrationId": self.id, "csr": make_csr(self.id, key)}).encode()
        self.context: ssl.SSLContext | None = None


class Line:
    """A device's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._decoder = Decoder(1024 * 1024)
        self._packets: list[Packet] = []

    @classmethod
    async def open(cls, bootstrap: dict[str, Any], context: ssl.SSLContext) -> Line:
        return cls(
            *await asyncio.open_connection(
                bootstrap["bind"],
                bootstrap["mqttPort"],
                ssl=context,
                server_hostname=bootstrap["hostname"],
                limit=4096,
            )
        )

    def send(self, packet: Packet) -> None:
        self.writer.write(encode(packet))

    async def receive(self) -> Packet:
        while not self._packets:
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._packets += self._decoder.feed(data)
        return self._packets.pop(0)

    async def connect(self, connect: Connect) -> None:
        self.send(connect)
        connack = await self.receive()
        assert isinstance(connack, Connack)
        assert connack.code is ConnackCode.ACCEPTED, connack.code

    async def register(self, device: Device) -> dict[str, Any]:
        self.send(Publish(_REGISTER, device.body, 0, False, False, None))
        answer = await self.receive()
        assert isinstance(answer, Publish)
        assert "/res/200/" in answer.topic, answer.payload
        state: dict[str, Any] = json.loads(answer.payload)["registrationState"]
        return state


class Load:
    """Carries out an order."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.trust = ssl.create_default_context(cafile=order.bootstrap["serverCaFile"])
        key = ec.generate_private_key(_CURVES[order.curve])
        self.devices = [Device(order, number, key) for number in range(order.devices)]
        self.lines: list[Line] = []

    async def prepare(self) -> None:
        if self.order.job == "issue":
            self.lines = [await self._provisioning(device) for device in self.devices]
        elif self.order.job in ("connect", "idle"):
            await self._each(self._get_certificate)

    async def _provisioning(self, device: Device) -> Line:
        line = await Line.open(self.order.bootstrap, self.trust)
        await line.connect(Connect(device.id, username=device.username, password=device.token))
        line.send(Subscribe(1, ((_ANSWERS, 0),)))
        assert isinstance(await line.receive(), Suback)
        return line

    async def _onboard(self, device: Device) -> dict[str, Any]:
        line = await self._provisioning(device)
        state = await line.register(device)
        line.writer.close()
        return state

    async def _get_certificate(self, device: Device) -> None:
        state = await self._onboard(device)
        context = ssl.create_default_context(cafile=self.order.bootstrap["serverCaFile"])
        pem = device.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        leaf = base64.b64decode(state["issuedCertificateChain"][0])
        pem += x509.load_der_x509_certificate(leaf).public_bytes(Encoding.PEM)
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
        device.context = context

    async def _connect(self, device: Device) -> Line:
        assert device.context is not None
        host = self.order.bootstrap["hub"]["hostName"]
        line = await Line.open(self.order.bootstrap, device.context)
        await line.connect(
            Connect(
                device.id,
                clean_session=True,
                keep_alive=1000,
                username=f"{host}/{device.id}/?api-version=2025-08-01-preview",
            )
        )
        return line

    async def _connect_and_leave(self, device: Device) -> None:
        line = await self._connect(device)
        line.writer.close()

    async def _stay(self, device: Device) -> None:
        self.lines.append(await self._connect(device))

    async def _each(self, work: Any) -> list[float]:
        """Does `work` for every device, so many at once; the seconds that each took."""
        left = list(reversed(self.devices))
        took: list[float] = []

        async def worker() -> None:
            while left:
                device = left.pop()
                start = time.perf_counter()
                await work(device)
                took.append(time.perf_counter() - start)

        await asyncio.gather(*(worker() for _ in range(self.order.at_once)))
        return took

    async def carry_out(self) -> dict[str, Any]:
        start = time.perf_counter()
        match self.order.job:
            case "onboard":
                took = await self._each(self._onboard)
            case "connect":
                took = await self._each(self._connect_and_leave)
            case "idle":
                took = await self._each(self._stay)
            case "issue":
                took = []
                for _ in range(self.order.times):
                    took += await self._issue_once()
            case job:
                raise ValueError(job)
        took.sort()
        return {
            "count": len(took),
            "seconds": time.perf_counter() - start,
            "p50": took[len(took) // 2],
            "p99": took[int(len(took) * 0.99)],
        }

    async def _issue_once(self) -> list[float]:
        took: list[float] = []

        async def one(device: Device, line: Line) -> None:
            start = time.perf_counter()
            await line.register(device)
            took.append(time.perf_counter() - start)

        await asyncio.gather(*(one(*pair) for pair in zip(self.devices, self.lines, strict=True)))
        return took


async def _main() -> None:
    order = json.loads(sys.argv[1])
    order["bootstrap"] = json.loads(Path(order["bootstrap"]).read_text())
    load = Load(Order(**order))
    await load.prepare()
    print(json.dumps({"ready": True}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "stop":
            return
        print(json.dumps(await load.carry_out()), flush=True)


if __name__ == "__main__":
    uvloop.run(_main())
