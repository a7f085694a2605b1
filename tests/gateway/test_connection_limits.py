"""What a device may ask of its connection: how long it may be silent, how long it may not read."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from fleet import SECONDS, Fleet, Mqtt
from fleetroot import app
from fleetroot.gateway.connection import MqttLimits
from fleetroot.gateway.hub_wire import HubWire
from fleetroot.gateway.mqtt import Publish, encode

TWIN = "$iothub/twin/res/#"
GET_TWIN = "$iothub/twin/GET/?$rid=1"


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, limits: MqttLimits) -> None:
    """The server gives devices `limits`."""
    monkeypatch.setattr(app, "mqtt_limits", lambda _settings: limits)


# --- silence


@pytest.mark.parametrize(("asked", "seconds"), [(60, 90), (0, 1767), (1178, 1767), (65535, 1767)])
async def test_longest_silence_is_one_and_a_half_times_what_was_asked_and_at_most_1767_seconds(
    fleet: Fleet, asked: int, seconds: float
) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified, keep_alive=asked):
        [session] = fleet.server.hubs.live
        assert isinstance(session.connection, HubWire)
        timer = session.connection._connection._timer
        assert timer is not None
        left = timer.when() - asyncio.get_running_loop().time()
        assert left == pytest.approx(seconds, abs=SECONDS)


@pytest.mark.parametrize("asked", [0, 65535])
@pytest.mark.parametrize("limits", [MqttLimits(keep_alive_seconds=0.1)])
async def test_silent_connection_is_closed_whatever_it_asked_for(
    limited: None, fleet: Fleet, asked: int
) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified, keep_alive=asked)
    await mqtt.wait_closed()
    assert await fleet.refusals() == {"silent": 1}


# --- slow readers


async def with_a_large_twin(fleet: Fleet) -> Mqtt:
    """A device whose every twin answer is of more than 24,000 bytes, and at whose side little
    waits of what it does not read.
    """
    mqtt = await fleet.connect("dev-1", await fleet.provision("dev-1"))
    raw: socket.socket = mqtt.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await mqtt.subscribe(TWIN)
    patch = json.dumps({f"key-{n}": "x" * 4000 for n in range(6)}).encode()
    answer = await mqtt.ask("$iothub/twin/PATCH/properties/reported/", patch)
    assert answer.status == 204
    return mqtt


@pytest.mark.parametrize("limits", [MqttLimits(write_buffer_bytes=128 * 1024)])
async def test_device_that_asks_and_never_reads_is_cut(limited: None, fleet: Fleet) -> None:
    mqtt = await with_a_large_twin(fleet)
    mqtt.writer.transport.pause_reading()
    mqtt.writer.write(encode(Publish(GET_TWIN, b"")) * 4000)
    async with asyncio.timeout(SECONDS):
        while not await fleet.refusals():
            pass
        while len(fleet.server.hubs.live):
            await asyncio.sleep(0)
    assert await fleet.refusals() == {"write buffer over its limit": 1}
