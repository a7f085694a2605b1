"""The unmodified `azure-mgmt-iothub` as the operator of hubs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_azure_mgmt_deviceregistry import PYTHON, call, sdk

from fleet import Fleet
from fleetroot import sas
from fleetroot.access import EVERYWHERE, Grant, Role
from fleetroot.audit import SYSTEM

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="the SDKs' environment is missing: `make test` makes it"
)

HUB = {"location": "here", "sku": {"name": "S1", "capacity": 1}, "tags": {"site": "plant"}}
ALL_RIGHTS = "RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect"


class Hubs:
    """Calls on hubs of the server's resource group."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.group = fleet.bootstrap["resourceGroup"]

    async def ask(self, *calls: list[Any], token: str | None = None) -> list[Any]:
        return await sdk(self.fleet, *calls, token=token, client="hubs")

    def put(self, name: str, *, etag: str | None = None, **more: Any) -> list[Any]:
        more_of = {"if_match": etag} if etag else {}
        return self.call("begin_create_or_update", name, HUB | more, **more_of)

    def call(self, method: str, *arguments: Any, **keywords: Any) -> list[Any]:
        return call(f"iot_hub_resource.{method}", self.group, *arguments, **keywords)


@pytest.fixture
def hubs(fleet: Fleet) -> Hubs:
    return Hubs(fleet)


async def shown(fleet: Fleet, server_name: str, port: str = "mqttPort") -> None:
    """A TLS handshake by that name, of a client that trusts what it was given at the start.

    Raises:
        ssl.SSLCertVerificationError: the server shows nothing for it.
    """
    _, writer = await asyncio.open_connection(
        fleet.bootstrap["bind"],
        fleet.bootstrap[port],
        ssl=fleet.trust(),
        server_hostname=server_name,
    )
    writer.close()


async def link(fleet: Fleet, *hosts: str) -> None:
    """Lets the first provisioning service assign devices to these hubs, and no others."""
    path = f"{provider(fleet)}/provisioningServices/default?api-version=2026-11-01"
    links = [{"hostName": host, "location": "here"} for host in hosts]
    body = {"location": "here", "properties": {"iotHubs": links}}
    answer = await fleet.http.put(path, json=body)
    assert answer.status_code == 200, answer.text


async def delete(fleet: Fleet, hub: str) -> httpx.Response:
    return await fleet.http.delete(f"{provider(fleet)}/IotHubs/{hub}?api-version=2023-06-30")


def provider(fleet: Fleet) -> str:
    of = fleet.bootstrap
    return (
        f"/subscriptions/{of['subscriptionId']}/resourceGroups/{of['resourceGroup']}"
        "/providers/Microsoft.Devices"
    )


