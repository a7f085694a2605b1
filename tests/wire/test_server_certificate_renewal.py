"""The server's certificate is renewed while devices are connected."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from fleet import Fleet
from fleetroot.clock import ManualClock

FOREIGN = "hub.example"
UNTIL_DUE = timedelta(days=61)  # two thirds of 90 days, and one


@pytest.fixture
async def aged_fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """A server that started so long ago that its certificate is due for renewal now: TLS clients
    look at the machine's clock, which does not move.
    """
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0) - UNTIL_DUE)
    async with Fleet.running(tmp_path / "data", clock=clock) as running:
        yield running


async def renew(fleet: Fleet) -> None:
    clock = fleet.server.clock
    assert isinstance(clock, ManualClock)
    clock.advance(UNTIL_DUE)
    await fleet.server._renew_server_certificate()


async def add_foreign_hub(fleet: Fleet) -> None:
    """A hub that the server's CA may not certify: another CA is made."""
    namespace = await fleet.server.registry.namespace("default")
    await fleet.server.hubs.create(namespace, "foreign", FOREIGN)


async def shown(fleet: Fleet, server_name: str) -> x509.Certificate:
    """What the MQTT port shows to a client that reads `server-ca.pem` now.

    Raises:
        ssl.SSLCertVerificationError: the client does not trust it.
    """
    _, writer = await asyncio.open_connection(
        fleet.bootstrap["bind"],
        fleet.bootstrap["mqttPort"],
        ssl=fleet.trust(),
        server_hostname=server_name,
    )
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(certificate)


async def test_client_that_reads_the_cas_again_reaches_a_hub_that_came_before_the_renewal(
    aged_fleet: Fleet,
) -> None:
    await add_foreign_hub(aged_fleet)
    with pytest.raises(ssl.SSLCertVerificationError):
        await shown(aged_fleet, FOREIGN)
    await renew(aged_fleet)
    await shown(aged_fleet, FOREIGN)


async def test_renewal_that_makes_a_ca_leaves_live_connections_alone(aged_fleet: Fleet) -> None:
    certified = await aged_fleet.provision("dev-1")
    async with await aged_fleet.connect("dev-1", certified) as mqtt:
        await add_foreign_hub(aged_fleet)
        await renew(aged_fleet)
        await mqtt.publish("devices/dev-1/messages/events/", b"still here")


async def test_renewed_certificate_is_shown_from_the_next_handshake_on(aged_fleet: Fleet) -> None:
    before = await shown(aged_fleet, "localhost")
    await renew(aged_fleet)
    assert (await shown(aged_fleet, "localhost")).not_valid_after_utc == (
        before.not_valid_after_utc + UNTIL_DUE
    )


async def test_certificate_is_not_renewed_before_its_time(fleet: Fleet) -> None:
    before = await shown(fleet, "localhost")
    await fleet.server._renew_server_certificate()
    assert await shown(fleet, "localhost") == before
