"""Cloud-to-device messages to real clients: the Azure SDKs, mosquitto_sub and paho."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from test_azure_iot_device import PYTHON
from test_azure_node_sdk import MODULES, NODE
from test_azure_service_clients import run

from fleet import HUB_VERSION, Fleet

HERE = Path(__file__).parent
HEADERS = {
    "iothub-messageid": "m-1",
    "iothub-correlationid": "c-1",
    "iothub-contenttype": "application/json",
    "iothub-contentencoding": "utf-8",
    "iothub-app-colour": "a/b & c=d",
}


async def send(fleet: Fleet, device: str, body: str, **more: str) -> str:
    """Sends a message; when it expires."""
    sent = await fleet.http.post(
        f"/devices/{device}/messages/deviceBound", content=body, headers=HEADERS | more
    )
    assert sent.status_code == 202, sent.text
    return str(sent.json()["expiresAt"])


async def with_key(fleet: Fleet, device: str) -> str:
    """Provisions a device that works with its key."""
    key, _ = await fleet.enroll(device)
    await fleet.register(device, token=fleet.provisioning_token(device, key))
    return base64.b64encode(key).decode()


async def until_empty(fleet: Fleet) -> None:
    """Waits until every message is acknowledged."""
    async with asyncio.timeout(30):
        while fleet.rows("commands"):
            await asyncio.sleep(0.01)


# --- azure-iot-device for Python


@asynccontextmanager
async def python_device(fleet: Fleet, **order: Any) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        *(str(PYTHON), str(HERE / "sdk_cloud_to_device.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    ca = Path(fleet.bootstrap["serverCaFile"]).read_text()
    process.stdin.write(json.dumps({"hub": fleet.hub_host, "ca": ca} | order).encode() + b"\n")
    try:
        yield process.stdout
    finally:
        process.stdin.close()
        await process.wait()


@pytest.mark.skipif(not PYTHON.exists(), reason="the SDK's environment is missing: `make test`")
@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])
async def test_python_sdk_gets_what_waited_and_what_comes(
    public_fleet: Fleet, websockets: bool
) -> None:
    key = await with_key(public_fleet, "sdk-1")
    expires_at = await send(public_fleet, "sdk-1", '{"n": 1}', **{"iothub-ack": "full"})
    order = {"deviceId": "sdk-1", "symmetricKey": key, "websockets": websockets}
    async with python_device(public_fleet, **order) as lines:
        assert json.loads(await lines.readline()) == {
            "data": '{"n": 1}',
            "messageId": "m-1",
            "correlationId": "c-1",
            "userId": None,
            "contentType": "application/json",
            "contentEncoding": "utf-8",
            "ack": "full",
            "expiry": expires_at,
            "properties": {"colour": "a/b & c=d"},
        }
        await send(public_fleet, "sdk-1", "2")
        assert json.loads(await lines.readline())["data"] == "2"
        await until_empty(public_fleet)


# --- azure-iot-device for Node


def node(name: str) -> Any:
    package = MODULES / f"azure-iot-device-{name}"
    return pytest.mark.skipif(
        NODE is None or not package.exists(),
        reason="Node or its SDKs are missing: install nodejs and npm, and run `make test`",
    )


async def node_device(fleet: Fleet, **order: Any) -> list[dict[str, Any]]:
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        *(NODE, str(HERE / "node/cloud_to_device.js")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ
        | {"NODE_PATH": str(MODULES), "NODE_EXTRA_CA_CERTS": fleet.bootstrap["serverCaFile"]},
    )
    out, err = await process.communicate(json.dumps({"hub": fleet.hub_host} | order).encode())
    assert process.returncode == 0, err.decode()
    return [json.loads(line) for line in out.splitlines()]


@node("mqtt")
@pytest.mark.parametrize("connect_by", ["mqtt", "mqtt-ws"])
async def test_node_sdk_gets_messages_in_their_order(public_fleet: Fleet, connect_by: str) -> None:
    key = await with_key(public_fleet, "node-1")
    expires_at = await send(public_fleet, "node-1", "1")
    await send(public_fleet, "node-1", "2", **{"iothub-app-none": ""})
    order = {"deviceId": "node-1", "symmetricKey": key, "connectBy": connect_by, "messages": 2}
    first, second = await node_device(public_fleet, **order)
    properties = first.pop("properties")
    assert first == {
        "data": "1",
        "messageId": "m-1",
        "correlationId": "c-1",
        "userId": "",
        "contentType": "application/json",
        "contentEncoding": "utf-8",
        "expiryTimeUtc": expires_at,
    }
    assert properties == [["colour", "a/b & c=d"]]
    assert second["data"] == "2"
    assert ["none", ""] in second["properties"]
    await until_empty(public_fleet)


@node("http")
@pytest.mark.parametrize("settle", ["complete", "reject"])
async def test_node_sdk_sends_and_receives_over_https(public_fleet: Fleet, settle: str) -> None:
    key = await with_key(public_fleet, "node-1")
    await send(public_fleet, "node-1", "1", **{"iothub-ack": "full"})
    order = {"deviceId": "node-1", "symmetricKey": key, "connectBy": "http", "messages": 1}
    [got] = await node_device(public_fleet, settle=settle, **order)
    assert (got["data"], got["messageId"], got["correlationId"]) == ("1", "m-1", "c-1")
    assert got["properties"] == [["iothub-app-colour", "a/b & c=d"]]  # so the SDK names them
    events = await public_fleet.events()
    assert [event["text"] for event in events] == ["one", "two", "one"]
    assert events[0]["properties"] == {"colour": "red"}
    assert events[2]["properties"] == {"Colour": "red"}  # JSON keeps what headers do not
    assert events[0]["systemProperties"]["messageId"] == "m-1"
    await until_empty(public_fleet)
    told = await public_fleet.http.get("/messages/serviceBound/feedback")
    [record] = told.json()
    assert record["statusCode"] == {"complete": "Success", "reject": "Rejected"}[settle]


# --- azure-iot-hub for Python, as the service


async def test_service_sdk_purges_and_reads_feedback(public_fleet: Fleet) -> None:
    await with_key(public_fleet, "dev-1")
    await send(public_fleet, "dev-1", "1", **{"iothub-ack": "negative"})
    order = {"connectionString": public_fleet.bootstrap["hub"]["connectionString"]}
    purged, status, length, done, nothing = await run(
        *(PYTHON, HERE / "feedback_client.py"),
        order=order | {"device": "dev-1"},
        REQUESTS_CA_BUNDLE=public_fleet.bootstrap["serverCaFile"],
    )
    assert purged == {"totalMessagesPurged": 1, "deviceId": "dev-1", "moduleId": None}
    assert (status, length, done, nothing) == (200, 1, 204, 204)


# --- mosquitto_sub, paho


@pytest.mark.skipif(
    shutil.which("mosquitto_sub") is None, reason="apt-get install mosquitto-clients"
)
async def test_mosquitto_sub_gets_messages(public_fleet: Fleet, tmp_path: Path) -> None:
    held = await public_fleet.provision("mos-1")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(held.leaf.public_bytes(Encoding.PEM))
    key.write_bytes(held.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    await send(public_fleet, "mos-1", "hello")
    process = await asyncio.create_subprocess_exec(
        "mosquitto_sub",
        *("-h", public_fleet.hub_host, "-p", str(public_fleet.bootstrap["mqttPort"])),
        *("-V", "mqttv311", "-q", "1", "-i", "mos-1", "-C", "1", "-W", "30"),
        *("-u", f"{public_fleet.hub_host}/mos-1/?api-version={HUB_VERSION}"),
        *("--cafile", public_fleet.bootstrap["serverCaFile"]),
        *("--cert", str(certificate), "--key", str(key)),
        *("-t", "devices/mos-1/messages/devicebound/#", "-F", "%t %p"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    topic, _, payload = out.decode().strip().partition(" ")
    assert topic.startswith("devices/mos-1/messages/devicebound/%24.mid=m-1&")
    assert payload == "hello"
    await until_empty(public_fleet)


async def test_paho_gets_again_what_it_did_not_acknowledge(public_fleet: Fleet) -> None:
    key = base64.b64decode(await with_key(public_fleet, "paho-1"))
    loop = asyncio.get_running_loop()
    got: asyncio.Queue[bytes] = asyncio.Queue()

    def connect(*, acknowledges: bool) -> paho.Client:
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            "paho-1",
            clean_session=False,
            manual_ack=not acknowledges,
        )
        client.username_pw_set(
            f"{public_fleet.hub_host}/paho-1/?api-version={HUB_VERSION}",
            public_fleet.hub_token("paho-1", key).decode(),
        )
        client.tls_set(public_fleet.bootstrap["serverCaFile"], tls_version=ssl.PROTOCOL_TLS_CLIENT)
        client.on_connect = lambda *_: client.subscribe("devices/paho-1/messages/devicebound/#", 1)
        client.on_message = lambda *said: loop.call_soon_threadsafe(
            got.put_nowait, said[-1].payload
        )
        client.connect_async(public_fleet.hub_host, public_fleet.bootstrap["mqttPort"])
        client.loop_start()
        return client

    async def next_two() -> list[bytes]:
        async with asyncio.timeout(30):
            return [await got.get(), await got.get()]

    for body in ("1", "2"):
        await send(public_fleet, "paho-1", body)
    for acknowledges in (False, True):
        client = connect(acknowledges=acknowledges)
        assert await next_two() == [b"1", b"2"]
        if acknowledges:
            await until_empty(public_fleet)
        await asyncio.to_thread(client.disconnect)
        await asyncio.to_thread(client.loop_stop)