def keys(listed: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {each["key_name"]: (each["primary_key"], each["secondary_key"]) for each in listed}


async def test_hub_is_created_read_changed_listed_and_deleted(hubs: Hubs) -> None:
    created, read, tagged, replaced, listed, in_all, deleted, again, gone = await hubs.ask(
        hubs.put("plant"),
        hubs.call("get", "PLANT"),
        hubs.call("begin_update", "plant", {"tags": {"site": "yard"}}),
        hubs.put("plant", sku={"name": "S2", "capacity": 2}),
        hubs.call("list_by_resource_group"),
        call("iot_hub_resource.list_by_subscription"),
        hubs.call("begin_delete", "plant"),
        hubs.call("begin_delete", "plant"),
        hubs.call("get", "plant"),
    )
    assert created["id"].endswith("/providers/Microsoft.Devices/IotHubs/plant")
    assert created["type"] == "Microsoft.Devices/IotHubs"
    assert created["properties"]["host_name"] == "plant.localhost"
    assert created["properties"]["provisioning_state"] == "Succeeded"
    assert created["properties"]["state"] == "Active"
    assert created["sku"] == {"name": "S1", "tier": "Standard", "capacity": 1}
    assert created["tags"] == {"site": "plant"}
    assert created["system_data"]["created_at"]
    assert read == created
    assert tagged["tags"] == {"site": "yard"}
    assert tagged["etag"] != created["etag"]
    assert (replaced["sku"]["name"], replaced["sku"]["capacity"]) == ("S2", 2)
    assert replaced["properties"] == created["properties"]
    assert [hub["name"] for hub in listed] == ["default", "plant"]
    assert in_all == listed
    assert deleted is again is None
    assert (gone["error"]["status"], gone["error"]["code"]) == (404, "ResourceNotFound")


async def test_new_hub_is_reached_by_its_name_at_once_with_the_trust_of_before(
    fleet: Fleet, hubs: Hubs
) -> None:
    trust = Path(fleet.bootstrap["serverCaFile"])
    before = trust.read_text()
    with pytest.raises(ssl.SSLCertVerificationError):
        await shown(fleet, "plant.localhost")
    await hubs.ask(hubs.put("plant"))
    for port in ("mqttPort", "httpsPort", "consolePort"):
        await shown(fleet, "plant.localhost", port)
    assert trust.read_text() == before


async def test_connections_live_on_when_a_hub_is_made(fleet: Fleet, hubs: Hubs) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        await hubs.ask(hubs.put("plant"))
        await mqtt.publish("devices/dev-1/messages/events/", b"still here")


async def test_device_provisions_to_a_hub_that_was_made_here(fleet: Fleet, hubs: Hubs) -> None:
    await hubs.ask(hubs.put("plant"))
    await fleet.http.post("/fleetroot/namespaces/default/synchronize")
    await link(fleet, "plant.localhost")
    certified = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", certified, host="plant.localhost")).close()


# --- keys


async def test_keys_are_listed_all_and_by_name(fleet: Fleet, hubs: Hubs) -> None:
    listed, one, other, read = await hubs.ask(
        hubs.call("list_keys", "default"),
        hubs.call("get_keys_for_key_name", "default", "iothubowner"),
        hubs.call("get_keys_for_key_name", "default", "nobody"),
        hubs.call("get", "default"),
    )
    assert {each["key_name"]: each["rights"] for each in listed} == {
        "device": "DeviceConnect",
        "iothubowner": ALL_RIGHTS,
        "registryRead": "RegistryRead",
        "registryReadWrite": "RegistryRead, RegistryWrite",
        "service": "ServiceConnect",
    }
    assert one in listed
    assert one["primary_key"] in fleet.bootstrap["hub"]["connectionString"]
    assert other["error"]["status"] == 404
    for primary, secondary in keys(listed).values():
        assert primary not in str(read)
        assert secondary not in str(read)


async def test_key_is_changed_as_the_command_line_of_azure_does_it(
    fleet: Fleet, hubs: Hubs
) -> None:
    """It lists the keys, changes one, and puts all of them."""
    [listed] = await hubs.ask(hubs.call("list_keys", "default"))
    new = sas.encode_key(sas.new_key())
    rules = [
        {
            "keyName": each["key_name"],
            "primaryKey": new if each["key_name"] == "device" else each["primary_key"],
            "secondaryKey": each["secondary_key"],
            "rights": each["rights"],
        }
        for each in listed
    ]
    _, after = await hubs.ask(
        hubs.put("default", properties={"authorizationPolicies": rules}),
        hubs.call("list_keys", "default"),
    )
    before = keys(listed)
    assert keys(after) == before | {"device": (new, before["device"][1])}


async def test_key_that_was_changed_lets_nobody_in_and_the_new_one_does(
    fleet: Fleet, hubs: Hubs
) -> None:
    await fleet.enroll("dev-1")
    [device] = await hubs.ask(hubs.call("get_keys_for_key_name", "default", "device"))
    policy = await fleet.server.hubs.shared_access_policy(
        await fleet.server.hubs.by_name("default"), "device"
    )
    assert policy is not None
    assert device["primary_key"] == sas.encode_key(policy.primary_key)
    rules = [{"keyName": "device", "rights": "DeviceConnect", "secondaryKey": None}]
    rules[0]["primaryKey"] = sas.encode_key(new := sas.new_key())
    await hubs.ask(hubs.put("default", properties={"authorizationPolicies": rules}))
    policy = await fleet.server.hubs.shared_access_policy(
        await fleet.server.hubs.by_name("default"), "device"
    )
    assert policy is not None
    assert policy.primary_key == new
    assert sas.encode_key(policy.secondary_key) == device["secondary_key"]


async def test_policies_that_are_left_out_of_a_list_go_and_new_ones_get_keys(hubs: Hubs) -> None:
    rules = [{"keyName": "reader", "rights": "RegistryRead"}]
    _, listed, kept, still = await hubs.ask(
        hubs.put("plant", properties={"authorizationPolicies": rules}),
        hubs.call("list_keys", "plant"),
        hubs.put("plant"),
        hubs.call("list_keys", "plant"),
    )
    assert [each["key_name"] for each in listed] == ["reader"]
    assert len(sas.decode_key(listed[0]["primary_key"])) == sas.KEY_BYTES
    assert kept["name"] == "plant"
    assert still == listed


async def test_who_reads_keys_and_changes_them_is_in_the_audit_log(
    fleet: Fleet, hubs: Hubs
) -> None:
    [listed, _] = await hubs.ask(
        hubs.call("list_keys", "default"),
        hubs.put(
            "default",
            properties={
                "authorizationPolicies": [{"keyName": "iothubowner", "rights": ALL_RIGHTS}]
            },
        ),
    )
    answer = await fleet.http.get("/fleetroot/audit/entries")
    found = {entry["action"]: entry for entry in answer.json()["value"]}
    assert found["keys.read"]["subject"] == "hub/default"
    assert found["keys.read"]["actor"] == "bootstrap"
    assert found["hub.update"]["details"]["policies"] == [
        "device",
        "registryRead",
        "registryReadWrite",
        "service",
    ]
    for primary, _ in keys(listed).values():
        assert primary not in answer.text


# --- names


async def test_name_is_looked_at_before_it_is_taken(hubs: Hubs) -> None:
    free, taken, bad = await hubs.ask(
        *(
            call("iot_hub_resource.check_name_availability", {"name": name})
            for name in ("plant", "DEFAULT", "no good")
        )
    )
    assert free == {"name_available": True}
    assert (taken["name_available"], taken["reason"]) == (False, "AlreadyExists")
    assert (bad["name_available"], bad["reason"]) == (False, "Invalid")


async def test_name_of_another_resource_group_is_taken(hubs: Hubs) -> None:
    elsewhere = call("iot_hub_resource.begin_create_or_update", "elsewhere", "plant", HUB)
    _, taken, unseen, listed = await hubs.ask(
        hubs.put("plant"),
        elsewhere,
        call("iot_hub_resource.get", "elsewhere", "plant"),
        call("iot_hub_resource.list_by_resource_group", "elsewhere"),
    )
    assert (taken["error"]["status"], taken["error"]["code"]) == (409, "Conflict")
    assert unseen["error"]["status"] == 404
    assert listed == []


# --- namespaces


async def namespace_of(fleet: Fleet, hub: str) -> str:
    answer = await fleet.http.get(f"{provider(fleet)}/IotHubs/{hub}?api-version=2026-10-01-preview")
    return str(answer.json()["properties"]["deviceRegistry"]["namespaceResourceId"])


async def test_put_that_does_not_name_a_namespace_leaves_the_hub_in_its_own(
    fleet: Fleet, hubs: Hubs
) -> None:
    await fleet.http.put("/fleetroot/namespaces/plant")
    await hubs.ask(hubs.put("works"))
    assert (await namespace_of(fleet, "works")).endswith("/namespaces/default")
    await fleet.http.post("/fleetroot/hubs/works/link", json={"namespace": "plant"})
    [read] = await hubs.ask(hubs.call("get", "works"))
    await hubs.ask(hubs.put("works", etag=read["etag"]))
    assert (await namespace_of(fleet, "works")).endswith("/namespaces/plant")


async def test_namespace_is_named_when_a_hub_is_made_and_not_changed_by_a_put(
    fleet: Fleet,
) -> None:
    await fleet.http.put("/fleetroot/namespaces/plant")
    default = await namespace_of(fleet, "default")
    plant = default.replace("/default", "/plant")

    async def put(namespace: str) -> httpx.Response:
        body = HUB | {"properties": {"deviceRegistry": {"namespaceResourceId": namespace}}}
        path = f"{provider(fleet)}/IotHubs/works?api-version=2026-10-01-preview"
        return await fleet.http.put(path, json=body)

    assert (await put(default.replace("/default", "/none"))).status_code == 400
    assert (await put(plant)).status_code == 201
    assert await namespace_of(fleet, "works") == plant
    assert (await put(plant)).status_code == 200
    assert (await put(default)).status_code == 400
    assert await namespace_of(fleet, "works") == plant


# --- what is refused


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("no_good", {}),
        ("x" * 51, {}),
        ("plant", {"sku": {"name": "S1", "capacity": 0}}),
        ("plant", {"tags": {"t": "x" * 300}}),
        ("plant", {"tags": {f"t{n}": "" for n in range(51)}}),
        ("plant", {"properties": {"disableLocalAuth": True}}),
        ("plant", {"properties": {"publicNetworkAccess": "Disabled"}}),
        (
            "plant",
            {
                "properties": {
                    "ipFilterRules": [{"filterName": "a", "action": "Reject", "ipMask": "::/0"}]
                }
            },
        ),
        ("plant", {"properties": {"authorizationPolicies": [{"keyName": "a", "rights": "All"}]}}),
        (
            "plant",
            {
                "properties": {
                    "authorizationPolicies": [{"keyName": "a", "rights": "EnrollmentRead"}]
                }
            },
        ),
        (
            "plant",
            {
                "properties": {
                    "authorizationPolicies": [
                        {"keyName": "a", "rights": "RegistryRead", "primaryKey": "c2hvcnQ="}
                    ]
                }
            },
        ),
        (
            "plant",
            {
                "properties": {
                    "authorizationPolicies": [{"keyName": "a", "rights": "RegistryRead"}] * 2
                }
            },
        ),
    ],
)
async def test_hub_that_cannot_be_is_refused_and_nothing_is_left(
    fleet: Fleet, hubs: Hubs, name: str, more: dict[str, Any]
) -> None:
    refused, listed = await hubs.ask(hubs.put(name, **more), hubs.call("list_by_resource_group"))
    assert refused["error"]["status"] == 400, refused
    assert refused["error"]["code"] == "InvalidParameter"
    assert refused["error"]["message"]
    assert [hub["name"] for hub in listed] == ["default"]
    assert len(fleet.rows("service_resources")) == 2


