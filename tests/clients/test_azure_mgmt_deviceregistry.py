"""The unmodified `azure-mgmt-deviceregistry` as the operator."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet
from fleetroot.access import EVERYWHERE, Grant, Role
from fleetroot.audit import SYSTEM

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sdk/bin/python"
SCRIPT = ROOT / "tests/clients/management_client.py"

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="the SDKs' environment is missing: `make test` makes it"
)


def call(name: str, *arguments: Any, **keywords: Any) -> list[Any]:
    return [name, list(arguments), keywords]


async def sdk(
    fleet: Fleet, *calls: list[Any], token: str | None = None, client: str = "registry"
) -> list[Any]:
    """What each call of the SDK gave."""
    order = {
        "url": f"https://{fleet.bootstrap['hostname']}:{fleet.bootstrap['httpsPort']}",
        "token": token or fleet.bootstrap["adminToken"],
        "ca": fleet.bootstrap["serverCaFile"],
        "subscription": fleet.bootstrap["subscriptionId"],
        "client": client,
        "calls": calls,
    }
    process = await asyncio.create_subprocess_exec(
        str(PYTHON),
        str(SCRIPT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(json.dumps(order).encode())
    assert process.returncode == 0, err.decode()
    return list(json.loads(out))


class Devices:
    """Calls on the devices of the bootstrapped namespace."""

    def __init__(self, fleet: Fleet) -> None:
        self._at = (fleet.bootstrap["resourceGroup"], fleet.bootstrap["namespace"])

    def put(self, name: str, *, location: str = "here", **properties: Any) -> list[Any]:
        body = {"location": location, "tags": {"site": "plant"}, "properties": properties}
        return call("namespace_devices.begin_create_or_replace", *self._at, name, body)

    def get(self, name: str) -> list[Any]:
        return call("namespace_devices.get", *self._at, name)

    def update(self, name: str, **body: Any) -> list[Any]:
        return call("namespace_devices.begin_update", *self._at, name, body)

    def delete(self, name: str) -> list[Any]:
        return call("namespace_devices.begin_delete", *self._at, name)

    def list(self) -> list[Any]:
        return call("namespace_devices.list_by_resource_group", *self._at)

    def revoke(self, name: str, **body: Any) -> list[Any]:
        return call("namespace_devices.begin_revoke", *self._at, name, body)


@pytest.fixture
def devices(fleet: Fleet) -> Devices:
    return Devices(fleet)


async def test_device_is_created_read_changed_and_deleted(fleet: Fleet, devices: Devices) -> None:
    described = {"manufacturer": "Acme", "model": "M1", "attributes": {"line": 4, "deep": [1]}}
    created, read, changed, replaced, deleted, gone = await sdk(
        fleet,
        devices.put("press-7", **described, operatingSystemVersion="1.0"),
        devices.get("PRESS-7"),
        devices.update(
            "press-7",
            tags={"site": "yard"},
            properties={"operatingSystemVersion": "1.1", "enabled": False},
        ),
        devices.put("press-7", manufacturer="Acme"),
        devices.delete("press-7"),
        devices.get("press-7"),
    )
    properties = created["properties"]
    assert properties["provisioningState"] == "Succeeded"
    assert described.items() <= properties.items()
    assert (properties["enabled"], properties["version"]) == (True, 1)
    assert created["id"].endswith("/Microsoft.DeviceRegistry/namespaces/default/devices/press-7")
    assert (created["name"], created["location"]) == ("press-7", "here")
    assert created["tags"] == {"site": "plant"}
    assert read == created
    assert changed["tags"] == {"site": "yard"}
    assert changed["properties"]["operatingSystemVersion"] == "1.1"
    assert changed["properties"]["manufacturer"] == "Acme"
    assert changed["properties"]["enabled"] is False
    assert changed["etag"] != created["etag"]
    assert replaced["properties"]["uuid"] == properties["uuid"]
    assert replaced["properties"]["enabled"] is True
    assert "model" not in replaced["properties"]
    assert deleted is None
    assert gone["error"]["status"] == 404
    assert gone["error"]["code"] == "ResourceNotFound"


async def test_devices_are_listed_page_by_page(fleet: Fleet, devices: Devices) -> None:
    for number in range(230):
        await fleet.register(f"dev-{number:03}")
    [listed] = await sdk(fleet, devices.list())
    assert [device["name"] for device in listed] == [f"dev-{number:03}" for number in range(230)]


async def test_device_that_provisioned_is_described_and_revoked(
    fleet: Fleet, devices: Devices
) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    read, changed = await sdk(
        fleet, devices.get("dev-1"), devices.update("dev-1", properties={"attributes": {"a": 1}})
    )
    assert read["properties"]["policy"]["resourceId"].endswith("/policies/default")
    assert changed["properties"]["attributes"] == {"a": 1}
    await (await fleet.connect("dev-1", certified)).close()  # a description decides nothing
    mqtt = await fleet.connect("dev-1", certified)
    [revoked] = await sdk(fleet, devices.revoke("dev-1", disable=True))
    assert revoked is None
    await mqtt.wait_closed()
    [only] = await fleet.certificates("dev-1")
    assert only["status"] == "revoked"
    [read] = await sdk(fleet, devices.get("dev-1"))
    assert read["properties"]["enabled"] is False


async def test_device_that_is_deleted_is_dropped_and_its_certificate_revoked(
    fleet: Fleet, devices: Devices
) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    await sdk(fleet, devices.delete("dev-1"))
    await mqtt.wait_closed()
    [only] = await fleet.certificates("dev-1")
    assert only["status"] == "revoked"
    again = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", again)).close()


async def test_device_is_made_under_a_policy_and_then_provisions(
    fleet: Fleet, devices: Devices
) -> None:
    [listed] = await sdk(fleet, devices.put("dev-1"))
    policy = listed["id"].replace("/devices/dev-1", "/credentials/default/policies/default")
    [made] = await sdk(fleet, devices.put("dev-1", policy={"resourceId": policy}))
    assert made["properties"]["policy"]["resourceId"] == policy
    certified = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", certified)).close()


@pytest.mark.parametrize(
    ("name", "properties", "status"),
    [
        ("white space", {}, 400),
        ("x" * 200, {}, 400),
        ("dev-1", {"attributes": {"big": "x" * 70_000}}, 400),
        ("dev-1", {"policy": {"resourceId": "/subscriptions/other"}}, 400),
        ("dev-1", {"manufacturer": ""}, 400),
        ("dev-1", {"enabled": "perhaps"}, 400),
    ],
)
async def test_device_that_cannot_be_is_refused_in_the_shape_that_the_sdk_reads(
    fleet: Fleet, devices: Devices, name: str, properties: dict[str, Any], status: int
) -> None:
    refused, listed = await sdk(fleet, devices.put(name, **properties), devices.list())
    assert refused["error"]["status"] == status, refused
    assert refused["error"]["code"] == "InvalidParameter"
    assert refused["error"]["message"]
    assert listed == []


async def test_role_that_is_too_small_is_403(fleet: Fleet, devices: Devices) -> None:
    _, text = await fleet.server.access.create_token(
        "viewer", Grant(Role.READER, EVERYWHERE), by=SYSTEM
    )
    refused, listed = await sdk(fleet, devices.put("dev-1"), devices.list(), token=text.text)
    assert (refused["error"]["status"], refused["error"]["code"]) == (403, "AuthorizationFailed")
    assert listed == []


async def test_namespace_that_is_none_is_404(fleet: Fleet) -> None:
    group = fleet.bootstrap["resourceGroup"]
    missing, elsewhere = await sdk(
        fleet,
        call("namespace_devices.get", group, "other", "dev-1"),
        call("namespace_devices.get", "elsewhere", "default", "dev-1"),
    )
    assert missing["error"]["status"] == elsewhere["error"]["status"] == 404
