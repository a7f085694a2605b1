"""A server behind a balancer: the PROXY header says who the device is, on every wire."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.client as websocket
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from fleet import Fleet, Mqtt, Refused
from fleetroot.gateway.mqtt import Connect
from fleetroot.gateway.tls.proxy_protocol import SIGNATURE

DEVICE = "203.0.113.7:4711"
HEADER = (
    SIGNATURE
    + b"\x21\x11\x00\x0c"
    + socket.inet_aton("203.0.113.7")
    + socket.inet_aton("198.51.100.1")
    + (4711).to_bytes(2)
    + (8883).to_bytes(2)
)


@pytest.fixture
async def balanced(tmp_path: Path) -> AsyncIterator[Fleet]:
    """A server that believes balancers on this machine."""
    async with Fleet.running(tmp_path / "data", trusted_proxies=("127.0.0.0/8",)) as fleet:
        yield fleet


def dial(fleet: Fleet, port: str) -> socket.socket:
    """A connection as the balancer opens it: its header comes before TLS."""
    connection = socket.create_connection((fleet.bootstrap["bind"], fleet.bootstrap[port]))
    connection.sendall(HEADER)
    connection.setblocking(False)
    return connection


async def stream(fleet: Fleet, port: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        sock=dial(fleet, port), ssl=fleet.trust(), server_hostname="localhost"
    )


def peer_of_the_refusal(lines: list[Any]) -> str:
    (line,) = [line for line in lines if line["event"] == "refused"]
    return str(line["peer"])


async def test_refused_connect_names_the_device(balanced: Fleet) -> None:
    with capture_logs() as lines, pytest.raises(Refused):
        await Mqtt(*await stream(balanced, "mqttPort")).connect(
            Connect("dev-1", username="localhost/dev-1/?api-version=2021-04-12")
        )
    assert peer_of_the_refusal(lines) == DEVICE


async def test_refused_registration_over_https_names_the_device(balanced: Fleet) -> None:
    with capture_logs() as lines:
        reader, writer = await stream(balanced, "httpsPort")
        path = f"/{balanced.id_scope}/registrations/dev-1/register?api-version=2026-11-01"
        writer.write(
            f"PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{{}}".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 401 " in head
        writer.close()
    assert peer_of_the_refusal(lines) == DEVICE


async def test_what_a_proxy_says_in_a_header_is_not_believed(balanced: Fleet) -> None:
    with capture_logs() as lines:
        reader, writer = await stream(balanced, "httpsPort")
        writer.write(
            b"GET /fleetroot/status HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.1\r\n\r\n"
        )
        assert b" 401 " in await reader.readline()
        writer.close()
    assert peer_of_the_refusal(lines) == DEVICE


async def over_websocket(fleet: Fleet, **how: Any) -> websocket.ClientConnection:
    return await websocket.connect(
        f"wss://localhost:{fleet.bootstrap['httpsPort']}/$iothub/websocket",
        ssl=fleet.trust(),
        sock=dial(fleet, "httpsPort"),
        server_hostname="localhost",
        **how,
    )


async def test_refused_websocket_names_the_device(balanced: Fleet) -> None:
    with capture_logs() as lines, pytest.raises(InvalidStatus):
        await over_websocket(balanced, subprotocols=["amqp"])
    assert peer_of_the_refusal(lines) == DEVICE


async def test_device_that_is_refused_over_a_websocket_is_named(balanced: Fleet) -> None:
    with capture_logs() as lines:
        socket_ = await over_websocket(balanced, subprotocols=["mqtt"])
        await socket_.send(b"no MQTT at all")
        await socket_.wait_closed()
    assert peer_of_the_refusal(lines) == DEVICE


async def test_operator_behind_the_balancer_is_not_taken_for_this_machine(balanced: Fleet) -> None:
    reader, writer = await stream(balanced, "httpsPort")
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b" 401 " in await reader.readline()
    writer.close()


async def test_device_provisions_behind_the_balancer(balanced: Fleet) -> None:
    mqtt = Mqtt(*await stream(balanced, "mqttPort"))
    name = f"{balanced.id_scope}/registrations/dev-1/api-version=2026-11-01"
    token = balanced.provisioning_token("dev-1")
    await mqtt.connect(Connect("dev-1", username=name, password=token))
    await mqtt.subscribe("$dps/registrations/res/#")
    answer = await mqtt.ask("$dps/registrations/PUT/iotdps-register/", json.dumps({}).encode())
    assert answer.status == 200
    await mqtt.close()