async def test_change_of_an_older_version_is_refused(hubs: Hubs) -> None:
    [made] = await hubs.ask(hubs.put("plant"))
    changed, late, absent = await hubs.ask(
        hubs.put("plant", etag=made["etag"]),
        hubs.put("plant", etag=made["etag"]),
        hubs.put("other", etag=made["etag"]),
    )
    assert changed["etag"] != made["etag"]
    for refused in (late, absent):
        assert (refused["error"]["status"], refused["error"]["code"]) == (412, "PreconditionFailed")


async def test_hub_that_is_linked_or_the_first_is_not_deleted(fleet: Fleet, hubs: Hubs) -> None:
    await hubs.ask(hubs.put("plant"))
    await link(fleet, "plant.localhost")
    linked, first = await hubs.ask(
        hubs.call("begin_delete", "plant"), hubs.call("begin_delete", "default")
    )
    assert "linked to the provisioning service default" in linked["error"]["message"]
    for refused in (linked, first):
        assert (refused["error"]["status"], refused["error"]["code"]) == (409, "Conflict")


async def test_hub_goes_with_its_devices_but_not_while_one_is_connected(
    fleet: Fleet, hubs: Hubs
) -> None:
    await hubs.ask(hubs.put("plant"))
    await fleet.http.post("/fleetroot/namespaces/default/synchronize")
    await link(fleet, "plant.localhost")
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified, host="plant.localhost"):
        await link(fleet, fleet.hub_host)
        refused = await delete(fleet, "plant")
        assert refused.status_code == 409
        assert "devices are connected" in refused.json()["error"]["message"]
    async with asyncio.timeout(30):
        while (await delete(fleet, "plant")).status_code == 409:  # until it has seen it leave
            await asyncio.sleep(0.05)
    again = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", again)).close()


