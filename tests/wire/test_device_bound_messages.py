"""Cloud-to-device messages over the wires: sent over REST, received over MQTT and over HTTPS."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from fleet import Certified, Fleet, Mqtt
from hub_service import hub_client, hub_token

FILTER = "devices/dev-1/messages/devicebound/#"
TOPIC = "devices/dev-1/messages/devicebound/"
VERSION = {"api-version": "2021-04-12"}


async def send(
    fleet: Fleet, body: bytes = b"hello", to: str = "dev-1", **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await fleet.http.post(
        f"/devices/{to}/messages/deviceBound", content=body, headers=named, params=VERSION
    )


async def listening(fleet: Fleet, held: Certified, qos: int = 1, **how: Any) -> Mqtt:
    mqtt = await fleet.connect("dev-1", held, **how)
    if not mqtt.session_present:
        await mqtt.subscribe(FILTER, qos=qos)
    return mqtt


async def count(fleet: Fleet) -> int:
    fleet.server.hubs.commands.deliveries.flush()
    await fleet.server.store.write(lambda _: None)
    return len(fleet.rows("commands"))


# --- over MQTT


async def test_message_arrives_with_its_properties(fleet: Fleet) -> None:
    held = await fleet.provision("dev-1")
    sent = await send(
        fleet,
        iothub_messageid="m=1",
        iothub_correlationid="c",
        iothub_userid="u",
        iothub_contenttype="application/json",
        iothub_contentencoding="utf-8",
        iothub_ack="full",
        iothub_expiry="2999-01-01T00:00:00Z",
    )
    assert sent.status_code == 400  # in more than two days
    sent = await send(
        fleet,
        iothub_messageid="m=1",
        iothub_correlationid="c",
        iothub_userid="u",
        iothub_contenttype="application/json",
        iothub_contentencoding="utf-8",
        iothub_ack="full",
        iothub_app_colour="a/b&c=d",
        iothub_app_none="",
    )
    assert sent.status_code == 202, sent.text
    async with await listening(fleet, held) as mqtt:
        message = await mqtt.message()
    assert message.payload == b"hello"
    assert message.topic.startswith(TOPIC)
    bag = message.topic[len(TOPIC) :]
    assert "/" not in bag
    assert "%24.mid=m%3D1" in bag
    assert "none=" in bag.split("&")
    found = {unquote(k): unquote(v) for k, v in (pair.split("=") for pair in bag.split("&"))}
    assert found == {
        "$.mid": "m=1",
        "$.cid": "c",
        "$.uid": "u",
        "$.ct": "application/json",
        "$.ce": "utf-8",
        "$.to": "/devices/dev-1/messages/deviceBound",
        "$.exp": sent.json()["expiresAt"],
        "iothub-ack": "full",
        "colour": "a/b&c=d",
        "none": "",
    }


async def test_device_that_listens_gets_a_message_at_once_and_takes_it_out(fleet: Fleet) -> None:
    async with await listening(fleet, await fleet.provision("dev-1")) as mqtt:
        await send(fleet)
        assert (await mqtt.message()).qos == 1
        await mqtt.publish("devices/dev-1/messages/events/")  # the PUBACK has gone before
        assert await count(fleet) == 0


@pytest.mark.parametrize("clean_session", [True, False])
async def test_messages_wait_across_a_restart(tmp_path: Any, clean_session: bool) -> None:
    data = tmp_path / "data"
    async with Fleet.running(data) as fleet:
        held = await fleet.provision("dev-1")
        await (await listening(fleet, held, clean_session=clean_session)).close()
        await send(fleet)
    async with (
        Fleet.running(data) as fleet,
        await fleet.connect("dev-1", held, clean_session=clean_session) as mqtt,
    ):
        assert mqtt.session_present is not clean_session
        if clean_session:
            await mqtt.subscribe(FILTER, qos=1)
        assert (await mqtt.message()).payload == b"hello"


# --- sending


async def test_full_queue_and_unknown_device_are_said_as_the_sdks_read_it(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    for _ in range(50):
        assert (await send(fleet)).status_code == 202
    full, unknown = await send(fleet), await send(fleet, to="nobody")
    assert (full.status_code, full.headers["iothub-errorcode"], full.json()["Message"]) == (
        403,
        "DeviceMaximumQueueDepthExceeded",
        "ErrorCode:DeviceMaximumQueueDepthExceeded;50 messages wait for the device",
    )
    assert full.headers["x-ms-error-code"] == "403004"
    assert (unknown.status_code, unknown.headers["iothub-errorcode"]) == (404, "DeviceNotFound")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"iothub-ack": "some"}, 400),
        ({"iothub-messageid": "a b"}, 400),
        ({"iothub-expiry": "tomorrow"}, 400),
        ({"iothub-expiry": "2020-01-01T00:00:00Z"}, 400),
        ({"iothub-app-": "x"}, 400),
        ({"iothub-app-a": b"\xff"}, 400),
        ({"iothub-app-a": "x" * 8192}, 413),
    ],
)
async def test_message_with_a_bad_header_is_refused(
    fleet: Fleet, headers: dict[str, Any], status: int
) -> None:
    await fleet.provision("dev-1")
    answer = await fleet.http.post("/devices/dev-1/messages/devicebound", headers=headers)
    assert answer.status_code == status, answer.text


async def test_purge_and_feedback_by_a_service(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    async with hub_client(fleet, await hub_token(fleet, "service")) as service:
        url = "/devices/DEV-1/messages/deviceBound"
        headers = {"iothub-ack": "full", "iothub-messageid": "m"}
        assert (await service.post(url, headers=headers)).status_code == 202
        assert (await service.get("/messages/servicebound/feedback")).status_code == 204
        purged = await service.delete("/devices/DEV-1/commands", params=VERSION)
        assert purged.json() == {"totalMessagesPurged": 1, "deviceId": "dev-1", "moduleId": None}
        told = await service.get("/messages/servicebound/feedback", params=VERSION)
        assert told.headers["content-type"] == "application/vnd.microsoft.iothub.feedback.json"
        [record] = told.json()
        assert (record["originalMessageId"], record["statusCode"]) == ("m", "Purged")
        token = told.headers["etag"].strip('"')
        lock = f"/messages/serviceBound/feedback/{token}"
        assert (await service.post(f"{lock}/abandon", params=VERSION)).status_code == 204
        lost = await service.delete(lock, params=VERSION)
        assert (lost.status_code, lost.headers["iothub-errorcode"]) == (
            412,
            "DeviceMessageLockLost",
        )


# --- over HTTPS


class HttpsDevice:
    """A device that speaks HTTPS with its key."""

    def __init__(self, fleet: Fleet, client: httpx.AsyncClient, token: str) -> None:
        self.fleet = fleet
        self.client = client
        self.headers = {"authorization": token}

    async def ask(
        self, method: str, path: str, content: bytes = b"", device: str = "dev-1", **headers: str
    ) -> httpx.Response:
        named = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"/devices/{device}/messages/{path}"
        url += ("&" if "?" in url else "?") + "api-version=2021-04-12"
        return await self.client.request(method, url, content=content, headers=named)


@pytest.fixture
async def device(fleet: Fleet) -> Any:
    key, _ = await fleet.enroll("dev-1")
    await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", key))
    async with hub_client(fleet, "") as client:
        yield HttpsDevice(fleet, client, fleet.hub_token("dev-1", key).decode())


async def test_device_receives_and_completes_over_https(device: HttpsDevice) -> None:
    assert (await device.ask("GET", "deviceBound")).status_code == 204
    headers = {"iothub-messageid": "m", "iothub-app-colour": "red"}
    sent = await send(device.fleet, b"\x00\xff", **headers)
    got = await device.ask("GET", "devicebound")
    assert (got.status_code, got.content) == (200, b"\x00\xff")
    token = got.headers["etag"].strip('"')
    named = {name: value for name, value in got.headers.items() if name.startswith("iothub-")}
    assert named.pop("iothub-enqueuedtime")
    assert named == {
        "iothub-messageid": "m",
        "iothub-sequencenumber": "1",
        "iothub-deliverycount": "0",
        "iothub-expiry": sent.json()["expiresAt"],
        "iothub-to": "/devices/dev-1/messages/deviceBound",
        "iothub-ack": "none",
        "iothub-app-colour": "red",
    }
    assert (await device.ask("DELETE", f"deviceBound/{token}")).status_code == 204
    lost = await device.ask("DELETE", f"deviceBound/{token}")
    assert (lost.status_code, lost.headers["iothub-errorcode"]) == (412, "DeviceMessageLockLost")
    assert lost.json()["Message"].startswith("ErrorCode:DeviceMessageLockLost;")


async def test_device_abandons_and_rejects_over_https(device: HttpsDevice) -> None:
    await send(device.fleet)
    tokens = []
    for count_ in ("0", "1"):
        got = await device.ask("GET", "deviceBound")
        assert got.headers["iothub-deliverycount"] == count_
        tokens.append(got.headers["etag"].strip('"'))
        if count_ == "0":
            abandoned = await device.ask("POST", f"deviceBound/{tokens[0]}/abandon")
            assert abandoned.status_code == 204
    assert (await device.ask("DELETE", f"deviceBound/{tokens[1]}?reject")).status_code == 204
    assert await count(device.fleet) == 0


async def test_telemetry_over_https_is_as_over_mqtt(device: HttpsDevice) -> None:
    sent = await device.ask(
        "POST",
        "events",
        b'{"t": 1}',
        IoTHub_MessageId="m",
        iothub_contenttype="application/json",
        dt_subject="thermostat",
        iothub_app_colour="red",
        iothub_to="/devices/dev-1/messages/events",
    )
    assert (sent.status_code, sent.content) == (204, b"")
    [event] = await device.fleet.events()
    assert event["text"] == '{"t": 1}'
    assert event["properties"] == {"colour": "red"}
    assert event["systemProperties"] == {
        "messageId": "m",
        "contentType": "application/json",
        "componentName": "thermostat",
        "to": "/devices/dev-1/messages/events",
        "connectionDeviceId": "dev-1",
    }


BATCH = "application/vnd.microsoft.iothub.json"


async def test_batch_is_logged_in_its_order(device: HttpsDevice) -> None:
    batch = (
        b'[{"body": "aGk=", "properties": {"iothub-app-n": "1", "iothub-messageid": "m"}},'
        b' {"body": "plain", "base64Encoded": false}]'
    )
    assert (await device.ask("POST", "events", batch, content_type=BATCH)).status_code == 204
    first, second = await device.fleet.events()
    assert (first["text"], first["properties"]) == ("hi", {"n": "1"})
    assert first["systemProperties"]["messageId"] == "m"
    assert second["text"] == "plain"


@pytest.mark.parametrize(
    "batch",
    [
        b"{",
        b"{}",
        b"[]",
        b"[1]",
        b'[{"body": 1}]',
        b'[{"body": "%"}]',
        b'[{"body": "", "base64Encoded": 1}]',
        b'[{"body": "", "properties": {"a": 1}}]',
        b'[{"body": "", "properties": {"iothub-app-": ""}}]',
    ],
)
async def test_batch_that_is_not_one_is_refused_whole(device: HttpsDevice, batch: bytes) -> None:
    answer = await device.ask("POST", "events", batch, content_type=BATCH)
    assert answer.status_code == 400
    assert await device.fleet.events() == []


async def test_device_acts_as_itself_only(device: HttpsDevice) -> None:
    await device.fleet.provision("dev-2")
    for method, path in (
        ("POST", "events"),
        ("GET", "deviceBound"),
        ("DELETE", "deviceBound/x"),
        ("POST", "deviceBound/x/abandon"),
    ):
        answer = await device.ask(method, path, device="dev-2")
        assert answer.status_code == 401, (method, path)
        assert answer.headers["iothub-errorcode"] == "IotHubUnauthorizedAccess"


async def test_every_request_is_authorized(device: HttpsDevice) -> None:
    """The connection is the same, and the device is disabled in between."""
    assert (await device.ask("GET", "deviceBound")).status_code == 204
    await device.fleet.http.post("/fleetroot/devices/dev-1/disable")
    assert (await device.ask("GET", "deviceBound")).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/devices/dev-1/messages/deviceBound", {}, 400),  # no version
        ("GET", "/devices/dev-1/messages/deviceBound?api-version=1", {}, 400),
        ("PUT", "/devices/dev-1/messages/events?api-version=2021-04-12", {}, 405),
        ("GET", "/devices/dev-1/messages/deviceBound?api-version=2021-04-12", {}, 401),
        (
            "GET",
            "/devices/dev-1/messages/deviceBound?api-version=2021-04-12",
            {"host": "another.example"},
            401,
        ),
    ],
)
async def test_request_that_is_not_one_is_refused(
    fleet: Fleet, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with hub_client(fleet, "") as client:
        del client.headers["authorization"]
        answer = await client.request(method, path, headers=headers)
    assert answer.status_code == status


async def test_message_over_256_kb_is_refused(device: HttpsDevice) -> None:
    answer = await device.ask("POST", "events", bytes(256 * 1024 + 1))
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (413, "MessageTooLarge")


async def test_device_shows_its_certificate_over_https(fleet: Fleet) -> None:
    held = await fleet.provision("dev-1")
    context = fleet.trust()
    held.load_into(context)
    base = f"https://{fleet.bootstrap['hostname']}:{fleet.bootstrap['httpsPort']}"
    async with httpx.AsyncClient(base_url=base, verify=context) as client:
        url = "/devices/dev-1/messages/events?api-version=2021-04-12"
        assert (await client.post(url, content=b"1")).status_code == 204
        await fleet.http.post("/fleetroot/devices/dev-1/revoke")
        assert (await client.post(url, content=b"2")).status_code == 401
    assert [event["text"] for event in await fleet.events()] == ["1"]
