"""Wrong tokens by the million, over connections that are kept, in the names of honest devices.

With the limits as they come, a connection ends after ten of them or a minute, and an address after
some hundred. Here all that is lifted, so that every token is looked at and answered: what one
costs, that nothing grows with their number, and that the devices in whose names they come are none
the worse.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from test_hostile_peers import FULL

from devices import REGISTER, Place, provision
from fleetroot.gateway.mqtt import Publish, encode
from processes import ServerProcess

TOKENS = 1_000_000 if FULL else 10_000
CONNECTIONS = 50
AT_ONCE = 50  # requests that a connection has open
LIFTED = {
    "failed_attestations": 10**9,
    "failures_per_source": 10**9,
    "unattested_seconds": 10**6,
    "requests_per_source": 10**9,
}
GROWTH_MEGABYTES = 40.0
LOG_BYTES_A_SECOND = 20_000
WRONG = encode(Publish(f"{REGISTER}?$rid=1", b"{}"))


async def guess(place: Place, name: str, tokens: int) -> int:
    """Shows a wrong token so often; how often it was answered with 401."""
    mqtt = await place.provisioning(place.trust(), name, place.token(name, b"wrong" * 8))
    refused = 0
    for _ in range(tokens // AT_ONCE):
        mqtt.writer.write(WRONG * AT_ONCE)
        for _ in range(AT_ONCE):
            answer = await mqtt.answer()
            refused += (answer.status, answer.error_code) == (401, 401003)
    await mqtt.close()
    return refused


@pytest.mark.timeout(5400 if FULL else 180)
async def test_wrong_tokens_cost_nobody_but_who_sends_them(
    tmp_path: Path, record_property: Any
) -> None:
    loop = asyncio.get_running_loop()
    async with ServerProcess.running(tmp_path, **LIFTED) as server:
        place = Place(server.bootstrap, "127.0.0.66")
        honest = Place(server.bootstrap, "127.0.0.1")
        await guess(place, "honest-0", 1000)  # what is made once is made
        cpu, megabytes, started = server.cpu, server.megabytes, loop.time()
        refused = await asyncio.gather(
            *(guess(place, f"honest-{n}", TOKENS // CONNECTIONS) for n in range(CONNECTIONS))
        )
        seconds = loop.time() - started
        record_property(
            "hostile peers",
            f"{TOKENS} wrong tokens: {(server.cpu - cpu) * 1e6 / TOKENS:.0f} us of CPU each, "
            f"{TOKENS / seconds:.0f} a second, memory {server.megabytes - megabytes:+.1f} MB, "
            f"log {server.log.stat().st_size} bytes",
        )
        assert sum(refused) == TOKENS
        counted = await server.refusals()
        assert counted["provisioning", "token signed with another key"] == TOKENS + 1000
        assert server.megabytes - megabytes < GROWTH_MEGABYTES
        assert server.log.stat().st_size < LOG_BYTES_A_SECOND * (seconds + 10)
        for n in range(3):
            await provision(honest, honest.trust(), f"honest-{n}")