@pytest.mark.parametrize("version", [None, "2016-02-03"])
async def test_version_that_is_none_is_refused_with_those_that_are(
    fleet: Fleet, version: str | None
) -> None:
    path = f"/subscriptions/{fleet.bootstrap['subscriptionId']}/providers/Microsoft.Devices/IotHubs"
    query = {"api-version": version} if version else {}
    answer = await fleet.http.get(path, params=query)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] in ("InvalidApiVersionParameter", "MissingApiVersionParameter")
    if version:
        assert "2023-06-30" in error["message"]


async def test_subscription_that_is_none_is_404(fleet: Fleet) -> None:
    path = provider(fleet).replace(fleet.bootstrap["subscriptionId"], "none") + "/IotHubs/plant"
    answer = await fleet.http.put(path, params={"api-version": "2023-06-30"}, json=HUB)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "SubscriptionNotFound"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"location": 7}', 400),
        (b"{}", 400),
        (b'{"location":"' + b"x" * 5_000_000 + b'"}', 413),
    ],
    ids=["no JSON", "no object", "wrong type", "missing", "too large"],
)
async def test_body_that_is_none_is_refused_in_the_shape_of_arm(
    fleet: Fleet, content: bytes, status: int
) -> None:
    answer = await fleet.http.put(
        provider(fleet) + "/IotHubs/plant",
        params={"api-version": "2023-06-30"},
        content=content,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == status
    assert answer.json()["error"].keys() >= {"code", "message", "details"}
    assert len(fleet.rows("hubs")) == 1


@pytest.mark.parametrize("version", ["2019-03-22", "2019-07-01-preview", "2023-06-30-preview"])
async def test_every_version_of_the_sdk_is_answered(fleet: Fleet, version: str) -> None:
    path = f"/subscriptions/{fleet.bootstrap['subscriptionId']}/providers/Microsoft.Devices/IotHubs"
    answer = await fleet.http.get(path, params={"api-version": version})
    assert [hub["name"] for hub in answer.json()["value"]] == ["default"]


# --- roles


async def test_roles_reach_as_far_as_they_say(fleet: Fleet, hubs: Hubs) -> None:
    async def token(role: Role, namespace: str | None) -> str:
        name = f"{role.value}-{namespace or 'all'}"[:50]
        made = await fleet.server.access.create_token(name, Grant(role, namespace), by=SYSTEM)
        return made[1].text

    here = (await fleet.server.namespaces.get("default")).id
    other = await fleet.server.namespaces.create(
        "other", subscription_id="s", resource_group="g", by=SYSTEM
    )
    calls = (
        hubs.call("get", "default"),
        hubs.call("list_by_resource_group"),
        hubs.call("list_keys", "default"),
        hubs.put("default"),
        hubs.put("plant"),
    )

    async def statuses(role: Role, namespace: str | None) -> list[int]:
        found = await hubs.ask(*calls, token=await token(role, namespace))
        return [
            each["error"]["status"] if isinstance(each, dict) and "error" in each else len(each) > 0
            for each in found
        ]

    assert await statuses(Role.READER, EVERYWHERE) == [True, True, 403, 403, 403]
    assert await statuses(Role.READER, other.id) == [403, False, 403, 403, 403]
    assert await statuses(Role.DEVICE_CONTRIBUTOR, here) == [True, True, True, 403, 403]
    assert await statuses(Role.OWNER, here) == [True, True, True, True, 403]
    assert await statuses(Role.OWNER, EVERYWHERE) == [True, True, True, True, True]
