"""A server that works while every change to its files and every answer to its peers is traced."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import cast

from counted_tls import CountedFleet, CountedTls, counted
from filetrace import FileTrace, Kind, Step

from fleet import Certified, Mqtt, device_csr
from fleetroot.gateway.mqtt import Puback, Publish
from server_process import serving

DEVICES = 40
RENEWING = 8
REVOKED = 6
MESSAGES = 20
_FILLER = bytes(250_000)  # a few of these fill the WAL, so that it is copied and begun anew


class Promise(StrEnum):
    """What a peer was told."""

    PROVISIONED = "provisioned"
    RENEWED = "renewed"
    REVOKED = "revoked"
    MESSAGE_TAKEN = "message taken"


@dataclass(frozen=True)
class Answer:
    """An answer that a peer has.

    Attributes:
        token: bytes that only what was promised has written to the database.
        connection: that it came over, as the trace names it.
        after: how much the peer had been sent when it asked.
        certified: the device's certificate, where it was given one.
    """

    promise: Promise
    token: bytes
    device_id: str
    connection: int
    after: int
    certified: Certified | None = None


@dataclass
class Traced:
    """What a server did, from an empty folder to its end, and what its peers were told."""

    steps: list[Step]
    answers: list[Answer]
    _sent_at: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        begun: dict[int, int] = {}
        for number, step in enumerate(self.steps):
            if step.kind is Kind.SENDING:
                begun[step.offset] = number
            elif step.kind is Kind.SENT:
                sent = self._sent_at.setdefault(step.offset, [])
                before = sent[-1][0] if sent else 0
                length = int.from_bytes(step.data, "little")
                sent.append((before + length, begun[step.offset]))

    def sent_at(self, answer: Answer) -> int:
        """The step at which the first byte of an answer left."""
        return next(step for upto, step in self._sent_at[answer.connection] if upto > answer.after)


@dataclass
class _Witness:
    fleet: CountedFleet
    answers: list[Answer] = field(default_factory=list)

    async def asked(
        self,
        mqtt: Mqtt,
        promise: Promise,
        device_id: str,
        ask: Callable[[], Awaitable[tuple[bytes, Certified | None]]],
    ) -> None:
        tls = counted(mqtt)
        after = tls.received
        token, certified = await ask()
        self.answers.append(Answer(promise, token, device_id, tls.connection, after, certified))

    async def provision(self, device_id: str) -> Certified:
        key, csr = device_csr(device_id)
        body = json.dumps({"registrationId": device_id, "csr": csr}).encode()
        found: list[Certified] = []
        async with await self.fleet.provisioning(device_id) as mqtt:

            async def register() -> tuple[bytes, Certified]:
                answer = await mqtt.ask("$dps/registrations/PUT/iotdps-register/", body)
                assert answer.status == 200, answer.body
                chain = answer.body["registrationState"]["issuedCertificateChain"]
                found.append(Certified(tuple(base64.b64decode(der) for der in chain), key))
                return sha256(found[0].chain[0]).digest(), found[0]

            await self.asked(mqtt, Promise.PROVISIONED, device_id, register)
        return found[0]

    async def renew(self, device_id: str, certified: Certified) -> None:
        key, csr = device_csr(device_id)
        async with await self.fleet.connect(device_id, certified) as mqtt:
            await mqtt.subscribe("$iothub/credentials/res/#", qos=1)
            topic = "$iothub/credentials/POST/issueCertificate/"
            body = json.dumps({"id": device_id, "csr": csr}).encode()
            # What is between the acceptance and the answer is not told apart: the acceptance is
            # asked for first, and the answer is what came after it was there.
            assert (await mqtt.ask(topic, body)).status == 202

            async def answer() -> tuple[bytes, Certified]:
                issued = await mqtt.answer()
                assert issued.status == 200, issued.body
                chain = tuple(base64.b64decode(der) for der in issued.body["certificates"])
                return sha256(chain[0]).digest(), Certified(chain, key)

            await self.asked(mqtt, Promise.RENEWED, device_id, answer)

    async def talk(self, device_id: str, certified: Certified) -> None:
        async with await self.fleet.connect(device_id, certified) as mqtt:
            topic = f"devices/{device_id}/messages/events/"
            for body in (secrets.token_bytes(32), secrets.token_bytes(32) + _FILLER):

                async def publish(body: bytes = body) -> tuple[bytes, None]:
                    packet_id = mqtt.next_id()
                    await mqtt.send(Publish(topic, body, 1, False, False, packet_id))
                    assert (await mqtt.expect(Puback)).packet_id == packet_id
                    return body[:32], None

                await self.asked(mqtt, Promise.MESSAGE_TAKEN, device_id, publish)

    async def revoke(self, device_id: str) -> None:
        tls = await self.fleet.https()
        # The server's last words of the handshake come with the first answer.
        await self._http(tls, "GET /healthz")
        after = tls.received
        body = await self._http(tls, f"POST /fleetroot/devices/{device_id}/revoke")
        generation = json.loads(body)["device"]["generation"].encode()
        self.answers.append(Answer(Promise.REVOKED, generation, device_id, tls.connection, after))
        tls.close()

    async def _http(self, tls: CountedTls, what: str) -> bytes:
        """By hand, because no HTTP client lets its bytes be counted."""
        tls.write(
            f"{what} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n"
            f"authorization: Bearer {self.fleet.bootstrap['adminToken']}\r\n\r\n".encode()
        )
        await tls.drain()
        said = b""
        while not said.endswith(b"}"):
            said += await tls.read(65536)
        head, _, body = said.partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0], said
        return body


async def _work(fleet: CountedFleet) -> list[Answer]:
    witness = _Witness(fleet)
    limit = asyncio.Semaphore(8)

    async def life(number: int) -> None:
        device_id = f"dev-{number}"
        async with limit:
            certified = await witness.provision(device_id)
            if number < RENEWING:
                await witness.renew(device_id, certified)
            elif number < RENEWING + MESSAGES:
                await witness.talk(device_id, certified)
            elif number < RENEWING + MESSAGES + REVOKED:
                await witness.revoke(device_id)

    async with asyncio.TaskGroup() as group:
        for number in range(DEVICES):
            group.create_task(life(number))
    # The WAL is long enough by now, and begins anew at the next write that no reader is beside.
    certified = await witness.provision("quiet")
    for _ in range(4):
        await witness.talk("quiet", certified)
    return witness.answers


def traced(shared_object: Path, folder: Path) -> Traced:
    """Runs a server on an empty data folder below `folder` until it is stopped."""
    above = folder / "above"
    above.mkdir()
    trace = FileTrace(shared_object, above, folder)
    with serving(above / "data", environment=trace.environment) as server:
        answers = asyncio.run(_work(cast("CountedFleet", server.fleet(CountedFleet))))
        assert server.stop() == 0
    return Traced(trace.steps, answers)
