"""Identities by the unmodified service SDKs: `azure-iot-hub` (Python) and `azure-iothub` (Node)."""

from __future__ import annotations

import base64
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from test_azure_iot_device import PYTHON
from test_azure_node_sdk import MODULES, NODE
from test_azure_service_clients import run

from fleet import Fleet
from manufacturer import self_signed

HERE = Path(__file__).parent
KEYS = [base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2)]
python_sdk = pytest.mark.skipif(
    not PYTHON.exists(), reason="the SDK's environment is missing: `make test`"
)
node_sdk = pytest.mark.skipif(
    NODE is None or not (MODULES / "azure-iothub").exists(),
    reason="Node or its SDKs are missing: install nodejs and npm, and run `make test`",
)


async def python(fleet: Fleet, *calls: list[Any]) -> list[Any]:
    return await run(
        *(PYTHON, HERE / "identity_client.py"),
        order={"connectionString": fleet.bootstrap["hub"]["connectionString"], "calls": calls},
        REQUESTS_CA_BUNDLE=fleet.bootstrap["serverCaFile"],
    )


async def node(fleet: Fleet, *calls: list[Any]) -> list[Any]:
    assert NODE is not None
    return await run(
        *(NODE, HERE / "node" / "identities.js"),
        order={"connectionString": fleet.bootstrap["hub"]["connectionString"], "calls": calls},
        NODE_PATH=str(MODULES),
        NODE_EXTRA_CA_CERTS=fleet.bootstrap["serverCaFile"],
    )


@python_sdk
async def test_python_creates_changes_and_deletes_by_every_kind_of_proof(
    public_fleet: Fleet,
) -> None:
    held = self_signed("own-1")
    thumbprint = sha1(held.chain[0]).hexdigest()
    keyed, own, of_ca, taken, changed, stale, became, same, gone, nobody = await python(
        public_fleet,
        ["create_device_with_sas", "key-1", *KEYS, "enabled", False, "new"],
        ["create_device_with_x509", "own-1", thumbprint, "", "enabled"],
        ["create_device_with_certificate_authority", "ca-1", "disabled"],
        ["create_device_with_sas", "key-1", *KEYS, "enabled"],
        ["update_device_with_sas", "key-1", "$0", *KEYS, "disabled", False, "in repair"],
        ["update_device_with_sas", "key-1", "$0", *KEYS, "enabled"],
        ["update_device_with_x509", "key-1", None, thumbprint, thumbprint, "enabled"],
        ["update_device_with_certificate_authority", "ca-1", "$2", "enabled"],
        ["delete_device", "key-1"],
        ["get_device", "key-1"],
    )
    assert keyed["authentication"]["symmetricKey"]["primaryKey"] == KEYS[0]
    assert (keyed["status"], keyed["statusReason"]) == ("enabled", "new")
    assert own["authentication"]["x509Thumbprint"]["primaryThumbprint"] == thumbprint.upper()
    assert of_ca["authentication"]["type"] == "certificateAuthority"
    assert of_ca["connectionStateUpdatedTime"] == "0001-01-01T00:00:00.000Z"
    assert (taken, stale, nobody) == ({"error": 409}, {"error": 412}, {"error": 404})
    assert (changed["status"], changed["statusReason"]) == ("disabled", "in repair")
    assert became["authentication"]["type"] == "selfSigned"
    assert same["status"] == "enabled"
    assert gone is None
    async with await public_fleet.connect("own-1", held):
        pass


@python_sdk
async def test_python_lists_and_changes_many_at_once(public_fleet: Fleet) -> None:
    made, again, listed, first, statistics = await python(
        public_fleet,
        ["bulk", *({"id": f"dev-{n}", "import_mode": "create", "keys": KEYS} for n in range(3))],
        [
            "bulk",
            {"id": "dev-0", "import_mode": "create", "keys": KEYS},
            {"id": "dev-1", "import_mode": "update", "status": "disabled", "keys": KEYS},
            {"id": "dev-2", "import_mode": "delete"},
        ],
        ["get_devices"],
        ["get_devices", 1],
        ["get_device_registry_statistics"],
    )
    assert made == {"isSuccessful": True, "errors": [], "warnings": []}
    assert not again["isSuccessful"]
    [error] = again["errors"]
    assert (error["deviceId"], error["errorCode"]) == ("dev-0", "DeviceAlreadyExists")
    assert error["operation"] == "create"
    assert [(each["deviceId"], each["status"]) for each in listed] == [
        ("dev-0", "enabled"),
        ("dev-1", "disabled"),
    ]
    assert [each["deviceId"] for each in first] == ["dev-0"]
    assert statistics["totalDeviceCount"] == 2
    assert statistics["disabledDeviceCount"] == 1


@node_sdk
async def test_node_creates_changes_lists_and_deletes(public_fleet: Fleet) -> None:
    made, got, disabled, taken, moved, listed, _, gone = await node(
        public_fleet,
        ["create", {"deviceId": "dev-1", "status": "enabled"}],
        ["get", "dev-1"],
        ["update", {"deviceId": "dev-1", "status": "disabled"}],
        ["create", {"deviceId": "dev-1"}],
        ["update", {"$": 0, "statusReason": "moved"}],
        ["list"],
        ["delete", "dev-1"],
        ["get", "dev-1"],
    )
    keys = made["authentication"]["symmetricKey"]
    assert len(base64.b64decode(keys["primaryKey"])) == 32
    assert got == made
    assert disabled["status"] == "disabled"
    # It sent empty keys, as it does where no authentication is given.
    assert disabled["authentication"] == made["authentication"]
    assert taken == {"error": "DeviceAlreadyExistsError"}
    assert (moved["status"], moved["statusReason"]) == ("enabled", "moved")
    assert [each["deviceId"] for each in listed] == ["dev-1"]
    assert gone == {"error": "DeviceNotFoundError"}


@node_sdk
async def test_node_changes_many_at_once(public_fleet: Fleet) -> None:
    devices = [{"deviceId": f"dev-{n}", "status": "enabled"} for n in range(3)]
    made, listed, changed, removed, left = await node(
        public_fleet,
        ["addDevices", devices],
        ["list"],
        ["updateDevices", [{**each, "status": "disabled"} for each in devices], True],
        ["removeDevices", devices[:2], True],
        ["list"],
    )
    assert made["isSuccessful"], made
    assert len(listed) == 3
    assert changed["isSuccessful"], changed
    assert removed["isSuccessful"], removed
    assert [(each["deviceId"], each["status"]) for each in left] == [("dev-2", "disabled")]
