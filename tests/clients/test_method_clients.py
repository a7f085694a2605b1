"""Direct methods with the unmodified Azure SDKs for Python and Node on either side."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from test_azure_iot_device import PYTHON
from test_azure_node_sdk import MODULES, NODE
from test_azure_service_clients import run
from test_cloud_to_device_clients import with_key

from fleet import Fleet
from fleetroot.hub.model import Channel

HERE = Path(__file__).parent
HAS_NODE = NODE is not None and (MODULES / "azure-iothub").exists()

python_sdk = pytest.mark.skipif(
    not PYTHON.exists(), reason="the SDKs' environment is missing: `make test` makes it"
)
node_sdk = pytest.mark.skipif(
    not HAS_NODE, reason="Node or its SDKs are missing: install nodejs and npm, and run `make test`"
)


@asynccontextmanager
async def device(fleet: Fleet, *command: object, **order: Any) -> AsyncIterator[None]:
    """A device in a process of its own, that listens to methods."""
    ca = fleet.bootstrap["serverCaFile"]
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"NODE_PATH": str(MODULES), "NODE_EXTRA_CA_CERTS": ca},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    key = await with_key(fleet, "dev-1")
    order |= {"hub": fleet.hub_host, "deviceId": "dev-1", "symmetricKey": key}
    order["ca"] = Path(ca).read_text()
    process.stdin.write(json.dumps(order).encode() + b"\n")
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"ready\n"
            while not any(Channel.METHODS in each.subscriptions for each in fleet.server.hubs.live):
                await asyncio.sleep(0.01)
        yield
    finally:
        process.stdin.close()
        await process.wait()


async def python_service(fleet: Fleet, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    order = {"connectionString": fleet.bootstrap["hub"]["connectionString"], "calls": calls}
    return await run(
        *(PYTHON, HERE / "method_client.py"),
        order=order,
        REQUESTS_CA_BUNDLE=fleet.bootstrap["serverCaFile"],
    )


async def node_service(fleet: Fleet, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    order = {"connectionString": fleet.bootstrap["hub"]["connectionString"], "calls": calls}
    return await run(
        *(NODE, HERE / "node/method_service.js"),
        order=order,
        NODE_PATH=str(MODULES),
        NODE_EXTRA_CA_CERTS=fleet.bootstrap["serverCaFile"],
    )


@python_sdk
@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])
async def test_python_service_calls_python_device(public_fleet: Fleet, websockets: bool) -> None:
    async with device(public_fleet, PYTHON, HERE / "sdk_methods.py", websockets=websockets):
        found = await python_service(
            public_fleet,
            ("dev-1", {"method_name": "reboot", "payload": {"delay": [1, "ä", None]}}),
            ("dev-1", {"method_name": "sensor1*read"}),
            ("dev-1", {"method_name": "404", "payload": 1, "response_timeout_in_seconds": 10}),
            ("nobody", {"method_name": "reboot", "connect_timeout_in_seconds": 5}),
            ("dev-1", {"method_name": "a/b"}),
        )
    assert found == [
        {"status": 200, "payload": {"name": "reboot", "got": {"delay": [1, "ä", None]}}},
        {"status": 200, "payload": {"name": "sensor1*read", "got": ""}},
        {"status": 404, "payload": {"name": "404", "got": 1}},
        {"error": 404, "name": "DeviceNotFound"},
        {"error": 400, "name": "ArgumentInvalid"},
    ]


@node_sdk
@pytest.mark.parametrize("connect_by", ["mqtt", "mqtt-ws"])
async def test_node_service_calls_node_device(public_fleet: Fleet, connect_by: str) -> None:
    command = (NODE, HERE / "node/method_device.js")
    async with device(public_fleet, *command, connectBy=connect_by):
        found = await node_service(
            public_fleet,
            ("dev-1", {"methodName": "echo", "payload": {"x": ["ä", 1.5]}}),
            ("dev-1", {"methodName": "echo"}),
            ("dev-1", {"methodName": "empty", "payload": ""}),
            ("dev-1", {"methodName": "fail", "payload": 0, "responseTimeoutInSeconds": 10}),
            ("dev-1", {"methodName": "unknown", "responseTimeoutInSeconds": 5}),
            ("nobody", {"methodName": "echo"}),
        )
    assert found == [
        {"status": 200, "payload": {"got": {"x": ["ä", 1.5]}}},
        {"status": 200, "payload": {"got": None}},
        {"status": 204, "payload": None},
        {"status": 500, "payload": "no"},
        {"error": 504, "name": "GatewayTimeoutError"},  # the SDK answers nothing
        {"error": 404, "name": "Error"},  # of an envelope that this SDK does not look into
    ]


@python_sdk
@node_sdk
async def test_device_that_left_is_said_by_both_services(public_fleet: Fleet) -> None:
    async with device(public_fleet, PYTHON, HERE / "sdk_methods.py", websockets=False):
        pass
    while len(public_fleet.server.hubs.live):
        await asyncio.sleep(0.01)
    assert await python_service(public_fleet, ("dev-1", {"method_name": "m"})) == [
        {"error": 404, "name": "DeviceNotOnline"}
    ]
    [found] = await node_service(public_fleet, ("dev-1", {"methodName": "m"}))
    assert found["error"] == 404
