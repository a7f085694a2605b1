"""Certificates issued through the room `provisioning`, durable: no wire, no TLS."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from bench.floor import CryptoFloor, Curve, make_csr
from bench.measure import Ratio, Row
from fleetroot import sas
from fleetroot.app import Server, quiet_collector
from fleetroot.pki import KeyType
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings, RegisterRequest
from fleetroot.registry.issuance import CsrText
from fleetroot.settings import Settings

_ROUNDS = 7
_DEVICES = 300  # a round
_AT_ONCE = 32


@asynccontextmanager
async def _server() -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory(prefix="fleetroot-bench-") as folder:
        settings = Settings(
            data=Path(folder), mqtt_port=0, https_port=0, console_port=0, http_port=0
        )
        server = Server(settings)
        await server.start()
        quiet_collector()
        try:
            yield server
        finally:
            await server.stop()


async def rows() -> list[Row]:
    """One row for each curve."""
    async with _server() as server:
        return [
            await _row(server, "P-384", ec.SECP384R1(), KeyType.EC_P384, "50%"),
            await _row(server, "P-256", ec.SECP256R1(), KeyType.EC_P256, ""),
        ]


async def _row(server: Server, name: str, curve: Curve, key_type: KeyType, goal: str) -> Row:
    namespace = await server.registry.namespace("default")
    policy = await server.registry.create_policy(
        namespace, f"bench-{name}", authority_key_type=key_type
    )
    await server.hubs.synchronize(namespace)
    service = await server.administration.service()
    group = await server.administration.put(
        service,
        EnrollmentKind.GROUP,
        f"bench-{name}",
        EnrollmentSettings(policy_id=policy.id),
    )
    key = ec.generate_private_key(curve)
    floor = CryptoFloor(curve, curve)
    expires_at = server.clock.now() + timedelta(hours=1)

    def request(number: int) -> RegisterRequest:
        registration_id = f"{name}-{number}"
        token = sas.sign_token(
            f"{service.id_scope}/registrations/{registration_id}",
            sas.derive_device_key(group.keys.primary, registration_id),
            expires_at,
        )
        return RegisterRequest(
            service.id_scope,
            registration_id,
            sas.SasToken.parse(token),
            CsrText(make_csr(registration_id, key)),
        )

    ratios, rates, floors = [], [], []
    for round_ in range(_ROUNDS + 1):
        requests = [request(round_ * _DEVICES + number) for number in range(_DEVICES)]
        bottom = floor.seconds()
        start = time.process_time()
        for first in range(0, _DEVICES, _AT_ONCE):
            await asyncio.gather(
                *(server.provisioning.register(r) for r in requests[first : first + _AT_ONCE])
            )
        used = (time.process_time() - start) / _DEVICES
        if round_:  # the first warms up
            ratios.append(bottom / used)
            rates.append(1 / used)
            floors.append(1 / bottom)
    rates.sort()
    floors.sort()
    return Row(
        f"certificates issued, {name}, in `provisioning`, durable",
        f"{rates[len(rates) // 2]:.0f} / CPU-s",
        f"floor {floors[len(floors) // 2]:.0f}",
        str(Ratio.of(ratios)),
        goal,
    )
