"""What a device may ask of its connection: how long it may be silent, how long it may not read."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from fleet import SECONDS, Closed, Fleet, Mqtt, refusal
from fleetroot import app
from fleetroot.gateway.connection import MqttLimits
from fleetroot.gateway.hub_wire import HubWire
from fleetroot.gateway.mqtt import Connack, ConnackCode, Connect, Publish, encode

REGISTER = "$dps/registrations/PUT/iotdps-register/"
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
async def test_silent_connection_is_closed_whatever_it_asked_for(fleet: Fleet, asked: int) -> None:
    certified = await fleet.provision("dev-1")
    fleet.server._mqtt_limits = MqttLimits(keep_alive_seconds=0.1)  # of connections from now on
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
            await asyncio.sleep(0.01)  # the server shares this loop and has 256 reads to finish
        while len(fleet.server.hubs.live):
            await asyncio.sleep(0.01)
    assert await fleet.refusals() == {"write buffer over its limit": 1}


# --- what strangers may ask


@pytest.mark.parametrize(("size", "served"), [(5000, True), (5001, False)])
async def test_connect_is_served_up_to_its_limit(tmp_path: Path, size: int, served: bool) -> None:
    async with Fleet.running(tmp_path / "data", connect_bytes=5000) as fleet:
        connect = Connect("dev-1", username=f"{fleet.hub_host}/dev-1/?api-version=2021-04-12")
        password = b"x" * (size - (len(encode(connect)) - 2) - 2)
        mqtt = await fleet.tls()
        await mqtt.send(replace(connect, password=password))
        if served:
            assert (await mqtt.expect(Connack)).code is ConnackCode.BAD_USERNAME_OR_PASSWORD
        else:
            await mqtt.wait_closed()
            assert await fleet.refusals() == {"too_large": 1}


@pytest.mark.parametrize(("size", "served"), [(96 * 1024, True), (110_000, False)])
async def test_who_comes_to_provision_may_send_what_a_registration_needs(
    fleet: Fleet, size: int, served: bool
) -> None:
    body = b'{"payload": "' + b"x" * (size - 15) + b'"}'
    mqtt = await fleet.provisioning("dev-1")
    if served:
        assert (await mqtt.ask(REGISTER, body)).status == 200
        return
    await mqtt.publish(f"{REGISTER}?$rid=1", body, qos=0)
    await mqtt.wait_closed()
    assert await fleet.refusals() == {"too_large": 1}


async def test_connection_ends_after_so_many_failed_attestations(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", failed_attestations=3) as fleet:
        wrong = fleet.provisioning_token("dev-1", b"x" * 64)
        mqtt = await fleet.provisioning("dev-1", token=wrong)
        for _ in range(3):
            assert (await mqtt.ask(REGISTER, b"{}")).status == 401
        await mqtt.wait_closed()
        assert await fleet.refusals() == {
            "token signed with another key": 3,
            "too many failed attestations": 1,
        }


async def test_what_was_asked_behind_the_last_failure_is_not_looked_at(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", failed_attestations=3) as fleet:
        wrong = fleet.provisioning_token("dev-1", b"x" * 64)
        mqtt = await fleet.provisioning("dev-1", token=wrong)
        mqtt.writer.write(encode(Publish(f"{REGISTER}?$rid=1", b"{}")) * 200)
        await mqtt.wait_closed()
        assert (await fleet.refusals())["token signed with another key"] == 3


# --- what one address may waste


async def test_address_that_failed_too_often_is_refused_at_the_door(tmp_path: Path) -> None:
    limits = {"failures_per_source": 3, "failures_per_source_per_second": 0.001}
    async with Fleet.running(tmp_path / "data", **limits) as fleet:
        certified = await fleet.provision("dev-1")
        async with await fleet.connect("dev-1", certified) as inside:
            for _ in range(3):
                await refusal(fleet.connect("nobody", certified))
            with pytest.raises((Closed, OSError)):
                await fleet.connect("dev-1", certified)
            elsewhere = await asyncio.open_connection(
                "127.0.0.1",
                fleet.bootstrap["mqttPort"],
                local_addr=("127.0.0.9", 0),
                ssl=fleet.trust(),
                server_hostname="localhost",
            )
            elsewhere[1].close()
            # Who is in already does not notice.
            await inside.publish("devices/dev-1/messages/events/", b"still here")


async def test_who_is_let_in_wastes_nothing(tmp_path: Path) -> None:
    limits = {"failures_per_source": 1, "failures_per_source_per_second": 0.001}
    async with Fleet.running(tmp_path / "data", **limits) as fleet:
        certified = await fleet.provision("dev-1")
        for _ in range(5):
            async with await fleet.connect("dev-1", certified):
                pass
        assert await fleet.refusals() == {}


async def test_handshake_for_nothing_is_counted(fleet: Fleet) -> None:
    mqtt = await fleet.tls()
    mqtt.writer.close()
    await mqtt.writer.wait_closed()
    assert await refused(fleet) == {"gone without CONNECT": 1}


async def test_connect_to_provision_for_nothing_is_counted(fleet: Fleet) -> None:
    async with await fleet.provisioning("dev-1"):
        pass
    assert await refused(fleet) == {"gone without attesting": 1}


async def refused(fleet: Fleet) -> dict[str, int]:
    async with asyncio.timeout(SECONDS):
        while not (found := await fleet.refusals()):
            pass
    return found


# --- how often one device may connect


async def test_device_that_connects_too_often_is_told_to_try_later(tmp_path: Path) -> None:
    limits = {"connects_per_device": 3, "connects_per_device_per_second": 0.001}
    async with Fleet.running(tmp_path / "data", **limits) as fleet:
        certified, other = await fleet.provision("dev-1"), await fleet.provision("dev-2")
        for _ in range(2):
            await (await fleet.connect("dev-1", certified)).close()
        async with await fleet.connect("dev-1", certified) as last:
            again = fleet.connect("dev-1", certified)
            assert await refusal(again) is ConnackCode.SERVER_UNAVAILABLE
            await last.publish("devices/dev-1/messages/events/", b"the session stands")
            async with await fleet.connect("dev-2", other):
                pass


async def test_strangers_cannot_make_a_device_wait(tmp_path: Path) -> None:
    limits = {"connects_per_device": 1, "connects_per_device_per_second": 0.001}
    async with Fleet.running(tmp_path / "data", **limits) as fleet:
        certified, other = await fleet.provision("dev-1"), await fleet.provision("dev-2")
        for _ in range(5):
            code = await refusal(fleet.connect("dev-1", other))
            assert code is ConnackCode.NOT_AUTHORIZED
        async with await fleet.connect("dev-1", certified):
            pass
