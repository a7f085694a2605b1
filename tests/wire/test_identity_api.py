"""Device identities over the hub's service API, and the devices that connect by them."""

from __future__ import annotations

import asyncio
import base64
import time
from hashlib import sha1, sha256
from typing import Any

import httpx
import pytest
from test_roles import bearer

from fleet import Fleet, refusal
from fleetroot.access import Role
from fleetroot.gateway.mqtt import ConnackCode
from manufacturer import Ca, self_signed

KEYS = [base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2)]
ANY = {"if-match": '"*"'}
NEVER = "0001-01-01T00:00:00.000Z"


def with_keys(primary: str, secondary: str = "") -> dict[str, Any]:
    return {"type": "sas", "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}}


def with_thumbprints(primary: str | None, secondary: str | None = None) -> dict[str, Any]:
    prints = {"primaryThumbprint": primary, "secondaryThumbprint": secondary}
    return {"type": "selfSigned", "x509Thumbprint": prints}


async def put(fleet: Fleet, device: str, etag: str | None = None, **body: Any) -> dict[str, Any]:
    """Creates an identity, or changes the one of that etag."""
    headers = {} if etag is None else {"if-match": f'"{etag}"'}
    answer = await fleet.http.put(f"/devices/{device}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def create(fleet: Fleet, device: str, **body: Any) -> bytes:
    """Creates an identity; its primary key."""
    made = await put(fleet, device, **body)
    return base64.b64decode(made["authentication"]["symmetricKey"]["primaryKey"] or "")


async def entries(fleet: Fleet, action: str) -> list[dict[str, Any]]:
    query = {"subject": "device/dev-1"}
    found = (await fleet.http.get("/fleetroot/audit/entries", params=query)).json()["value"]
    return [each for each in found if each["action"] == action]


# --- one by one


async def test_new_identity_is_answered_as_azure_shows_it(fleet: Fleet) -> None:
    made = await put(
        fleet,
        "Dev-1",
        deviceId="Dev-1",
        status="disabled",
        statusReason="in stock",
        authentication=with_keys(*KEYS),
        capabilities={"iotEdge": False},
    )
    assert made.pop("generationId")
    etag, since = made.pop("etag"), made.pop("statusUpdatedTime")
    assert since > "2026"
    assert made == {
        "deviceId": "Dev-1",
        "connectionState": "Disconnected",
        "status": "disabled",
        "statusReason": "in stock",
        "connectionStateUpdatedTime": NEVER,
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": 0,
        "authentication": {
            "type": "sas",
            "symmetricKey": {"primaryKey": KEYS[0], "secondaryKey": KEYS[1]},
            "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
        },
        "capabilities": {"iotEdge": False},
    }
    again = await fleet.http.get("/devices/dev-1")
    assert again.json()["etag"] == etag
    assert again.headers["etag"] == f'"{etag}"'


@pytest.mark.parametrize(
    "body", [{}, {"authentication": with_keys("", "")}, {"authentication": {"type": "SAS"}}]
)
async def test_keys_that_are_not_given_are_generated(fleet: Fleet, body: dict[str, Any]) -> None:
    made = await put(fleet, "dev-1", **body)
    keys = made["authentication"]["symmetricKey"]
    assert keys["primaryKey"] != keys["secondaryKey"]
    for key in keys.values():
        token = fleet.hub_token("dev-1", base64.b64decode(key))
        async with await fleet.connect("dev-1", token=token):
            pass


async def test_identity_enters_its_device_in_the_registry_and_leaves_it_there(
    fleet: Fleet,
) -> None:
    key = await create(fleet, "dev-1")
    [device] = await fleet.devices()
    assert (device["deviceId"], device["enabled"]) == ("dev-1", True)
    mqtt = await fleet.connect("dev-1", token=fleet.hub_token("dev-1", key))
    gone = await fleet.http.delete("/devices/dev-1", headers=ANY)
    assert gone.status_code == 204
    await mqtt.wait_closed()
    assert [each["deviceId"] for each in await fleet.devices()] == ["dev-1"]
    token = fleet.hub_token("dev-1", key)
    assert await refusal(fleet.connect("dev-1", token=token)) is ConnackCode.NOT_AUTHORIZED
    assert fleet.rows("twins") == []


async def test_registrys_word_counts_beside_the_hubs(fleet: Fleet) -> None:
    await create(fleet, "dev-1", authentication=with_keys(*KEYS))
    token = fleet.hub_token("dev-1", base64.b64decode(KEYS[0]))
    for call, back in ("disable", "enable"), ("delete", None):
        mqtt = await fleet.connect("dev-1", token=token)
        if call == "delete":
            await fleet.http.delete(f"{management(fleet)}/devices/dev-1{VERSION}")
        else:
            await fleet.http.post(f"/fleetroot/devices/dev-1/{call}")
        await mqtt.wait_closed()
        await put(fleet, "dev-1", "*", status="enabled")
        assert await refusal(fleet.connect("dev-1", token=token)) is ConnackCode.NOT_AUTHORIZED
        if back:
            await fleet.http.post(f"/fleetroot/devices/dev-1/{back}")
    counted = (await fleet.http.get("/statistics/devices")).json()
    assert (counted["enabledDeviceCount"], counted["disabledDeviceCount"]) == (0, 1)


VERSION = "?api-version=2026-03-01-preview"


def management(fleet: Fleet) -> str:
    made = fleet.bootstrap
    return (
        f"/subscriptions/{made['subscriptionId']}/resourceGroups/{made['resourceGroup']}"
        f"/providers/Microsoft.DeviceRegistry/namespaces/{made['namespace']}"
    )


@pytest.mark.parametrize(
    ("headers", "status", "name"),
    [
        ({}, 409, "DeviceAlreadyExists"),
        ({"if-match": '"0"'}, 412, "PreconditionFailed"),
    ],
)
async def test_put_creates_or_changes_and_never_both(
    fleet: Fleet, headers: dict[str, str], status: int, name: str
) -> None:
    made = await put(fleet, "dev-1")
    answer = await fleet.http.put("/devices/DEV-1", json={}, headers=headers)
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (status, name)
    after = await put(fleet, "dev-1", made["etag"], statusReason="moved")
    assert after["etag"] != made["etag"]
    assert after["generationId"] == made["generationId"]


async def test_what_is_not_there_is_neither_changed_nor_deleted(fleet: Fleet) -> None:
    for method in "PUT", "DELETE":
        body = {"json": {}} if method == "PUT" else {}
        answer = await fleet.http.request(method, "/devices/dev-1", headers=ANY, **body)
        assert answer.status_code == 404
        assert answer.json()["Message"].startswith("ErrorCode:DeviceNotFound;")
    assert await fleet.devices() == []


async def test_delete_of_another_version_does_nothing(fleet: Fleet) -> None:
    await put(fleet, "dev-1")
    answer = await fleet.http.delete("/devices/dev-1", headers={"if-match": '"0"'})
    assert answer.status_code == 412
    assert (await fleet.http.get("/devices/dev-1")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"deviceId": "dev-2"},
        {"status": "asleep"},
        {"authentication": {"type": "none"}},
        {"authentication": with_keys("not base64")},
        {"authentication": with_keys(base64.b64encode(b"short").decode())},
        {"authentication": with_keys(base64.b64encode(bytes(65)).decode())},
        {"authentication": with_thumbprints(None)},
        {"authentication": with_thumbprints("AB" * 19)},
        {"authentication": with_thumbprints("XY" * 20)},
        {"parentScopes": ["s"] * 17},
        {"statusReason": "a\nb"},
    ],
)
async def test_what_cannot_be_is_refused(fleet: Fleet, body: dict[str, Any]) -> None:
    answer = await fleet.http.put("/devices/dev-1", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["iothub-errorcode"] == "ArgumentInvalid"
    assert fleet.rows("identities") == []


async def test_id_that_cannot_be_is_refused(fleet: Fleet) -> None:
    answer = await fleet.http.put("/devices/a b", json={})
    assert answer.status_code == 400, answer.text


async def test_edge_device_has_a_scope_and_its_leaf_a_parent(fleet: Fleet) -> None:
    edge = await put(fleet, "edge-1", capabilities={"iotEdge": True})
    assert edge["deviceScope"].startswith("ms-azure-iot-edge://edge-1-")
    leaf = await put(fleet, "leaf-1", deviceScope=edge["deviceScope"])
    assert leaf["parentScopes"] == [edge["deviceScope"]]


async def test_edge_device_of_an_enrollment_is_one_on_its_hub(fleet: Fleet) -> None:
    key, _ = await fleet.enroll("edge-1", capabilities={"iotEdge": True})
    await fleet.register("edge-1", token=fleet.provisioning_token("edge-1", key))
    found = (await fleet.http.get("/devices/edge-1")).json()
    assert found["capabilities"] == {"iotEdge": True}
    assert found["deviceScope"].startswith("ms-azure-iot-edge://edge-1-")
    twin = (await fleet.http.get("/twins/edge-1")).json()
    assert twin["deviceScope"] == found["deviceScope"]


# --- proofs


@pytest.mark.parametrize("digest", [sha1, sha256])
@pytest.mark.parametrize("place", [0, 1], ids=["primary", "secondary"])
async def test_device_connects_by_either_thumbprint(fleet: Fleet, digest: Any, place: int) -> None:
    held = self_signed("anything")
    prints: list[str | None] = [None, None]
    prints[place] = digest(held.chain[0]).hexdigest()
    made = await put(fleet, "dev-1", authentication=with_thumbprints(*prints))
    shown = list(made["authentication"]["x509Thumbprint"].values())
    assert shown[place] == digest(held.chain[0]).hexdigest().upper()
    async with await fleet.connect("dev-1", held):
        pass
    other = self_signed("anything")
    assert await refusal(fleet.connect("dev-1", other)) is ConnackCode.NOT_AUTHORIZED


async def upload(fleet: Fleet, ca: Ca) -> None:
    answer = await fleet.http.put(
        f"/fleetroot/hubs/{fleet.bootstrap['hub']['name']}/certificates/maker",
        json={"certificate": ca.pem, "isVerified": True},
    )
    assert answer.status_code in (200, 201), answer.text


async def test_device_of_an_uploaded_ca_connects(fleet: Fleet) -> None:
    ca = Ca.root("Maker")
    await upload(fleet, ca)
    made = await put(fleet, "dev-1", authentication={"type": "certificateAuthority"})
    assert made["authentication"]["type"] == "certificateAuthority"
    async with await fleet.connect("dev-1", ca.device("dev-1"), whole_chain=True):
        pass
    other = ca.device("dev-2")
    assert await refusal(fleet.connect("dev-1", other)) is ConnackCode.NOT_AUTHORIZED


async def test_device_of_a_policy_is_of_that_and_not_of_uploaded_cas(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    ca = Ca.root("Maker")
    await upload(fleet, ca)
    await fleet.http.delete("/devices/dev-1", headers=ANY)
    await put(fleet, "dev-1", authentication={"type": "certificateAuthority"})
    async with await fleet.connect("dev-1", certified):
        pass
    other = ca.device("dev-1")
    assert await refusal(fleet.connect("dev-1", other)) is ConnackCode.NOT_AUTHORIZED


@pytest.mark.parametrize("kind", ["keys", "thumbprint", "uploaded"])
async def test_identity_lets_its_device_in_over_https_until_it_is_disabled(
    fleet: Fleet, kind: str
) -> None:
    context, headers = fleet.trust(), dict[str, str]()
    if kind == "keys":
        key = await create(fleet, "dev-1")
        headers["authorization"] = fleet.hub_token("dev-1", key).decode()
    elif kind == "thumbprint":
        held = self_signed("anything")
        held.load_into(context)
        print_ = sha256(held.chain[0]).hexdigest()
        await put(fleet, "dev-1", authentication=with_thumbprints(print_))
    else:
        ca = Ca.root("Maker")
        await upload(fleet, ca)
        ca.device("dev-1").load_into(context, whole_chain=True)
        await put(fleet, "dev-1", authentication={"type": "certificateAuthority"})
    url = "/devices/dev-1/messages/events?api-version=2021-04-12"
    base = str(fleet.http.base_url)
    async with httpx.AsyncClient(base_url=base, verify=context, headers=headers) as device:
        assert (await device.post(url, content=b"1")).status_code == 204
        await put(fleet, "dev-1", "*", status="disabled")
        assert (await device.post(url, content=b"2")).status_code == 401
    assert [event["text"] for event in await fleet.events()] == ["1"]


# --- changes


async def test_disabling_drops_the_connection_within_a_second(fleet: Fleet) -> None:
    key = await create(fleet, "dev-1")
    token = fleet.hub_token("dev-1", key)
    mqtt = await fleet.connect("dev-1", token=token)
    started = time.monotonic()
    await put(fleet, "dev-1", "*", status="disabled", statusReason="stolen")
    await mqtt.wait_closed()
    assert time.monotonic() - started < 1.0
    assert await refusal(fleet.connect("dev-1", token=token)) is ConnackCode.NOT_AUTHORIZED
    after = await put(fleet, "dev-1", "*", status="enabled")
    assert after["statusReason"] is None
    async with await fleet.connect("dev-1", token=token):
        pass


async def test_change_of_words_leaves_the_connection(fleet: Fleet) -> None:
    made = await put(fleet, "dev-1")
    key = base64.b64decode(made["authentication"]["symmetricKey"]["primaryKey"])
    mqtt = await fleet.connect("dev-1", token=fleet.hub_token("dev-1", key))
    # As SDKs do it: everything that was got, with one word changed.
    body = {**made, "statusReason": "looked at"}
    answer = await fleet.http.put("/devices/dev-1", json=body, headers={"if-match": made["etag"]})
    assert answer.json()["connectionState"] == "Connected"
    await put(fleet, "dev-2", status="disabled")  # its notice is read after that of dev-1
    await put(fleet, "dev-2", "*", authentication=with_keys(*KEYS))
    await fleet.server._outbox.drain()
    async with mqtt:
        await mqtt.publish("devices/dev-1/messages/events/", b"still here")


@pytest.mark.parametrize("authentication", [None, with_keys("", ""), {"type": "sas"}])
async def test_device_of_a_policy_is_not_opened_to_keys_that_nobody_gave(
    fleet: Fleet, authentication: dict[str, Any] | None
) -> None:
    """Node's SDK sends empty keys with whatever has no authentication."""
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    body = {} if authentication is None else {"authentication": authentication}
    after = await put(fleet, "dev-1", "*", statusReason="looked at", **body)
    assert after["authentication"] == {
        "type": "certificateAuthority",
        "symmetricKey": {"primaryKey": None, "secondaryKey": None},
        "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
    }
    async with mqtt:
        await mqtt.publish("devices/dev-1/messages/events/", b"still here")


async def test_device_of_a_policy_is_opened_to_keys_that_somebody_gave(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    await put(fleet, "dev-1", "*", authentication=with_keys(*KEYS))
    await mqtt.wait_closed()
    assert await refusal(fleet.connect("dev-1", certified)) is ConnackCode.NOT_AUTHORIZED
    token = fleet.hub_token("dev-1", base64.b64decode(KEYS[1]))
    async with await fleet.connect("dev-1", token=token):
        pass
    await put(fleet, "dev-1", "*", authentication={"type": "certificateAuthority"})
    async with await fleet.connect("dev-1", certified):
        pass
    back, there = (each["details"] for each in await entries(fleet, "identity.update"))
    assert (there["before"], there["authentication"]) == ("certificateAuthority", "sas")
    assert (back["before"], back["authentication"]) == ("sas", "certificateAuthority")


async def test_one_key_is_rolled_and_the_other_kept(fleet: Fleet) -> None:
    await put(fleet, "dev-1", authentication=with_keys(*KEYS))
    new = base64.b64encode(bytes(32)).decode()
    after = await put(fleet, "dev-1", "*", authentication=with_keys(new, ""))
    assert after["authentication"]["symmetricKey"] == {"primaryKey": new, "secondaryKey": KEYS[1]}


async def test_provisioning_takes_an_identity_that_was_made_by_hand(fleet: Fleet) -> None:
    await put(fleet, "dev-1", status="disabled")
    certified = await fleet.provision("dev-1")
    assert await refusal(fleet.connect("dev-1", certified)) is ConnackCode.NOT_AUTHORIZED
    await put(fleet, "dev-1", "*", status="enabled")
    async with await fleet.connect("dev-1", certified):
        pass


async def test_every_change_is_in_the_audit_log_and_on_the_devices_timeline(fleet: Fleet) -> None:
    await put(fleet, "dev-1")
    await put(fleet, "dev-1", "*", status="disabled")
    await fleet.http.delete("/devices/dev-1", headers=ANY)
    [made] = await entries(fleet, "identity.create")
    assert made["subject"] == "device/dev-1"
    assert made["details"] == {"authentication": "sas", "entersRegistry": True, "hub": "default"}
    [changed] = await entries(fleet, "identity.update")
    assert changed["details"] == {"hub": "default", "status": "disabled"}
    assert len(await entries(fleet, "identity.delete")) == 1
    shown = await fleet.http.get("/fleetroot/devices/dev-1/timeline")
    assert "identity.delete" in shown.text


# --- many


async def test_devices_are_listed_by_their_ids(fleet: Fleet) -> None:
    for device in "c", "A", "b":
        await put(fleet, device)
    await fleet.http.post("/devices/b/messages/deviceBound", content=b"1")
    for top in "", "?top=0", "?top=5000", "/?api-version=2021-04-12":
        listed = (await fleet.http.get(f"/devices{top}")).json()
        assert [each["deviceId"] for each in listed] == ["A", "b", "c"]
        assert [each["cloudToDeviceMessageCount"] for each in listed] == [0, 1, 0]
    assert len((await fleet.http.get("/devices?top=2")).json()) == 2


async def test_each_of_many_is_done_by_itself(fleet: Fleet) -> None:
    there = await put(fleet, "there", authentication=with_keys(*KEYS))
    await put(fleet, "gone")
    body = [
        {"id": "new", "importMode": "create", "tags": {"site": "plant"}},
        {"id": "there", "importMode": "Create"},
        {"id": "there", "importMode": "update"},
        {"id": "gone", "importMode": "Delete"},
        {"id": "nobody", "importMode": "deleteIfMatchETag", "eTag": "0"},
        {"id": "bad", "authentication": with_keys("x")},
    ]
    answer = await fleet.http.post("/devices", json=body)
    assert answer.status_code == 400
    said = answer.json()
    assert not said["isSuccessful"]
    assert [(e["deviceId"], e["errorCode"], e["operation"]) for e in said["errors"]] == [
        ("there", "DeviceAlreadyExists", "create"),
        ("there", "ArgumentInvalid", "update"),
        ("nobody", "DeviceNotFound", "deleteIfMatchETag"),
        ("bad", "ArgumentInvalid", "create"),
    ]
    listed = (await fleet.http.get("/devices")).json()
    assert [each["deviceId"] for each in listed] == ["new", "there"]
    body = [
        {
            "id": "there",
            "importMode": "updateIfMatchETag",
            "eTag": there["etag"],
            "status": "disabled",
        },
        {"id": "new", "importMode": "update", "statusReason": "looked at"},
    ]
    answer = await fleet.http.post("/devices", json=body)
    assert (answer.status_code, answer.json()) == (
        200,
        {"isSuccessful": True, "errors": [], "warnings": []},
    )
    body = [{"id": "there", "importMode": "deleteIfMatchETag", "eTag": there["etag"]}]
    [error] = (await fleet.http.post("/devices", json=body)).json()["errors"]
    assert error["errorCode"] == "PreconditionFailed"


@pytest.mark.parametrize("count", [0, 101])
async def test_too_many_and_none_are_refused(fleet: Fleet, count: int) -> None:
    body = [{"id": f"dev-{n}"} for n in range(count)]
    answer = await fleet.http.post("/devices", json=body)
    assert answer.status_code == 400
    assert answer.headers["iothub-errorcode"] == "ArgumentInvalid"
    assert fleet.rows("identities") == []


async def test_hundred_are_created_at_once(fleet: Fleet) -> None:
    body = [{"id": f"dev-{n}"} for n in range(100)]
    assert (await fleet.http.post("/devices", json=body)).status_code == 200
    assert len((await fleet.http.get("/devices")).json()) == 100


async def test_operators_go_through_all_by_page(fleet: Fleet) -> None:
    for start in range(0, 1001, 100):
        body = [{"id": f"dev-{n:04}"} for n in range(start, min(start + 100, 1001))]
        assert (await fleet.http.post("/devices", json=body)).status_code == 200
    path, seen, after = "/fleetroot/hubs/default/identities", list[str](), ""
    while after is not None:
        answer = await fleet.http.get(path, params={"after": after, "limit": 1000})
        seen += [each["deviceId"] for each in answer.json()["value"]]
        after = answer.json()["next"]
    assert seen == [f"dev-{n:04}" for n in range(1001)]


# --- who sees what


async def test_reader_sees_no_keys(fleet: Fleet) -> None:
    await put(fleet, "dev-1")
    nothing = {"primaryKey": None, "secondaryKey": None}
    async with await bearer(fleet, Role.READER) as reader:
        one, many = await asyncio.gather(reader.get("/devices/dev-1"), reader.get("/devices"))
    assert one.json()["authentication"]["symmetricKey"] == nothing
    assert many.json()[0]["authentication"]["symmetricKey"] == nothing
    async with await bearer(fleet, Role.DEVICE_CONTRIBUTOR) as contributor:
        one = await contributor.get("/devices/dev-1")
    assert one.json()["authentication"]["symmetricKey"]["primaryKey"]


async def test_identities_of_one_hub_are_not_of_another(fleet: Fleet) -> None:
    works = (await fleet.http.put("/fleetroot/hubs/works", json={})).json()["hostName"]
    await put(fleet, "dev-1")
    answer = await fleet.http.get("/devices/dev-1", headers={"host": works})
    assert answer.status_code == 404
    answer = await fleet.http.put("/devices/dev-1", json={}, headers={"host": works})
    assert answer.status_code == 200
    assert len(await fleet.devices()) == 1
