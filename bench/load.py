"""The load generator: devices, in a process of their own, so that the server's CPU is its own.

Its order is on its command line. Then a line on stdin says what is next, and a line on stdout that
it is done: `prepare` makes what devices have beforehand (keys, CSRs, tokens, certificates, kept
connections), `go` does the work and answers with what it did, the end of stdin is its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any

import uvloop
from cryptography.hazmat.primitives.asymmetric import ec

from bench.credentials import Attestation, Enroller, stored_id
from bench.devices import ComeBack, Device, Door, HttpsLine, MqttLine, ProvisioningLine, publish_all
from bench.floor import CURVES, client_context
from bench.service_line import ServiceLine

_PATIENCE = 30.0  # seconds of one attempt of a device of a herd, as SDKs have it
_LONGEST = 30.0  # that it waits before the next
_GIVE_UP = 600.0
_AT_ONCE = 64  # messages that nobody acknowledged yet
_MOST_STORED = 100_000  # of a large store's enrollments, whose devices come


class Job(StrEnum):
    """What devices do.

    `ONBOARD`: TLS, attestation, CSR, certificate; every device once.
    `HERD`: the same over MQTT, all of them at once, each until it is in.
    `ISSUE`: the same over kept connections, again and again.
    `CONNECT`: TLS with an operational certificate, CONNECT to the hub, leave.
    `IDLE`: the same, and stay.
    `LISTEN`: stay connected, and acknowledge so many messages together.
    `PUBLISH`: stay connected, and send so many messages together.
    `PING`: stay connected, and say so, so many times together.
    `REPORT`: stay connected, and report so many patches together.
    `METHODS`: stay connected, and answer so many calls together, which services make over HTTPS.
    """

    ONBOARD = "onboard"
    HERD = "herd"
    ISSUE = "issue"
    CONNECT = "connect"
    IDLE = "idle"
    LISTEN = "listen"
    PUBLISH = "publish"
    PING = "ping"
    REPORT = "report"
    METHODS = "methods"


class Wire(StrEnum):
    """How devices speak to the provisioning service."""

    MQTT = "MQTT"
    WEBSOCKET = "WebSocket"
    HTTPS = "HTTPS"


@dataclass(frozen=True, slots=True)
class Order:
    """What to do.

    Attributes:
        bootstrap: the server's bootstrap file.
        curve: of the devices' keys.
        devices: how many there are.
        at_once: how many are at work at a time.
        times: how often each registers, on a kept line; of those that stay, messages or calls
            together.
        addresses: that a herd comes from.
        wire: to the provisioning service.
        attestation: of the devices.
        stored: enrollments of the store, of which devices with a `STORED_KEY` have one each.
        broker: connect to this port instead of the hub; another broker with the same devices.
        broker_trust: the CA (PEM) of that broker.
        plain: of devices that listen, send them their messages by this port of that broker.
    """

    job: Job
    bootstrap: str
    curve: str
    devices: int
    at_once: int = 32
    times: int = 1
    addresses: int = 1
    wire: Wire = Wire.MQTT
    attestation: Attestation = Attestation.GROUP_KEY
    stored: int = 0
    broker: int | None = None
    broker_trust: str = ""
    plain: int | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Order:
        """What `to_json` made."""
        fields = json.loads(text)
        for name, kind in (("job", Job), ("wire", Wire), ("attestation", Attestation)):
            fields[name] = kind(fields[name])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Done:
    """What was done.

    Attributes:
        count: operations.
        seconds: wall clock for all of them.
        p50: median seconds that one took.
        p99: and what 99 of 100 took at most.
        retries: how often devices of a herd came back.
    """

    count: int
    seconds: float
    p50: float
    p99: float
    retries: int = 0


class Load:
    """Carries out an order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._bootstrap: dict[str, Any] = json.loads(Path(order.bootstrap).read_text())
        self._trust = Path(self._bootstrap["serverCaFile"]).read_text() + order.broker_trust
        self._key = ec.generate_private_key(CURVES[order.curve])
        self._stranger = client_context(self._trust)  # a device without a certificate
        self._enroller = Enroller(self._bootstrap, self._trust, order.attestation)
        some = range(order.stored)
        self._stored = random.sample(some, min(order.stored, _MOST_STORED))
        self._devices: list[Device] = []
        self._lines: list[tuple[Device, ProvisioningLine]] = []
        self._stayed: list[MqttLine] = []
        self._services: list[ServiceLine] = []
        self._retries = 0

    async def prepare(self) -> None:
        """Makes what the next `carry_out` needs."""
        order = self._order
        if self._devices and order.job not in (Job.ONBOARD, Job.HERD):
            return
        self._devices = [
            Device(self._bootstrap, id_, self._key, self._stranger) for id_ in self._new_ids()
        ]
        self._enroller.enroll(self._devices)
        match order.job:
            case Job.ISSUE:
                for device in self._devices:
                    self._lines.append((device, await self._provisioning(device)))
            case Job.CONNECT | Job.IDLE:
                await self._each(self._get_certificate)
            case Job.PUBLISH | Job.REPORT | Job.PING:
                await self._each(self._get_certificate)
                await self._each(self._stay)
            case Job.LISTEN:
                await self._each(self._get_certificate)
                await self._each(self._stay)
                await asyncio.gather(*(line.listen() for line in self._stayed))
            case Job.METHODS:
                await self._each(self._get_certificate)
                await self._each(self._stay)
                await asyncio.gather(*(line.listen_to_methods() for line in self._stayed))
                for _ in range(order.at_once):
                    line = await ServiceLine.open(self._https, self._trust, self._bootstrap)
                    self._services.append(line)
            case Job.ONBOARD | Job.HERD:
                pass

    def _new_ids(self) -> list[str]:
        """Registration ids of devices that never came."""
        devices = self._order.devices
        if self._order.attestation is Attestation.STORED_KEY:
            return [stored_id(self._stored.pop()) for _ in range(devices)]
        tag = secrets.token_hex(6)  # the store may remember the devices of an earlier run
        return [f"{tag}-{number}" for number in range(devices)]

    async def carry_out(self, per_second: float | None) -> Done:
        """Does the job once over: as fast as `at_once` allows, or with so many arrivals a second,
        however many are at work then.
        """
        start = time.perf_counter()
        match self._order.job:
            case Job.ONBOARD if per_second is not None:
                took = await self._arrive(self._onboard, per_second)
            case Job.ONBOARD:
                took = await self._each(self._onboard)
            case Job.HERD:
                took = await self._stampede()
            case Job.CONNECT:
                took = await self._each(self._connect_and_leave)
            case Job.IDLE:
                took = await self._each(self._stay)
            case Job.LISTEN:
                took = await self._listen()
            case Job.PUBLISH:
                took = await self._ask_all(MqttLine.publish)
            case Job.PING:
                took = await self._ask_all(MqttLine.ping)
            case Job.REPORT:
                took = await self._ask_all(MqttLine.report)
            case Job.METHODS:
                took = await self._call()
            case Job.ISSUE:
                took = []
                for _ in range(self._order.times):
                    took += await asyncio.gather(*(self._issue(*each) for each in self._lines))
        seconds = time.perf_counter() - start
        took.sort()
        return Done(
            len(took), seconds, took[len(took) // 2], took[int(len(took) * 0.99)], self._retries
        )

    async def _each(self, work: Callable[[Device], Awaitable[object]]) -> list[float]:
        """Does `work` for every device, so many at once; the seconds that each took."""
        left = list(reversed(self._devices))
        took: list[float] = []

        async def worker() -> None:
            while left:
                device = left.pop()
                start = time.perf_counter()
                await work(device)
                took.append(time.perf_counter() - start)

        await asyncio.gather(*(worker() for _ in range(self._order.at_once)))
        return took

    async def _arrive(
        self, work: Callable[[Device], Awaitable[object]], per_second: float
    ) -> list[float]:
        """Starts `work` for every device at its time; the seconds from then, whenever it began."""
        begin = time.perf_counter()

        async def arrival(number: int, device: Device) -> float:
            due = begin + number / per_second
            await asyncio.sleep(due - time.perf_counter())
            await work(device)
            return time.perf_counter() - due

        return await asyncio.gather(*(arrival(*each) for each in enumerate(self._devices)))

    async def _stampede(self) -> list[float]:
        """All devices at once; the seconds from then until each of those that got in was in."""
        # A handshake that was cut is told twice: by the attempt, and by a future of the loop's own.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        begin, self._retries = time.perf_counter(), 0

        async def until_in(number: int, device: Device) -> float | None:
            place = number % self._order.addresses
            source = f"127.{1 + place // 64516}.{1 + place // 254 % 254}.{1 + place % 254}"
            for attempt in count():
                try:
                    async with asyncio.timeout(_PATIENCE):
                        line = await MqttLine.to_provisioning(self._mqtt, device, source)
                        try:
                            await line.register(device)
                        finally:
                            line.close()
                except (OSError, TimeoutError, ComeBack) as error:
                    if time.perf_counter() - begin > _GIVE_UP:
                        return None
                    told = error.seconds if isinstance(error, ComeBack) else None
                    back_off = random.uniform(0.5, 1) * min(2.0**attempt, _LONGEST)
                    self._retries += 1
                    await asyncio.sleep(max(told or 0.0, back_off))
                else:
                    return time.perf_counter() - begin
            raise AssertionError  # there is always one more attempt

        came = await asyncio.gather(*(until_in(*each) for each in enumerate(self._devices)))
        return [seconds for seconds in came if seconds is not None]

    async def _issue(self, device: Device, line: ProvisioningLine) -> float:
        start = time.perf_counter()
        await line.register(device)
        return time.perf_counter() - start

    async def _onboard(self, device: Device) -> dict[str, Any]:
        line = await self._provisioning(device)
        state = await line.register(device)
        line.close()
        return state

    async def _provisioning(self, device: Device) -> ProvisioningLine:
        match self._order.wire:
            case Wire.MQTT:
                return await MqttLine.to_provisioning(self._mqtt, device)
            case Wire.WEBSOCKET:
                return await MqttLine.over_websocket(self._https, device)
            case Wire.HTTPS:
                return await HttpsLine.to_provisioning(self._https, device)

    async def _get_certificate(self, device: Device) -> None:
        device.certify(await self._onboard(device), self._trust)

    async def _connect_and_leave(self, device: Device) -> None:
        (await MqttLine.to_hub(self._hub, device)).close()

    async def _listen(self) -> list[float]:
        """Acknowledges messages; the seconds from the start until each of them was here."""
        start, took = time.perf_counter(), list[float]()

        async def acknowledge(line: MqttLine) -> None:
            while True:
                await line.acknowledge()
                took.append(time.perf_counter() - start)
                if len(took) == self._order.times:
                    done.set()

        done = asyncio.Event()
        lines = [asyncio.create_task(acknowledge(line)) for line in self._stayed]
        if self._order.plain is not None:
            topics = [f"devices/{device.id}/messages/devicebound/" for device in self._devices]
            await publish_all(self._order.plain, topics, self._order.times, _AT_ONCE)
        await done.wait()
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        return took

    async def _ask_all(
        self, ask: Callable[[MqttLine, int, int], Awaitable[list[float]]]
    ) -> list[float]:
        """Every device asks its share, so many at once together; the seconds that each took."""
        lines = self._stayed
        share, window = self._order.times // len(lines), max(1, _AT_ONCE // len(lines))
        took = await asyncio.gather(*(ask(line, share, window) for line in lines))
        return [seconds for of_line in took for seconds in of_line]

    async def _call(self) -> list[float]:
        """Calls the devices in turn, each service one at a time; the seconds of each call."""
        took = list[float]()
        due = [self._devices[each % len(self._devices)] for each in range(self._order.times)]

        async def answer(line: MqttLine) -> None:
            while True:
                await line.answer()

        async def call(service: ServiceLine) -> None:
            while due:
                device, start = due.pop(), time.perf_counter()
                await service.call_method(device.id)
                took.append(time.perf_counter() - start)

        lines = [asyncio.create_task(answer(line)) for line in self._stayed]
        await asyncio.gather(*(call(service) for service in self._services))
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        return took

    async def _stay(self, device: Device) -> None:
        self._stayed.append(await MqttLine.to_hub(self._hub, device))

    def _door(self, port: int) -> Door:
        return Door(self._bootstrap["bind"], port, self._bootstrap["hostname"])

    @property
    def _mqtt(self) -> Door:
        return self._door(self._bootstrap["mqttPort"])

    @property
    def _https(self) -> Door:
        return self._door(self._bootstrap["httpsPort"])

    @property
    def _hub(self) -> Door:
        return self._mqtt if self._order.broker is None else self._door(self._order.broker)


async def _main() -> None:
    order = Order.parse(sys.argv[1])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    load = Load(order)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        match line.split():
            case ["prepare"]:
                await load.prepare()
                print("{}", flush=True)
            case ["go", *rate]:
                done = await load.carry_out(float(rate[0]) if rate else None)
                print(json.dumps(asdict(done)), flush=True)


if __name__ == "__main__":
    uvloop.run(_main())
