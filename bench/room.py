"""Certificates issued through the room `provisioning`, durable: no wire, no TLS."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric import ec

from bench.floor import CURVES, CryptoFloor, make_csr
from bench.measure import Row, Scale, rate, ratio, take_turns
from fleetroot import sas
from fleetroot.app import Server, quiet_collector
from fleetroot.audit import SYSTEM
from fleetroot.pki import KeyType
from fleetroot.provisioning.model import (
    EnrollmentKind,
    EnrollmentSettings,
    OnboardingCredential,
    RegisterRequest,
)
from fleetroot.registry.issuance import CsrText
from fleetroot.settings import Settings

_AT_ONCE = 32
_FLOORS = 200  # a round
_KEY_TYPES = {"P-384": KeyType.EC_P384, "P-256": KeyType.EC_P256}
_GOALS = {"P-384": "60%", "P-256": "35%"}


@asynccontextmanager
async def server_in_process() -> AsyncIterator[Server]:
    """A server on free ports in this process."""
    with tempfile.TemporaryDirectory(prefix="fleetroot-bench-") as folder:
        settings = Settings(
            data=Path(folder),
            mqtt_port=0,
            https_port=0,
            console_port=0,
            http_port=0,
            requests_per_source=1_000_000,
        )
        server = Server(settings)
        await server.start()
        quiet_collector()
        try:
            yield server
        finally:
            await server.stop()


def rows(scale: Scale) -> list[Row]:
    """One row for each curve; the issuing CA is of that curve too."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        context = server_in_process()
        server = runner.run(context.__aenter__())
        try:
            return [_row(runner, server, scale, curve) for curve in scale.curves]
        finally:
            runner.run(context.__aexit__(None, None, None))


def _row(runner: asyncio.Runner, server: Server, scale: Scale, curve: str) -> Row:
    floor = CryptoFloor(CURVES[curve], CURVES[curve])
    asked = runner.run(requests(server, curve))

    def issue() -> float:
        batch = [next(asked) for _ in range(scale.batch)]
        start = time.process_time()
        runner.run(register(server, batch))
        return (time.process_time() - start) / len(batch)

    bottom, used = take_turns(scale.rounds, lambda: floor.seconds(_FLOORS), issue)
    return Row(
        f"certificates in `provisioning`, {curve}",
        rate(used),
        f"floor {rate(bottom)}",
        ratio(bottom, used),
        _GOALS[curve],
    )


async def requests(server: Server, curve: str) -> Iterator[RegisterRequest]:
    """Requests of new devices, for a policy and a group that are made for them."""
    namespace = await server.registry.namespace("default")
    policy = await server.policies.create(
        namespace, f"bench-{curve}", authority_key_type=_KEY_TYPES[curve], by=SYSTEM
    )
    await server.hubs.synchronize(namespace)
    service = await server.administration.service()
    group = await server.administration.put(
        service,
        EnrollmentKind.GROUP,
        f"bench-{curve}",
        EnrollmentSettings(policy_id=policy.id),
        by=SYSTEM,
    )
    assert group.keys is not None
    group_key = group.keys.primary
    key = ec.generate_private_key(CURVES[curve])
    expires_at = server.clock.now() + timedelta(hours=1)

    def request(number: int) -> RegisterRequest:
        registration_id = f"{curve}-{number}"
        token = sas.sign_token(
            f"{service.id_scope}/registrations/{registration_id}",
            sas.derive_device_key(group_key, registration_id),
            expires_at,
        )
        return RegisterRequest(
            service.id_scope,
            registration_id,
            OnboardingCredential(sas.SasToken.parse(token)),
            CsrText(make_csr(registration_id, key)),
            peer="192.0.2.1:4711",
        )

    return map(request, count())


async def register(server: Server, batch: list[RegisterRequest]) -> None:
    """Registers devices, some of them at once."""
    for first in range(0, len(batch), _AT_ONCE):
        await asyncio.gather(
            *(server.provisioning.register(each) for each in batch[first : first + _AT_ONCE])
        )
