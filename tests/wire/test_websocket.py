"""MQTT over WebSocket on the HTTPS port: the services of the MQTT port, and rules of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from fleet import Fleet, WebSocketStream, refusal
from fleetroot.gateway.mqtt import (
    Connack,
    ConnackCode,
    Connect,
    Decoder,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Will,
    encode,
)


@pytest.fixture
def webfleet(fleet: Fleet) -> Fleet:
    """A fleet whose devices come by WebSocket."""
    return replace(fleet, devices_use_websocket=True)


def events(device_id: str) -> str:
    return f"devices/{device_id}/messages/events/"


# --- the services


async def test_device_provisions_connects_and_is_heard(webfleet: Fleet) -> None:
    certified = await webfleet.provision("dev-1")
    async with await webfleet.connect("dev-1", certified) as mqtt:
        await mqtt.publish(events("dev-1"), b"hello")
    (event,) = await webfleet.events()
    assert event["text"] == "hello"


async def test_certificate_of_the_handshake_is_the_devices_proof(webfleet: Fleet) -> None:
    certified = await webfleet.provision("dev-1")
    assert await refusal(webfleet.connect("dev-1")) is ConnackCode.NOT_AUTHORIZED
    await (await webfleet.connect("dev-1", certified)).close()
    await webfleet.http.post("/fleetroot/devices/dev-1/revoke")
    assert await refusal(webfleet.connect("dev-1", certified)) is ConnackCode.NOT_AUTHORIZED


async def test_revocation_drops_the_live_connection(webfleet: Fleet) -> None:
    certified = await webfleet.provision("dev-1")
    mqtt = await webfleet.connect("dev-1", certified)
    await webfleet.http.post("/fleetroot/devices/dev-1/revoke")
    await mqtt.wait_closed()


async def test_new_connection_on_the_mqtt_port_closes_the_websocket(webfleet: Fleet) -> None:
    certified = await webfleet.provision("dev-1")
    mqtt = await webfleet.connect("dev-1", certified)
    on_mqtt_port = replace(webfleet, devices_use_websocket=False)
    async with await on_mqtt_port.connect("dev-1", certified):
        await mqtt.wait_closed()


async def test_will_of_a_device_that_vanishes_is_sent(webfleet: Fleet) -> None:
    certified = await webfleet.provision("dev-1")
    will = Will(events("dev-1"), b"gone", 1, False)
    mqtt = await webfleet.connect("dev-1", certified, will=will)
    assert isinstance(mqtt.writer, WebSocketStream)
    mqtt.writer.websocket.transport.abort()
    async with asyncio.timeout(10):
        while not (found := await webfleet.events()):
            await asyncio.sleep(0.02)
    assert found[0]["text"] == "gone"


async def test_message_that_was_accepted_is_acknowledged_before_the_server_ends(
    tmp_path: Path,
) -> None:
    async with Fleet.running(tmp_path / "data", drain_seconds=5) as running:
        fleet = replace(running, devices_use_websocket=True)
        certified = await fleet.provision("dev-1")
        mqtt = await fleet.connect("dev-1", certified)
        await mqtt.send(Publish(events("dev-1"), b"last", 1, False, False, 7))
        async with asyncio.timeout(5):
            while not fleet.messages():
                await asyncio.sleep(0.01)
        stopping = asyncio.create_task(fleet.server.stop())
        assert (await mqtt.expect(Puback)).packet_id == 7
        await mqtt.wait_closed()
        assert isinstance(mqtt.writer, WebSocketStream)
        assert mqtt.writer.websocket.close_code == 1000
        await stopping


# --- messages and packets


def connect_packet(fleet: Fleet, device_id: str = "dev-1") -> bytes:
    name = f"{fleet.id_scope}/registrations/{device_id}/api-version=2026-11-01"
    token = fleet.provisioning_token(device_id)
    return encode(Connect(device_id, username=name, password=token))


async def test_packets_may_be_split_over_messages_in_any_way(webfleet: Fleet) -> None:
    socket = await webfleet.websocket()
    for byte in connect_packet(webfleet):
        await socket.send(bytes([byte]))
    assert await socket.recv() == encode(Connack(False, ConnackCode.ACCEPTED))
    await socket.close()


async def test_packets_may_be_joined_in_a_message(webfleet: Fleet) -> None:
    socket = await webfleet.websocket()
    await socket.send(connect_packet(webfleet) + encode(Pingreq()) * 3)
    decoder, got = Decoder(1000), []
    while len(got) < 4:
        data = await socket.recv()
        assert isinstance(data, bytes)
        got += decoder.feed(data)
    assert got == [Connack(False, ConnackCode.ACCEPTED)] + [Pingresp()] * 3
    await socket.close()


async def test_empty_message_is_nothing(webfleet: Fleet) -> None:
    socket = await webfleet.websocket()
    await socket.send(b"")
    await socket.send(connect_packet(webfleet))
    assert await socket.recv() == encode(Connack(False, ConnackCode.ACCEPTED))
    await socket.close()


async def test_message_of_256_kilobytes_arrives(webfleet: Fleet) -> None:
    certified = await webfleet.provision("dev-1")
    async with await webfleet.connect("dev-1", certified) as mqtt:
        await mqtt.publish(events("dev-1"), b"x" * 256 * 1024)
    assert len(webfleet.messages()) == 1


async def closed_with(socket: ClientConnection) -> int:
    async with asyncio.timeout(10):
        await socket.wait_closed()
    assert socket.close_code is not None
    return socket.close_code


async def test_text_message_closes_with_1003(webfleet: Fleet) -> None:
    socket = await webfleet.websocket()
    await socket.send(connect_packet(webfleet).decode("latin-1"))
    assert await closed_with(socket) == 1003
    assert (await webfleet.refusals())["text message"] == 1


async def test_message_over_its_limit_closes_with_1009(webfleet: Fleet) -> None:
    certified = await webfleet.provision("dev-1")
    mqtt = await webfleet.connect("dev-1", certified)
    assert isinstance(mqtt.writer, WebSocketStream)
    socket = mqtt.writer.websocket
    await socket.send(bytes(385 * 1024))
    assert await closed_with(socket) == 1009


async def test_stranger_who_sends_much_before_connack_is_closed_with_1009(webfleet: Fleet) -> None:
    socket = await webfleet.websocket()
    await socket.send(bytes(97 * 1024))
    assert await closed_with(socket) == 1009


async def test_what_is_not_mqtt_is_closed(webfleet: Fleet) -> None:
    socket = await webfleet.websocket()
    await socket.send(b"GET / HTTP/1.1\r\n\r\n")
    assert await closed_with(socket) == 1000


# --- the handshake


@pytest.mark.parametrize(
    "path", ["/$iothub/websocket/", "/$IoTHub/WebSocket", "/%24iothub/websocket"]
)
async def test_path_matches_in_any_spelling(webfleet: Fleet, path: str) -> None:
    socket = await webfleet.websocket(path=path + "?iothub-no-client-cert=true")
    assert socket.subprotocol == "mqtt"
    await socket.close()


async def refused(fleet: Fleet, **how: object) -> int:
    with pytest.raises(InvalidStatus) as error:
        await fleet.websocket(**how)  # type: ignore[arg-type]
    return error.value.response.status_code


async def test_no_websocket_elsewhere(webfleet: Fleet) -> None:
    assert await refused(webfleet, path="/fleetroot/status") == 404


@pytest.mark.parametrize("offered", [None, ["amqp"], ["mqttv3.1"]])
async def test_subprotocol_must_be_mqtt(webfleet: Fleet, offered: list[str] | None) -> None:
    assert await refused(webfleet, subprotocols=offered) == 400


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost:{port}", "https://localhost:1", "https://localhost",
     "null", "file://", "https://localhost:{port}x", "https://[", "\xe9"],
)  # fmt: skip
async def test_page_of_another_origin_is_refused(webfleet: Fleet, origin: str) -> None:
    origin = origin.format(port=webfleet.bootstrap["httpsPort"])
    assert await refused(webfleet, additional_headers={"Origin": origin}) == 403


async def test_sdk_that_sends_the_host_it_dials_as_origin_is_served(webfleet: Fleet) -> None:
    origin = f"https://localhost:{webfleet.bootstrap['httpsPort']}"
    await (await webfleet.websocket(additional_headers={"Origin": origin})).close()


async def test_other_ports_have_no_websocket(webfleet: Fleet) -> None:
    console = replace(
        webfleet,
        bootstrap=webfleet.bootstrap | {"httpsPort": webfleet.bootstrap["consolePort"]},
    )
    assert await refused(console) == 403


# --- limits


async def test_websocket_without_a_connect_is_dropped(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", connect_seconds=0.05) as fleet:
        socket = await fleet.websocket()
        async with asyncio.timeout(10):
            await socket.wait_closed()
        assert socket.close_code == 1006
        assert (await fleet.refusals())["no CONNECT in time"] == 1


async def test_device_that_was_let_in_is_no_stranger(tmp_path: Path) -> None:
    """Many devices behind one address come in, one after the other."""
    async with Fleet.running(tmp_path / "data", max_strangers_per_source=1) as fleet:
        webfleet = replace(fleet, devices_use_websocket=True)
        certified = [await fleet.provision(f"sensor-{number}") for number in range(3)]
        inside = [
            await webfleet.connect(f"sensor-{number}", each)
            for number, each in enumerate(certified)
        ]
        for each in inside:
            await each.close()
