"""A server that is killed again and again while a fleet provisions.

What is killed is `fleetroot up`, by SIGKILL, at moments that are drawn from a seed; devices come
over TLS and keep every certificate that they were ever sent. Whether the disk has it too is another
question: see `tests/durability`. Most of the time goes into the starts of servers: twenty deaths
instead of a few are what `make crashes` is for.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import ssl
from collections import deque
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fleet import Certified, Closed, Fleet, device_csr
from server_process import serving

FULL = os.environ.get("CRASHES") == "full"
DEVICES, KILLS = (1000, 20) if FULL else (120, 2)
AT_ONCE = 24
SEED = 20
CONNECTING = 25  # devices that show their certificate to the hub at the end
KEY = ec.generate_private_key(ec.SECP256R1())  # of all devices: theirs are not what is tested


@dataclass
class Devices:
    """A fleet that provisions, and goes on after whatever happens to the server."""

    waiting: deque[str] = field(
        default_factory=lambda: deque(f"dev-{number}" for number in range(DEVICES))
    )
    certified: dict[str, Certified] = field(default_factory=dict)
    received: list[bytes] = field(default_factory=list)  # SHA-256 of each certificate
    on_received: dict[int, asyncio.Event] = field(default_factory=dict)

    async def provision(self, fleet: Fleet) -> None:
        """Provisions whoever waits, until nobody does or the server is gone."""
        trust = fleet.trust()
        fleet.trust = lambda: trust  # type: ignore[method-assign]
        await asyncio.gather(*(self._one_by_one(fleet) for _ in range(AT_ONCE)))

    async def _one_by_one(self, fleet: Fleet) -> None:
        while self.waiting:
            device_id = self.waiting.popleft()
            try:
                await self._provision(fleet, device_id)
            except (Closed, OSError, ssl.SSLError, asyncio.IncompleteReadError):
                if device_id not in self.certified:
                    self.waiting.append(device_id)
                return

    async def _provision(self, fleet: Fleet, device_id: str) -> None:
        _, csr = device_csr(device_id, KEY)
        body = json.dumps({"registrationId": device_id, "csr": csr}).encode()
        async with await fleet.provisioning(device_id) as mqtt:
            answer = await mqtt.ask("$dps/registrations/PUT/iotdps-register/", body)
            assert answer.status == 200, answer.body
            chain = answer.body["registrationState"]["issuedCertificateChain"]
            self.certified[device_id] = Certified(tuple(map(base64.b64decode, chain)), KEY)
            self.received.append(sha256(self.certified[device_id].chain[0]).digest())
            if (reached := self.on_received.get(len(self.received))) is not None:
                reached.set()

    async def have(self, certificates: int) -> None:
        """Waits until so many certificates were received."""
        if len(self.received) < certificates:
            await self.on_received.setdefault(certificates, asyncio.Event()).wait()


async def inventory(fleet: Fleet) -> list[dict[str, Any]]:
    """All of it, by the operator's API."""
    found: list[dict[str, Any]] = []
    query = {"limit": 1000}
    while True:
        page = (await fleet.http.get("/fleetroot/certificates", params=query)).json()
        found += page["value"]
        if page["next"] is None:
            return found
        query["before"] = page["next"]


async def assert_inventory_is_whole(fleet: Fleet, devices: Devices) -> int:
    """Holds it against what devices received; how many certificates nobody received."""
    certificates = await inventory(fleet)
    kept = {certificate["sha256"] for certificate in certificates}
    assert {fingerprint.hex() for fingerprint in devices.received} <= kept
    serials = [certificate["serialNumber"] for certificate in certificates]
    assert len(set(serials)) == len(serials)
    return len(certificates) - len(devices.received)


@pytest.mark.timeout(600)
async def test_inventory_holds_every_certificate_that_a_device_received(
    tmp_path: Path,
) -> None:
    chance, devices, unseen = random.Random(SEED), Devices(), []
    kills = sorted(chance.sample(range(20, DEVICES - AT_ONCE), KILLS))
    for kill in kills:
        with serving(tmp_path / "data") as server:
            fleet = server.fleet()
            unseen.append(await assert_inventory_is_whole(fleet, devices))
            provisioning = asyncio.create_task(devices.provision(fleet))
            await devices.have(kill)
            await asyncio.sleep(chance.uniform(0, 0.02))  # anywhere in what is going on
            server.kill()
            await provisioning
            await fleet.http.aclose()
    with serving(tmp_path / "data") as server:
        fleet = server.fleet()
        unseen.append(await assert_inventory_is_whole(fleet, devices))
        await devices.provision(fleet)
        assert await assert_inventory_is_whole(fleet, devices) >= unseen[-1]
        assert len(devices.certified) == DEVICES
        assert (await fleet.http.get("/fleetroot/status")).json()["devices"] == DEVICES
        for device_id, certified in chance.sample(sorted(devices.certified.items()), CONNECTING):
            async with await fleet.connect(device_id, certified):
                pass
        await fleet.http.aclose()
        assert server.stop() == 0
    print("certificates that were issued and never received, by kill:", unseen)  # noqa: T201
