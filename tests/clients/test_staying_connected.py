"""Real clients that stay: through a connection that breaks, and the renewal of their token. What
they listened to they still hear, and subscribe to nothing again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from test_azure_iot_device import PYTHON
from test_azure_node_sdk import NODE
from test_cloud_to_device_clients import with_key
from test_twin_clients import HERE, device, node_sdk, python_sdk

from fleet import Fleet
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import Ending

PYTHON_DEVICE = (PYTHON, HERE / "sdk_twin.py")
NODE_DEVICE = (NODE, HERE / "node" / "twin.js")
SDKS = [
    pytest.param(PYTHON_DEVICE, marks=python_sdk, id="python"),
    pytest.param(NODE_DEVICE, marks=node_sdk, id="node"),
]


def session_of(fleet: Fleet) -> LiveSession | None:
    return next(iter(fleet.server.hubs.live), None)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(45):
        while not met():
            await asyncio.sleep(0.05)


async def want(fleet: Fleet, number: int) -> None:
    answer = await fleet.http.patch("/twins/dev-1", json={"properties": {"desired": {"n": number}}})
    assert answer.status_code == 200, answer.text


async def newer_session(fleet: Fleet, before: LiveSession) -> None:
    """Waits until the device is in by another connection, and listens there."""
    epoch = before.epoch

    def is_newer() -> bool:
        session = session_of(fleet)
        return session is not None and session.epoch > epoch

    await until(is_newer)


@pytest.mark.parametrize("command", SDKS)
async def test_device_whose_connection_breaks_comes_back_and_hears_on(
    public_fleet: Fleet, command: tuple[object, ...]
) -> None:
    key = await with_key(public_fleet, "dev-1")
    order: dict[str, Any] = {"deviceId": "dev-1", "symmetricKey": key, "websockets": False}
    async with device(public_fleet, *command, **order) as said:
        await said()
        for number in range(2):
            before = session_of(public_fleet)
            assert before is not None
            before.end(Ending.SHUTDOWN)
            await newer_session(public_fleet, before)
            await want(public_fleet, number)
            assert await said() == {"n": number, "$version": number + 2}


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        # The SDK for Python renews two minutes before the end; Node's when it is told.
        pytest.param(PYTHON_DEVICE, 123, marks=python_sdk, id="python"),
        pytest.param(NODE_DEVICE, 60, marks=node_sdk, id="node"),
    ],
)
async def test_device_that_renews_its_token_hears_on(
    public_fleet: Fleet, command: tuple[object, ...], seconds: int
) -> None:
    key = await with_key(public_fleet, "dev-1")
    order = {"deviceId": "dev-1", "symmetricKey": key, "websockets": False}
    async with device(public_fleet, *command, tokenSeconds=seconds, **order) as said:
        await said()
        first = session_of(public_fleet)
        assert first is not None
        await newer_session(public_fleet, first)
        second = session_of(public_fleet)
        assert second is not None
        assert second.principal.expires_at > first.principal.expires_at
        await want(public_fleet, 1)
        assert await said() == {"n": 1, "$version": 2}
