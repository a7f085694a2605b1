"""What ends a live connection: within a second of the command's request, over MQTT and WebSocket,
the server has closed it, and the next attempt is refused. Others stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet import Certified, Fleet, Mqtt, refusal
from fleetroot.clock import ManualClock
from fleetroot.gateway.mqtt import ConnackCode
from manufacturer import Ca

SECOND = 1.0
HUB = "/fleetroot/hubs/default"
POLICIES = "/fleetroot/namespaces/default/policies"
DEVICE, BYSTANDER = "dev-1", "dev-2"


@pytest.fixture(params=["mqtt", "websocket"])
async def trusting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A server whose devices come over the one wire or the other."""
    async with Fleet.running(tmp_path / "data") as fleet:
        fleet.devices_use_websocket = request.param == "websocket"
        await call(fleet, "GET", "/fleetroot/status")  # the first call builds the APIs
        yield fleet


async def call(fleet: Fleet, method: str, path: str, **how: Any) -> Any:
    answer = await fleet.http.request(method, path, **how)
    assert answer.status_code in (200, 201, 204), answer.text
    return answer.json() if answer.content else None


async def revoke(fleet: Fleet) -> None:
    await call(fleet, "POST", f"/fleetroot/devices/{DEVICE}/revoke")


async def disable(fleet: Fleet) -> None:
    await call(fleet, "POST", f"/fleetroot/devices/{DEVICE}/disable")


async def delete(fleet: Fleet) -> None:
    await call(fleet, "DELETE", f"/fleetroot/devices/{DEVICE}")


async def disable_identity(fleet: Fleet) -> None:
    shown = await call(fleet, "GET", f"/devices/{DEVICE}")
    headers = {"if-match": "*"}
    await call(
        fleet, "PUT", f"/devices/{DEVICE}", json=shown | {"status": "disabled"}, headers=headers
    )


async def delete_identity(fleet: Fleet) -> None:
    await call(fleet, "DELETE", f"/devices/{DEVICE}", headers={"if-match": "*"})


async def issuer_of(fleet: Fleet, policy: str) -> str:
    """The id of the policy's issuing CA, as the hub trusts it."""
    found = (await call(fleet, "GET", f"{HUB}/authorities"))["value"]
    [issuer] = [each["id"] for each in found if each["policy"] == policy]
    return str(issuer)


async def unsynchronize(fleet: Fleet) -> None:
    issuer = await issuer_of(fleet, "default")
    await call(fleet, "DELETE", f"{HUB}/authorities/{issuer}")


async def revoke_issuer(fleet: Fleet) -> None:
    await call(fleet, "POST", f"{POLICIES}/default/revokeIssuer")


async def ended_within_a_second(
    fleet: Fleet, live: Mqtt, certified: Certified, command: Callable[[Fleet], Awaitable[None]]
) -> None:
    """The command must end `live`, which is over as soon as its reader sees the end of the stream,
    and keep the device from coming again.
    """
    closed = asyncio.create_task(_closed_at(live))
    asked = time.monotonic()
    await command(fleet)
    assert await closed - asked < SECOND
    code = await refusal(fleet.connect(DEVICE, certified, whole_chain=True))
    assert code is ConnackCode.NOT_AUTHORIZED


async def _closed_at(live: Mqtt) -> float:
    await live.wait_closed()
    return time.monotonic()


async def is_heard(live: Mqtt, device_id: str) -> None:
    """The connection must carry a message to its acknowledgement."""
    await live.publish(f"devices/{device_id}/messages/events/", b"here")


@pytest.mark.parametrize("command", [revoke, disable, delete, disable_identity, delete_identity])
async def test_device_is_out_within_a_second_and_others_stay(
    trusting: Fleet, command: Callable[[Fleet], Awaitable[None]]
) -> None:
    certified = await trusting.provision(DEVICE)
    live = await trusting.connect(DEVICE, certified)
    beside = await trusting.connect(BYSTANDER, await trusting.provision(BYSTANDER))
    await is_heard(live, DEVICE)
    await ended_within_a_second(trusting, live, certified, command)
    await is_heard(beside, BYSTANDER)
    await beside.close()


