"""Modules of devices: their identities over the hub's service API, and what they do over MQTT."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from test_identity_api import ANY, KEYS, create, entries, put, upload, with_keys, with_thumbprints

from fleet import Closed, Fleet, Mqtt, refusal
from fleetroot import sas
from fleetroot.gateway.mqtt import ConnackCode, Connect
from fleetroot.registry.shared_access import Right
from hub_service import one_right_token
from manufacturer import Ca, self_signed

KEY = base64.b64decode(KEYS[0])
MODULE = "dev-1/mod-1"
EVENTS = "devices/dev-1/modules/mod-1/messages/events/"


async def put_module(
    fleet: Fleet, module: str = MODULE, etag: str | None = None, **body: Any
) -> dict[str, Any]:
    headers = {} if etag is None else {"if-match": f'"{etag}"'}
    path = "/devices/" + module.replace("/", "/modules/")
    answer = await fleet.http.put(path, json=body, headers=headers)
    assert answer.status_code == (201 if etag is None else 200), answer.text
    return dict(answer.json())


def token(fleet: Fleet, module: str = MODULE, key: bytes = KEY) -> bytes:
    return fleet.hub_token(module.replace("/", "/modules/"), key)


async def connect(fleet: Fleet, module: str = MODULE, **how: Any) -> Mqtt:
    """Connects a module by its key."""
    return await fleet.connect(module, token=token(fleet, module), **how)


@pytest.fixture
async def yard(fleet: Fleet) -> Fleet:
    """A device with a module, which have the same keys."""
    await put(fleet, "dev-1", authentication=with_keys(*KEYS))
    await put_module(fleet, authentication=with_keys(*KEYS), managedBy="us")
    return fleet


# --- identities


async def test_module_is_answered_as_azure_shows_it(yard: Fleet) -> None:
    made = (await yard.http.get("/devices/DEV-1/modules/MOD-1")).json()
    assert made.pop("generationId") and made.pop("etag")  # noqa: PT018
    never = "0001-01-01T00:00:00.000Z"
    assert made == {
        "moduleId": "mod-1",
        "managedBy": "us",
        "deviceId": "dev-1",
        "connectionState": "Disconnected",
        "connectionStateUpdatedTime": never,
        "lastActivityTime": never,
        "cloudToDeviceMessageCount": 0,
        "authentication": {
            "type": "sas",
            "symmetricKey": {"primaryKey": KEYS[0], "secondaryKey": KEYS[1]},
            "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
        },
    }
    listed = (await yard.http.get("/devices/dev-1/modules")).json()
    assert [each["moduleId"] for each in listed] == ["mod-1"]


async def test_module_is_no_device(yard: Fleet) -> None:
    assert [each["deviceId"] for each in (await yard.http.get("/devices")).json()] == ["dev-1"]
    assert (await yard.http.get("/statistics/devices")).json()["totalDeviceCount"] == 1
    async with await connect(yard):
        assert (await yard.http.get("/statistics/service")).json()["connectedDeviceCount"] == 0
    assert (await yard.http.get("/devices/dev-1%2Fmod-1")).status_code == 404
    assert len(await yard.devices()) == 1


async def test_module_needs_its_device(fleet: Fleet) -> None:
    answer = await fleet.http.put("/devices/dev-1/modules/mod-1", json={})
    assert answer.status_code == 404
    assert (await fleet.http.get("/devices/dev-1/modules")).status_code == 404


async def test_put_of_a_module_creates_or_changes_and_never_both(yard: Fleet) -> None:
    path = "/devices/dev-1/modules/mod-1"
    assert (await yard.http.put(path, json={})).status_code == 409
    stale = await yard.http.put(path, json={}, headers={"if-match": '"0"'})
    assert stale.status_code == 412
    after = await put_module(yard, etag="*", managedBy="them")
    assert after["managedBy"] == "them"
    assert (await yard.http.delete(path, headers={"if-match": '"0"'})).status_code == 412
    assert (await yard.http.delete(path, headers=ANY)).status_code == 204
    assert (await yard.http.get(path)).status_code == 404


async def test_device_has_at_most_fifty_modules(fleet: Fleet) -> None:
    await put(fleet, "dev-1")
    items = [{"id": "dev-1", "moduleId": f"m{n}", "importMode": "create"} for n in range(51)]
    answer = (await fleet.http.post("/devices", json=items)).json()
    [error] = answer["errors"]
    assert (error["moduleId"], error["errorCode"]) == ("m50", "Conflict")


async def test_deleting_a_device_deletes_its_modules(yard: Fleet) -> None:
    module = await connect(yard)
    await yard.http.delete("/devices/dev-1", headers=ANY)
    await module.wait_closed()
    assert yard.rows("identities") == yard.rows("twins") == []
    await put(yard, "dev-1")
    assert (await yard.http.get("/devices/dev-1/modules")).json() == []


async def test_changes_of_modules_are_on_the_timeline_of_their_device(yard: Fleet) -> None:
    await yard.http.delete("/devices/dev-1/modules/mod-1", headers=ANY)
    [gone] = await entries(yard, "identity.delete")
    assert gone["details"] == {"hub": "default", "module": "mod-1"}


# --- connections


async def test_module_connects_beside_its_device(yard: Fleet) -> None:
    device = await yard.connect("dev-1", token=yard.hub_token("dev-1", KEY))
    module = await connect(yard)
    async with device, module:
        await device.publish("devices/dev-1/messages/events/", b"1")
        await module.publish(f"{EVENTS}%24.on=out&a=b", b"2")
        shown = (await yard.http.get("/devices/dev-1/modules/mod-1")).json()
        assert shown["connectionState"] == "Connected"
    first, second = await yard.events(device="dev-1")
    assert "connectionModuleId" not in first["systemProperties"]
    assert second["deviceId"] == "dev-1"
    assert second["systemProperties"]["connectionDeviceId"] == "dev-1"
    assert second["systemProperties"]["connectionModuleId"] == "mod-1"
    assert second["systemProperties"]["outputName"] == "out"


async def test_newer_connection_of_a_module_replaces_its_own_alone(yard: Fleet) -> None:
    device = await yard.connect("dev-1", token=yard.hub_token("dev-1", KEY))
    module = await connect(yard)
    async with device, await connect(yard):
        await module.wait_closed()
        await device.publish("devices/dev-1/messages/events/", b"still here")


async def test_token_of_one_is_not_good_for_the_other(yard: Fleet) -> None:
    await put_module(yard, "dev-1/mod-2", authentication=with_keys(*KEYS))
    for client, of in ("dev-1", MODULE), (MODULE, "dev-1"), (MODULE, "dev-1/mod-2"):
        refused = refusal(yard.connect(client, token=token(yard, of)))
        assert await refused is ConnackCode.BAD_USERNAME_OR_PASSWORD


async def test_token_of_a_policy_with_the_right_is_good_for_a_module(yard: Fleet) -> None:
    await one_right_token(yard, Right.DEVICE_CONNECT)
    hub = await yard.server.hub_access.addressed(yard.hub_host)
    policy = await yard.server.hubs.shared_access_policy(hub, "one")
    assert policy is not None
    resource = f"{yard.hub_host}/devices/dev-1/modules/mod-1"
    until = yard.server.clock.now() + timedelta(hours=1)
    signed = sas.sign_token(resource, policy.primary_key, until, "one").encode()
    async with await yard.connect(MODULE, token=signed):
        pass


async def test_module_connects_by_a_thumbprint(yard: Fleet) -> None:
    held = self_signed("anything")
    print_ = sha256(held.chain[0]).hexdigest()
    await put_module(yard, etag="*", authentication=with_thumbprints(print_))
    async with await yard.connect(MODULE, held):
        pass
    assert await refusal(yard.connect("dev-1", held)) is ConnackCode.NOT_AUTHORIZED


async def test_module_connects_by_a_certificate_of_an_uploaded_ca(yard: Fleet) -> None:
    ca = Ca.root("Maker")
    await upload(yard, ca)
    await put_module(yard, etag="*", authentication={"type": "certificateAuthority"})
    async with await yard.connect(MODULE, ca.device("dev-1/mod-1"), whole_chain=True):
        pass
    for other in "dev-1", "mod-1", "dev-1/mod-2":
        refused = refusal(yard.connect(MODULE, ca.device(other), whole_chain=True))
        assert await refused is ConnackCode.NOT_AUTHORIZED


async def test_certificate_of_its_device_does_not_let_a_module_in(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    await put_module(fleet, authentication={"type": "certificateAuthority"})
    refused = refusal(fleet.connect(MODULE, certified))
    assert await refused is ConnackCode.NOT_AUTHORIZED


async def test_module_that_is_not_there_is_refused(yard: Fleet) -> None:
    refused = refusal(connect(yard, "dev-1/mod-2"))
    assert await refused is ConnackCode.NOT_AUTHORIZED
    assert (await yard.refusals())["no such module on this hub"] == 1


# --- standing


@pytest.mark.parametrize("where", ["hub", "registry"])
async def test_disabling_a_device_ends_its_modules_sessions(yard: Fleet, where: str) -> None:
    module = await connect(yard)
    if where == "hub":
        await put(yard, "dev-1", "*", status="disabled")
    else:
        await yard.http.post("/fleetroot/devices/dev-1/disable")
    await module.wait_closed()
    assert await refusal(connect(yard)) is ConnackCode.NOT_AUTHORIZED
    if where == "hub":
        await put(yard, "dev-1", "*", status="enabled")
    else:
        await yard.http.post("/fleetroot/devices/dev-1/enable")
    async with await connect(yard):
        pass


async def test_change_of_a_modules_keys_ends_its_session_alone(yard: Fleet) -> None:
    device = await yard.connect("dev-1", token=yard.hub_token("dev-1", KEY))
    module, other = await connect(yard), base64.b64encode(bytes(32)).decode()
    await put_module(yard, etag="*", authentication=with_keys(other, other))
    await module.wait_closed()
    async with device:
        await device.publish("devices/dev-1/messages/events/", b"still here")
    assert await refusal(connect(yard)) is ConnackCode.BAD_USERNAME_OR_PASSWORD


async def test_change_of_its_devices_keys_leaves_a_module(yard: Fleet) -> None:
    module, other = await connect(yard), base64.b64encode(bytes(32)).decode()
    device = await yard.connect("dev-1", token=yard.hub_token("dev-1", KEY))
    await put(yard, "dev-1", "*", authentication=with_keys(other, other))
    await device.wait_closed()
    async with module:
        await module.publish(EVENTS, b"still here")


async def test_revoking_a_device_ends_its_modules_sessions_once(fleet: Fleet) -> None:
    """Their proof is not its certificate: they may come again, unless it is disabled."""
    await fleet.provision("dev-1")
    await put_module(fleet, authentication=with_keys(*KEYS))
    module = await connect(fleet)
    answer = await fleet.http.post("/fleetroot/devices/dev-1/revoke", json={})
    assert answer.status_code == 200, answer.text
    await module.wait_closed()
    async with await connect(fleet):
        pass


# --- topics and twins


async def test_module_has_a_twin_of_its_own(yard: Fleet) -> None:
    async with await connect(yard) as module:
        await module.subscribe("$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#")
        answer = await module.ask("$iothub/twin/PATCH/properties/reported/", b'{"a": 1}')
        assert answer.status == 204
        path = "/twins/dev-1/modules/mod-1"
        desired = {"properties": {"desired": {"b": 2}}}
        changed = await yard.http.patch(path, json=desired)
        assert changed.status_code == 200, changed.text
        told = await module.message()
        assert told.topic == "$iothub/twin/PATCH/properties/desired/?$version=2"
        assert json.loads(told.payload) == {"b": 2, "$version": 2}
        twin = await module.ask("$iothub/twin/GET/", b" ")
        assert twin.body["reported"] == {"a": 1, "$version": 2}
    seen = (await yard.http.get(path)).json()
    assert (seen["deviceId"], seen["moduleId"], seen["status"]) == ("dev-1", "mod-1", "enabled")
    assert seen["properties"]["reported"]["a"] == 1
    of_device = (await yard.http.get("/twins/dev-1")).json()
    assert "moduleId" not in of_device
    assert "a" not in of_device["properties"]["reported"]
    replaced = await yard.http.put(path, json={"tags": {"t": 1}, "properties": {"desired": {}}})
    assert replaced.json()["tags"] == {"t": 1}
    assert (await yard.http.get("/twins/dev-1/modules/mod-2")).status_code == 404


async def test_topics_of_a_module_are_granted_and_kept(yard: Fleet) -> None:
    filters = (
        "devices/dev-1/modules/mod-1/inputs/#",
        "devices/dev-1/modules/mod-1/#",
        "$iothub/methods/POST/#",
    )
    async with await connect(yard, clean_session=False) as module:
        assert await module.subscribe(*filters, qos=1) == (1, 1, 1)
    async with await connect(yard, clean_session=False) as module:
        assert module.session_present
        await module.unsubscribe(*filters)
    device = yard.connect("dev-1", token=yard.hub_token("dev-1", KEY), clean_session=False)
    async with await device as mqtt:
        assert not mqtt.session_present


@pytest.mark.parametrize(
    "topic",
    [
        "devices/dev-1/messages/events/",
        "devices/dev-1/modules/mod-2/messages/events/",
        "$iothub/credentials/POST/issueCertificate/?$rid=1",
    ],
)
async def test_module_does_not_publish_as_another(yard: Fleet, topic: str) -> None:
    module = await connect(yard)
    with pytest.raises(Closed):
        await module.publish(topic, b"{}")


@pytest.mark.parametrize(
    "wanted",
    [
        "devices/dev-1/messages/devicebound/#",
        "devices/dev-1/modules/mod-2/#",
        "$iothub/credentials/res/#",
    ],
)
async def test_module_does_not_listen_as_another(yard: Fleet, wanted: str) -> None:
    module = await connect(yard)
    with pytest.raises(Closed):
        await module.subscribe(wanted)


async def test_device_does_not_speak_for_its_module(yard: Fleet) -> None:
    device = await yard.connect("dev-1", token=yard.hub_token("dev-1", KEY))
    with pytest.raises(Closed):
        await device.publish(EVENTS, b"")


async def test_client_id_is_that_of_the_user_name(yard: Fleet) -> None:
    name = f"{yard.hub_host}/dev-1/mod-1/?api-version=2021-04-12"
    said = Connect("dev-1", username=name, password=token(yard))
    assert await refusal(yard.attach(said)) is ConnackCode.BAD_USERNAME_OR_PASSWORD


async def test_path_over_https_names_no_module(yard: Fleet) -> None:
    """A slash in an id of a path is part of no id."""
    answer = await yard.http.post(
        "/devices/dev-1%2Fmod-1/messages/events?api-version=2021-04-12",
        content=b"1",
        headers={"authorization": token(yard).decode()},
    )
    assert answer.status_code == 404
    assert await yard.events() == []


async def test_identity_is_deleted_and_made_again_and_the_old_session_ends(yard: Fleet) -> None:
    module = await connect(yard)
    await yard.http.delete("/devices/dev-1/modules/mod-1", headers=ANY)
    await put_module(yard, authentication=with_keys(*KEYS))
    await module.wait_closed()


async def test_key_of_a_new_module_is_generated(fleet: Fleet) -> None:
    await create(fleet, "dev-1")
    made = await put_module(fleet)
    key = base64.b64decode(made["authentication"]["symmetricKey"]["secondaryKey"])
    async with await fleet.connect(MODULE, token=token(fleet, key=key)):
        pass
