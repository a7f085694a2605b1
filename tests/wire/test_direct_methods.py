"""Direct methods over the wires: called over REST, answered over MQTT; how each refusal looks."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from fleet import Certified, Fleet, Mqtt
from fleetroot.hub.methods import MAX_PAYLOAD_BYTES, MethodCall
from fleetroot.hub.model import Hub
from hub_service import hub_client, hub_token

FILTER = "$iothub/methods/POST/#"
TOPIC = re.compile(r"\$iothub/methods/POST/([^/]+)/\?\$rid=([0-9a-f]{16})")
VERSION = {"api-version": "2021-04-12"}


def call(fleet: Fleet, device: str = "dev-1", **said: Any) -> asyncio.Task[httpx.Response]:
    """Begins a call over the hub's service API."""
    body = {"methodName": "reboot"} | said
    return asyncio.ensure_future(
        fleet.http.post(f"/twins/{device}/methods", json=body, params=VERSION)
    )


class Device:
    """A device that listens to methods."""

    def __init__(self, mqtt: Mqtt) -> None:
        self.mqtt = mqtt

    async def called(self) -> tuple[str, str, bytes]:
        """The next call: name, request id, payload."""
        message = await self.mqtt.message()
        assert message.qos == 0
        found = TOPIC.fullmatch(message.topic)
        assert found is not None, message.topic
        return found[1], found[2], message.payload

    async def answer(
        self, request_id: str, payload: bytes = b"", status: object = 200, qos: int = 0
    ) -> None:
        topic = f"$iothub/methods/res/{status}/?$rid={request_id}"
        await self.mqtt.publish(topic, payload, qos=qos)


async def listening(fleet: Fleet, held: Certified, device: str = "dev-1", **how: Any) -> Device:
    mqtt = await fleet.connect(device, held, **how)
    if not mqtt.session_present:
        await mqtt.subscribe(FILTER, qos=1)
    return Device(mqtt)