@pytest.mark.parametrize("command", [unsynchronize, revoke_issuer])
async def test_devices_of_the_issuer_are_out_within_a_second_and_of_others_stay(
    trusting: Fleet, command: Callable[[Fleet], Awaitable[None]]
) -> None:
    certified = await trusting.provision(DEVICE)
    live = await trusting.connect(DEVICE, certified)
    await call(trusting, "PUT", f"{POLICIES}/other")
    await call(trusting, "POST", "/fleetroot/namespaces/default/synchronize")
    key, _ = await trusting.enroll(BYSTANDER, policy="other")
    token = trusting.provisioning_token(BYSTANDER, key)
    other = await trusting.provision(BYSTANDER, token=token)
    beside = await trusting.connect(BYSTANDER, other)
    await ended_within_a_second(trusting, live, certified, command)
    await is_heard(beside, BYSTANDER)
    await beside.close()


async def test_device_of_a_ca_certificate_is_out_within_a_second_of_its_removal(
    trusting: Fleet,
) -> None:
    ca = Ca.root("Maker")
    body = {"certificate": ca.pem, "isVerified": True}
    await call(trusting, "PUT", f"{HUB}/certificates/maker", json=body)
    authentication = {"type": "certificateAuthority"}
    identity = {"deviceId": DEVICE, "authentication": authentication}
    await call(trusting, "PUT", f"/devices/{DEVICE}", json=identity)
    beside = await trusting.connect(BYSTANDER, await trusting.provision(BYSTANDER))
    held = ca.device(DEVICE)
    live = await trusting.connect(DEVICE, held, whole_chain=True)

    async def remove(fleet: Fleet) -> None:
        await call(fleet, "DELETE", f"{HUB}/certificates/maker")

    await ended_within_a_second(trusting, live, held, remove)
    await is_heard(beside, BYSTANDER)
    await beside.close()


@pytest.mark.parametrize("websocket", [False, True], ids=["mqtt", "websocket"])
async def test_device_is_out_within_a_second_of_its_certificates_end(
    timed_fleet: Fleet, clock: ManualClock, websocket: bool
) -> None:
    timed_fleet.devices_use_websocket = websocket
    certified = await timed_fleet.provision(DEVICE)
    left = almost_over(clock, certified)
    started = time.monotonic()
    live = await timed_fleet.connect(DEVICE, certified)
    begun = time.monotonic()
    await live.wait_closed()
    now = time.monotonic()
    assert now - started >= left  # not before, either
    assert now - begun < left + SECOND
    clock.advance(timedelta(seconds=2))
    assert await refusal(timed_fleet.connect(DEVICE, certified)) is ConnackCode.NOT_AUTHORIZED


async def test_connection_outlives_its_certificate_where_the_setting_says_so(
    tmp_path: Path, clock: ManualClock
) -> None:
    settings = {"clock": clock, "end_expired_connections": False}
    async with Fleet.running(tmp_path / "data", **settings) as fleet:
        certified = await fleet.provision(DEVICE)
        live = await fleet.connect(DEVICE, certified)
        clock.advance(certified.leaf.not_valid_after_utc - clock.now() + timedelta(seconds=2))
        await fleet.server.hubs.end_expired()
        await is_heard(live, DEVICE)
        assert await refusal(fleet.connect(DEVICE, certified)) is ConnackCode.NOT_AUTHORIZED
        await is_heard(live, DEVICE)
        await live.close()


def almost_over(clock: ManualClock, certified: Certified) -> float:
    """Moves the clock to shortly before the certificate ends; by how many seconds."""
    left = timedelta(milliseconds=500)
    clock.advance(certified.leaf.not_valid_after_utc - clock.now() - left)
    return left.total_seconds()


async def test_hub_trusts_a_ca_again_after_the_next_synchronization(trusting: Fleet) -> None:
    certified = await trusting.provision(DEVICE)
    await unsynchronize(trusting)
    assert (await call(trusting, "GET", f"{HUB}/authorities"))["value"] == []
    assert await refusal(trusting.connect(DEVICE, certified)) is ConnackCode.NOT_AUTHORIZED
    await call(trusting, "POST", "/fleetroot/namespaces/default/synchronize")
    async with await trusting.connect(DEVICE, certified) as live:
        await is_heard(live, DEVICE)


async def test_only_a_ca_that_the_hub_trusts_can_be_taken_from_it(fleet: Fleet) -> None:
    issuer = await issuer_of(fleet, "default")
    assert (await fleet.http.delete(f"{HUB}/authorities/{issuer}")).status_code == 204
    assert (await fleet.http.delete(f"{HUB}/authorities/{issuer}")).status_code == 404
    [entry] = [
        each
        for each in (await call(fleet, "GET", "/fleetroot/audit/entries"))["value"]
        if each["action"] == "hub.distrustIssuer"
    ]
    assert entry["details"] == {"issuingAuthority": issuer}
