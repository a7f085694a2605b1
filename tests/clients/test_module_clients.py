"""Modules by real clients: the device SDKs for Python and Node as the module, the service SDKs as
who makes it and looks at it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_azure_iot_device import PYTHON
from test_azure_node_sdk import MODULES, NODE
from test_identity_clients import KEYS, node, node_sdk, python, python_sdk
from test_twin_clients import device

from fleet import Fleet

HERE = Path(__file__).parent
by_websocket = pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])
node_device = pytest.mark.skipif(
    NODE is None or not (MODULES / "azure-iot-device-mqtt").exists(),
    reason="Node or its SDKs are missing: install nodejs and npm, and run `make test`",
)


async def check_module(fleet: Fleet, *command: object, websockets: bool) -> None:
    for path in "/devices/dev-1", "/devices/dev-1/modules/Mod-1":
        made = await fleet.http.put(path, json={})
        assert made.status_code in (200, 201), made.text
    key = made.json()["authentication"]["symmetricKey"]["primaryKey"]
    twin = "/twins/dev-1/modules/Mod-1"
    await fleet.http.patch(twin, json={"properties": {"desired": {"a": 1}}})
    text = f"HostName={fleet.hub_host};DeviceId=dev-1;ModuleId=Mod-1;SharedAccessKey={key}"
    async with device(fleet, *command, connectionString=text, websockets=websockets) as said:
        seen = await said()
        assert seen["desired"] == {"a": 1, "$version": 2}
        assert seen["reported"]["firmware"] == "1.2"
        await fleet.http.patch(twin, json={"properties": {"desired": {"b": "ñ"}}})
        assert await said() == {"b": "ñ", "$version": 3}
        call = {"methodName": "echo", "payload": {"n": 1}, "connectTimeoutInSeconds": 10}
        answered = await fleet.http.post(f"{twin}/methods", json=call)
        assert answered.json() == {"status": 201, "payload": {"n": 1}}, answered.text
    events = await fleet.events(device="dev-1")
    assert [each["text"] for each in events] == ["1", "2"]
    assert events[0]["properties"] == {"colour": "a/b & c=d"}
    system = events[1]["systemProperties"]
    assert (system["connectionDeviceId"], system["connectionModuleId"]) == ("dev-1", "Mod-1")
    assert system["outputName"] == "out"
    reported = (await fleet.http.get(twin)).json()["properties"]["reported"]
    assert reported["firmware"] == "1.2"


@python_sdk
@by_websocket
async def test_python_module_works(public_fleet: Fleet, websockets: bool) -> None:
    await check_module(public_fleet, PYTHON, HERE / "sdk_module.py", websockets=websockets)


@node_device
@by_websocket
async def test_node_module_works(public_fleet: Fleet, websockets: bool) -> None:
    await check_module(public_fleet, NODE, HERE / "node" / "module.js", websockets=websockets)


def ids(listed: list[dict[str, Any]]) -> list[str]:
    return [each["moduleId"] for each in listed]


@python_sdk
async def test_python_service_makes_changes_and_deletes_modules(public_fleet: Fleet) -> None:
    prints = ["AB" * 20, "CD" * 32]
    _, keyed, own, of_ca, taken, changed, became, listed, got, _, gone = await python(
        public_fleet,
        ["create_device_with_sas", "dev-1", *KEYS, "enabled"],
        ["create_module_with_sas", "dev-1", "key-1", "us", *KEYS],
        ["create_module_with_x509", "dev-1", "own-1", "us", *prints],
        ["create_module_with_certificate_authority", "dev-1", "ca-1", "us"],
        ["create_module_with_sas", "dev-1", "key-1", "us", *KEYS],
        ["update_module_with_sas", "dev-1", "key-1", "them", "$1", KEYS[1], KEYS[0]],
        ["update_module_with_x509", "dev-1", "ca-1", "us", None, *prints],
        ["get_modules", "dev-1"],
        ["get_module", "dev-1", "own-1"],
        ["delete_module", "dev-1", "own-1", "$2"],
        ["get_module", "dev-1", "own-1"],
    )
    assert (keyed["managedBy"], changed["managedBy"]) == ("us", "them")
    assert changed["authentication"]["symmetricKey"]["primaryKey"] == KEYS[1]
    assert own == got
    assert of_ca["authentication"]["type"] == "certificateAuthority"
    assert became["authentication"]["type"] == "selfSigned"
    assert (taken, gone) == ({"error": 409}, {"error": 404})
    assert ids(listed) == ["ca-1", "key-1", "own-1"]


@node_sdk
async def test_node_service_makes_changes_and_deletes_modules(public_fleet: Fleet) -> None:
    _, made, changed, stale, listed, twin, _, left = await node(
        public_fleet,
        ["create", {"deviceId": "dev-1"}],
        ["addModule", {"deviceId": "dev-1", "moduleId": "mod-1", "managedBy": "us"}],
        ["updateModule", {"$": 1, "managedBy": "them"}],
        ["updateModule", {"$": 1, "managedBy": "nobody"}],
        ["getModulesOnDevice", "dev-1"],
        ["getModuleTwin", "dev-1", "mod-1"],
        ["removeModule", "dev-1", "mod-1"],
        ["getModulesOnDevice", "dev-1"],
    )
    assert (made["managedBy"], changed["managedBy"]) == ("us", "them")
    assert stale == {"error": "InvalidEtagError"}
    assert ids(listed) == ["mod-1"]
    assert twin["moduleId"] == "mod-1"
    assert left == []