@pytest.fixture
async def held(fleet: Fleet) -> Certified:
    return await fleet.provision("dev-1")


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error as the SDKs take it apart."""
    body = answer.json()
    assert body["ExceptionMessage"] == ""
    return dict(json.loads(body["Message"]))


async def hub_of(fleet: Fleet) -> Hub:
    return await fleet.server.hubs.by_name("default")


# --- round trips


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("websocket", [False, True], ids=["mqtt", "websocket"])
async def test_call_and_answer_go_round(
    fleet: Fleet, held: Certified, qos: int, websocket: bool
) -> None:
    fleet.devices_use_websocket = websocket
    device = await listening(fleet, held)
    async with device.mqtt:
        calling = call(fleet, payload={"delay": [1, None, "ä"]}, responseTimeoutInSeconds=20)
        name, request_id, payload = await device.called()
        assert (name, payload) == ("reboot", '{"delay":[1,null,"ä"]}'.encode())
        await device.answer(request_id, b'{"big": 12345678901234567890123, "x": 1.50}', 207, qos)
        answer = await calling
    assert answer.status_code == 200
    # As the device wrote it.
    assert answer.text == '{"status":207,"payload":{"big": 12345678901234567890123, "x": 1.50}}'


async def test_call_without_a_payload_is_null_and_so_is_an_empty_answer(
    fleet: Fleet, held: Certified
) -> None:
    device = await listening(fleet, held)
    async with device.mqtt:
        calling = call(fleet)
        _, request_id, payload = await device.called()
        assert payload == b"null"
        await device.answer(request_id)
        assert (await calling).json() == {"status": 200, "payload": None}


async def test_service_with_its_policy_calls_in_any_spelling(fleet: Fleet, held: Certified) -> None:
    device = await listening(fleet, held)
    async with device.mqtt, hub_client(fleet, await hub_token(fleet, "service")) as service:
        body = {"methodName": "a*b", "payload": 1, "connectTimeoutInSeconds": 0}
        calling = asyncio.ensure_future(
            service.post("/Twins/DEV-1/METHODS/", json=body, params=VERSION)
        )
        name, request_id, _ = await device.called()
        assert name == "a*b"
        await device.answer(request_id, b"[]")
        assert (await calling).json() == {"status": 200, "payload": []}


async def test_operator_calls_by_the_hubs_name(fleet: Fleet, held: Certified) -> None:
    device = await listening(fleet, held)
    async with device.mqtt:
        path = "/fleetroot/hubs/default/devices/dev-1/methods"
        calling = asyncio.ensure_future(fleet.http.post(path, json={"methodName": "m"}))
        _, request_id, _ = await device.called()
        await device.answer(request_id, b"1")
        assert (await calling).json() == {"status": 200, "payload": 1}
    refused = await fleet.http.post(path, json={"methodName": "m"})
    assert (refused.status_code, refused.json()["errorCode"]) == (404, 404103)


async def test_largest_payloads_pass_both_ways(fleet: Fleet, held: Certified) -> None:
    text = "x" * (MAX_PAYLOAD_BYTES - 2)
    device = await listening(fleet, held)
    async with device.mqtt:
        calling = call(fleet, payload=text)
        _, request_id, payload = await device.called()
        assert len(payload) == MAX_PAYLOAD_BYTES
        await device.answer(request_id, payload)
        assert (await calling).json()["payload"] == text
        too_large = await call(fleet, payload=text + "x")
    assert too_large.status_code == 413
    assert error_of(too_large)["errorCode"] == 413001


async def test_subscription_and_the_wait_for_the_device_outlive_a_connection(
    fleet: Fleet, held: Certified
) -> None:
    first = await listening(fleet, held, clean_session=False)
    await first.mqtt.close()
    calling = call(fleet, connectTimeoutInSeconds=60)
    hubs = fleet.server.hubs
    while not hubs.methods._absent:
        await asyncio.sleep(0.001)
    device = await listening(fleet, held, clean_session=False)
    async with device.mqtt:
        assert device.mqtt.session_present
        _, request_id, _ = await device.called()
        await device.answer(request_id, b"{}")
        assert (await calling).status_code == 200


# --- refusals


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"methodName": ""}, "methodName"),
        ({"methodName": None}, "methodName"),
        ({"methodName": 1}, "methodName"),
        ({"methodName": "a/b"}, "methodName"),
        ({"methodName": "a+b"}, "methodName"),
        ({"methodName": "x" * 129}, "methodName"),
        ({"responseTimeoutInSeconds": 4}, "responseTimeoutInSeconds"),
        ({"responseTimeoutInSeconds": 301}, "responseTimeoutInSeconds"),
        ({"connectTimeoutInSeconds": -1}, "connectTimeoutInSeconds"),
        ({"connectTimeoutInSeconds": 301}, "connectTimeoutInSeconds"),
        ({"connectTimeoutInSeconds": "soon"}, "connectTimeoutInSeconds"),
    ],
)
async def test_call_that_is_none_is_refused(fleet: Fleet, said: dict[str, Any], field: str) -> None:
    answer = await call(fleet, **said)
    assert answer.status_code == 400
    assert answer.headers["iothub-errorcode"] == "ArgumentInvalid"
    assert error_of(answer)["errorCode"] == 400004
    assert field in error_of(answer)["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"methodName": "m", "payload": NaN}',
        b'{"methodName": "m", "payload": -Infinity}',
        b'{"methodName": "m", "payload": 1e999}',
        b'{"methodName": "m", "payload": "\\ud800"}',
        b'{"methodName": "m", "payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=str,
)
async def test_body_that_is_not_json_is_refused(fleet: Fleet, held: Certified, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await fleet.http.post("/twins/dev-1/methods", content=body, headers=headers)
    assert answer.status_code == 400, answer.text


async def test_device_that_is_not_there_is_said_as_the_sdks_read_it(
    fleet: Fleet, held: Certified
) -> None:
    async with await fleet.connect("dev-1", held):  # and does not listen
        away, unknown = await call(fleet), await call(fleet, "nobody")
    assert (away.status_code, away.headers["iothub-errorcode"]) == (404, "DeviceNotOnline")
    assert error_of(away)["errorCode"] == 404103
    assert error_of(away)["trackingId"]
    assert (unknown.status_code, unknown.headers["iothub-errorcode"]) == (404, "DeviceNotFound")
    assert error_of(unknown)["errorCode"] == 404001


async def test_connection_that_ends_meanwhile_is_said(fleet: Fleet, held: Certified) -> None:
    device = await listening(fleet, held)
    calling = call(fleet)
    await device.called()
    await device.mqtt.close()
    answer = await calling
    assert (answer.status_code, error_of(answer)["errorCode"]) == (404, 404104)
    assert answer.headers["iothub-errorcode"] == "DeviceConnectionClosedRemotely"


async def test_device_that_is_revoked_meanwhile_does_not_answer(
    fleet: Fleet, held: Certified
) -> None:
    device = await listening(fleet, held)
    calling = call(fleet)
    await device.called()
    revoked = await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    assert revoked.status_code == 200, revoked.text
    assert error_of(await calling)["errorCode"] == 404104
    await device.mqtt.wait_closed()


async def test_device_that_does_not_answer_in_time_is_said(fleet: Fleet, held: Certified) -> None:
    device = await listening(fleet, held)
    async with device.mqtt:
        answer = await call(fleet, responseTimeoutInSeconds=5)
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (504, "GatewayTimeout")
        assert error_of(answer)["errorCode"] == 504101
        _, request_id, _ = await device.called()
        await device.answer(request_id, b'"late"', qos=1)
        calling = call(fleet)
        _, request_id, _ = await device.called()
        await device.answer(request_id, b'"in time"')
        assert (await calling).json()["payload"] == "in time"
    assert (await fleet.refusals())["answer to no call"] == 1


@pytest.mark.parametrize(
    ("status", "payload"),
    [
        (200, b"{"),
        (200, b"\xff\xfe"),
        (200, b'"%b"' % (b"x" * MAX_PAYLOAD_BYTES)),
        ("ok", b"{}"),
        (2**31, b"{}"),
        ("1/2", b"{}"),
    ],
    ids=["json", "utf-8", "size", "word", "range", "levels"],
)
async def test_answer_that_is_none_is_the_callers_502_and_not_the_devices_end(
    fleet: Fleet, held: Certified, status: object, payload: bytes
) -> None:
    device = await listening(fleet, held)
    async with device.mqtt:
        calling = call(fleet)
        _, request_id, _ = await device.called()
        await device.answer(request_id, payload, status, qos=1)
        answer = await calling
        assert (answer.status_code, error_of(answer)["errorCode"]) == (502, 502001)
        calling = call(fleet)
        _, request_id, _ = await device.called()
        await device.answer(request_id, b"1")
        assert (await calling).json()["payload"] == 1


async def test_answers_that_nobody_waits_for_change_nothing(fleet: Fleet, held: Certified) -> None:
    other = await listening(fleet, await fleet.provision("dev-2"), "dev-2")
    device = await listening(fleet, held)
    async with device.mqtt, other.mqtt:
        calling = call(fleet)
        _, request_id, _ = await device.called()
        await other.answer(request_id, b'"stolen"', qos=1)
        await device.answer("0" * 16, b"{}", qos=1)
        await device.mqtt.publish("$iothub/methods/res/200/", b"{}")  # no request id
        await device.mqtt.publish("$iothub/methods/res/200/?$other=1", b"{}")
        await device.answer(request_id, b'"right"', qos=1)
        await device.answer(request_id, b'"twice"', qos=1)
        assert (await calling).json()["payload"] == "right"
    assert (await fleet.refusals())["answer to no call"] == 3


@pytest.mark.parametrize(
    "topic",
    [
        "$iothub/methods/POST/reboot/?$rid=1",
        "$iothub/methods/res/200/?$rid=",
        "$iothub/methods/res/200/?$rid=a b",
        "$iothub/methods/res/200/?$rid=1&$rid=2",
        "$iothub/methods/200/?$rid=1",
    ],
)
async def test_topic_that_is_not_the_devices_closes_the_connection(
    fleet: Fleet, held: Certified, topic: str
) -> None:
    device = await listening(fleet, held)
    await device.mqtt.publish(topic, b"{}", qos=0)
    await device.mqtt.wait_closed()


async def test_packet_over_its_limit_ends_connection_and_call(
    fleet: Fleet, held: Certified
) -> None:
    device = await listening(fleet, held)
    calling = call(fleet)
    _, request_id, _ = await device.called()
    await device.answer(request_id, b"x" * 400_000)
    await device.mqtt.wait_closed()
    assert error_of(await calling)["errorCode"] == 404104


# --- devices and callers that misbehave


async def test_device_that_does_not_read_is_not_piled_up_on(fleet: Fleet, held: Certified) -> None:
    device = await listening(fleet, held)
    hubs, hub = fleet.server.hubs, await hub_of(fleet)
    payload = b'"%b"' % (b"x" * (MAX_PAYLOAD_BYTES - 2))
    asked = MethodCall("m", payload, response_timeout=60)
    session = hubs.live.on(hub, "dev-1")
    assert session is not None
    calls: list[asyncio.Task[Any]] = []
    # Until the kernel's buffers are full: some megabytes.
    while session not in hubs.methods._calls or not hubs.methods._calls[session].unsent:
        if len(hubs.methods) < 20:
            calls.append(asyncio.ensure_future(hubs.methods.call(hub, "dev-1", asked)))
        else:
            calls.pop(0).cancel()  # its caller gave up
        await asyncio.sleep(0.001)
        assert len(calls) < 1000
    connection = session.connection._connection  # type: ignore[attr-defined]
    assert connection.reader_is_slow
    assert connection._transport.get_write_buffer_size() < 2 * MAX_PAYLOAD_BYTES + 64 * 1024
    waiting = [each for each in calls if not each.done()]

    async def answer_all() -> None:
        while True:
            _, request_id, _ = await device.called()
            await device.answer(request_id, b"{}")

    reading = asyncio.ensure_future(answer_all())
    assert {(await each).status for each in waiting} == {200}
    reading.cancel()
    await device.mqtt.close()


async def test_caller_who_leaves_gives_its_place_back(tmp_path: Any) -> None:
    async with Fleet.running(tmp_path / "data", method_calls_per_device=1) as fleet:
        device = await listening(fleet, await fleet.provision("dev-1"))
        async with device.mqtt:
            first = call(fleet)
            _, request_id, _ = await device.called()
            refused = await call(fleet)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert refused.headers["iothub-errorcode"] == "ThrottlingException"
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            async with asyncio.timeout(10):
                while len(fleet.server.hubs.methods):
                    await asyncio.sleep(0.001)
            await device.answer(request_id, b'"too late"', qos=1)
            second = call(fleet)
            _, request_id, _ = await device.called()
            await device.answer(request_id, b"2")
            assert (await second).json()["payload"] == 2


async def test_server_that_stops_answers_its_callers(tmp_path: Any) -> None:
    async with Fleet.running(tmp_path / "data") as fleet:
        device = await listening(fleet, await fleet.provision("dev-1"))
        await fleet.provision("dev-2")
        called = call(fleet)
        await device.called()
        waiting = call(fleet, "dev-2", connectTimeoutInSeconds=300)
        while not fleet.server.hubs.methods._absent:
            await asyncio.sleep(0.001)
        await fleet.server.stop()
        assert (await waiting).status_code == 503
        assert error_of(await called)["errorCode"] == 404104


async def test_calls_are_counted(fleet: Fleet, held: Certified) -> None:
    await call(fleet)
    device = await listening(fleet, held)
    async with device.mqtt:
        calling = call(fleet)
        _, request_id, _ = await device.called()
        text = (await fleet.http.get("/metrics")).text
        assert "fleetroot_method_calls_waiting 1.0" in text
        await device.answer(request_id)
        await calling
    text = (await fleet.http.get("/metrics")).text
    assert 'fleetroot_method_calls_total{outcome="answered"} 1.0' in text
    assert 'fleetroot_method_calls_total{outcome="device_not_online"} 1.0' in text
    assert "fleetroot_method_call_seconds_count 2.0" in text
    assert "fleetroot_method_calls_waiting 0.0" in text
