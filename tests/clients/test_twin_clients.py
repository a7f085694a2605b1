"""Twins by real clients: the Azure SDKs for devices and for services."""

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

HERE = Path(__file__).parent
HAS_SERVICE = bool(list(PYTHON.parents[1].glob("lib/*/site-packages/azure/iot/hub")))
MODEL = "dtmi:com:example:Pump;1"

python_sdk = pytest.mark.skipif(
    not (PYTHON.exists() and HAS_SERVICE),
    reason="the SDKs' environment is missing: `make test` makes it",
)
node_sdk = pytest.mark.skipif(
    NODE is None or not (MODULES / "azure-iothub").exists(),
    reason="Node or its SDKs are missing: install nodejs and npm, and run `make test`",
)
by_websocket = pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])


@asynccontextmanager
async def device(fleet: Fleet, *command: object, **order: Any) -> AsyncIterator[Any]:
    """A device that runs; the next line that it prints."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ
        | {
            "NODE_PATH": str(MODULES),
            "NODE_EXTRA_CA_CERTS": fleet.bootstrap["serverCaFile"],
        },
    )
    assert process.stdin is not None
    assert process.stdout is not None
    ca = Path(fleet.bootstrap["serverCaFile"]).read_text()
    order = {"hub": fleet.hub_host, "ca": ca, "modelId": MODEL} | order
    process.stdin.write(json.dumps(order).encode() + b"\n")
    out = process.stdout

    async def said() -> Any:
        async with asyncio.timeout(30):
            return json.loads(await out.readline())

    try:
        yield said
    finally:
        process.stdin.close()
        await process.wait()


async def check_device(fleet: Fleet, *command: object, websockets: bool) -> None:
    key = await with_key(fleet, "dev-1")
    await fleet.http.patch("/twins/dev-1", json={"properties": {"desired": {"a": {"b": 1}}}})
    order = {"deviceId": "dev-1", "symmetricKey": key, "websockets": websockets}
    async with device(fleet, *command, **order) as said:
        twin = await said()
        assert twin["desired"] == {"a": {"b": 1}, "$version": 2}
        assert twin["reported"]["firmware"] == "1.2"
        await fleet.http.patch(
            "/twins/dev-1", json={"properties": {"desired": {"a": {"b": None, "c": "ñ"}}}}
        )
        assert await said() == {"a": {"b": None, "c": "ñ"}, "$version": 3}
        await fleet.http.put("/twins/dev-1", json={"properties": {"desired": {"z": [1]}}})
        assert await said() == {"a": None, "z": [1], "$version": 4}
    twin = (await fleet.http.get("/twins/dev-1")).json()
    assert twin["properties"]["reported"]["firmware"] == "1.2"


@python_sdk
@by_websocket
async def test_python_device_hears_of_its_desired_properties(
    public_fleet: Fleet, websockets: bool
) -> None:
    await check_device(public_fleet, PYTHON, HERE / "sdk_twin.py", websockets=websockets)


@node_sdk
@by_websocket
async def test_node_device_hears_of_its_desired_properties(
    public_fleet: Fleet, websockets: bool
) -> None:
    await check_device(public_fleet, NODE, HERE / "node" / "twin.js", websockets=websockets)
    assert (await public_fleet.http.get("/twins/dev-1")).json()["modelId"] == MODEL


# --- services


async def python(fleet: Fleet, *calls: list[Any]) -> list[Any]:
    return await run(
        *(PYTHON, HERE / "twin_service.py"),
        order={"connectionString": fleet.bootstrap["hub"]["connectionString"], "calls": calls},
        REQUESTS_CA_BUNDLE=fleet.bootstrap["serverCaFile"],
    )


async def node(fleet: Fleet, *calls: list[Any]) -> list[Any]:
    return await run(
        *(NODE, HERE / "node" / "registry.js"),
        order={"connectionString": fleet.bootstrap["hub"]["connectionString"], "calls": calls},
        NODE_PATH=str(MODULES),
        NODE_EXTRA_CA_CERTS=fleet.bootstrap["serverCaFile"],
    )


def written(twin: dict[str, Any], side: str = "desired") -> dict[str, Any]:
    """The properties without what the hub says of them."""
    section = twin["properties"][side]
    return {key: value for key, value in section.items() if not key.startswith("$")}


@python_sdk
async def test_python_service_reads_patches_and_replaces(public_fleet: Fleet) -> None:
    await public_fleet.provision("dev-1")
    read, patched, stale, replaced, gone = await python(
        public_fleet,
        ["get_twin", "dev-1"],
        ["update_twin", "dev-1", {"twin": {"tags": {"a": 1}, "desired": {"x": 1}}}, "*"],
        ["update_twin", "dev-1", {"twin": {"tags": {"a": 2}}}, "AAAA"],
        ["replace_twin", "dev-1", {"twin": {"desired": {"y": {"z": 2}}}}],
        ["get_twin", "dev-9"],
    )
    assert (read["deviceId"], read["version"], read["authenticationType"]) == (
        "dev-1",
        2,
        "certificateAuthority",
    )
    assert (patched["tags"], written(patched)) == ({"a": 1}, {"x": 1})
    assert patched["properties"]["desired"]["$metadata"]["x"]["$lastUpdatedVersion"] == 2
    assert (stale, gone) == ({"error": 412}, {"error": 404})
    assert (replaced.get("tags") or {}, written(replaced)) == ({}, {"y": {"z": 2}})


@node_sdk
async def test_node_service_reads_and_changes(public_fleet: Fleet) -> None:
    await public_fleet.provision("dev-1")
    read, patched, stale, through, gone = await node(
        public_fleet,
        ["getTwin", "dev-1"],
        ["updateTwin", "dev-1", {"tags": {"a": 1}, "properties": {"desired": {"x": 1}}}, "*"],
        ["updateTwin", "dev-1", {"tags": {"a": 2}}, "AAAA"],
        ["changeThrough", "dev-1", {"tags": {"b": 1}, "properties": {"desired": {"x": None}}}],
        ["getTwin", "dev-9"],
    )
    assert (read["deviceId"], read["version"]) == ("dev-1", 2)
    assert (patched["tags"], written(patched)) == ({"a": 1}, {"x": 1})
    assert stale == {"error": 412, "name": "InvalidEtagError"}
    assert (through["tags"], written(through)) == ({"a": 1, "b": 1}, {})
    assert gone == {"error": 404, "name": "DeviceNotFoundError"}
