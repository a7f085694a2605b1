"""What the device SDKs count on without saying so: habits that were seen in their code.

The SDKs themselves are run in `tests/clients`; here each habit stands alone, so that what breaks it
has a name.
"""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleet import Certified, Fleet, Mqtt, device_csr
from fleetroot.clock import ManualClock
from fleetroot.gateway.mqtt import Disconnect, Publish

REGISTER = "$dps/registrations/PUT/iotdps-register/"
POLL = "$dps/registrations/GET/iotdps-get-operationstatus/"
TWIN = "$iothub/twin/res/#"
CHANNELS = [
    TWIN,
    "$iothub/twin/PATCH/properties/desired/#",
    "$iothub/methods/POST/#",
    "devices/dev-1/messages/devicebound/#",
]


@pytest.fixture
async def certified(fleet: Fleet) -> Certified:
    return await fleet.provision("dev-1")


# --- TLS


@pytest.mark.parametrize("by_websocket", [False, True], ids=["MQTT port", "WebSocket"])
async def test_device_that_speaks_tls_1_2_only_provisions_and_connects(
    fleet: Fleet, by_websocket: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = Fleet.trust

    def old(self: Fleet) -> ssl.SSLContext:
        context = trust(self)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    monkeypatch.setattr(Fleet, "trust", old)
    device = replace(fleet, devices_use_websocket=by_websocket)
    certified = await device.provision("dev-1")
    await (await device.connect("dev-1", certified)).close()


async def test_certificate_is_for_the_name_that_is_dialled_and_no_other(fleet: Fleet) -> None:
    fleet.bootstrap["hostname"] = "other.example"
    with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example"):
        await fleet.tls()


# --- answers of provisioning


async def raw_answer(mqtt: Mqtt, topic: str, payload: bytes = b"{}") -> Publish:
    await mqtt.publish(topic, payload, qos=0)
    return await mqtt.message()


def parameters(topic: str) -> list[tuple[str, str]]:
    """The query of an answer's topic as SDKs split it: every parameter k=v."""
    query = re.fullmatch(r"\$dps/registrations/res/\d{3}/\?([^$]*\$rid[^$]*)", topic)
    assert query is not None, topic
    return [(key, value) for key, value in (p.split("=") for p in query.group(1).split("&"))]


ASKED = {
    "registered": (REGISTER + "?$rid=1", b'{"registrationId": "dev-1"}'),
    "not JSON": (REGISTER + "?$rid=1", "dév".encode()),
    "bad CSR": (REGISTER + "?$rid=1", b'{"csr": "x"}'),
    "no such operation": (POLL + "?$rid=1&operationId=none", b""),
    "no operation": (POLL + "?$rid=1", b" "),
}


@pytest.mark.parametrize("asked", ASKED)
async def test_every_answer_is_a_topic_and_json_that_sdks_can_take_apart(
    fleet: Fleet, asked: str
) -> None:
    async with await fleet.provisioning("dev-1") as mqtt:
        answer = await raw_answer(mqtt, *ASKED[asked])
    assert parameters(answer.topic) == [("$rid", "1")]
    assert answer.payload.isascii()
    body = json.loads(answer.payload)
    if asked == "registered":
        assert body["status"] == body["status"].lower() == "assigned"
        assert body["registrationState"]["status"] == "assigned"
    else:
        assert body["errorCode"] != 0
        assert body["message"]


async def test_retry_after_is_whole_seconds_behind_the_rid(fleet: Fleet) -> None:
    await fleet.execute("DELETE FROM linked_hubs")
    async with await fleet.provisioning("dev-1") as mqtt:
        answer = await raw_answer(mqtt, REGISTER + "?$rid=1")
    (_, rid), (name, seconds) = parameters(answer.topic)
    assert (rid, name) == ("1", "retry-after")
    assert int(seconds) > 0


@pytest.mark.parametrize("status", ["assigning", "unassigned"])
async def test_poll_of_what_is_not_done_is_202_with_a_status_and_retry_after(
    fleet: Fleet, status: str
) -> None:
    async with await fleet.provisioning("dev-1") as mqtt:
        operation = (await mqtt.ask(REGISTER, b"{}")).body["operationId"]
        await fleet.execute(f"UPDATE registrations SET status = '{status}'")
        answer = await mqtt.answer_to(f"{POLL}?$rid=2&operationId={operation}")
    assert (answer.status, answer.body["status"]) == (202, status)
    assert list(answer.query) == ["$rid", "retry-after"]


async def test_failed_registration_is_a_200(fleet: Fleet) -> None:
    async with await fleet.provisioning("dev-1") as mqtt:
        operation = (await mqtt.ask(REGISTER, b"{}")).body["operationId"]
        await fleet.execute("UPDATE registrations SET status = 'failed'")
        answer = await mqtt.answer_to(f"{POLL}?$rid=2&operationId={operation}")
    assert (answer.status, answer.body["status"]) == (200, "failed")


async def test_operation_id_is_plain(fleet: Fleet) -> None:
    answer = await fleet.register("dev-1", {"csr": device_csr("dev-1")[1]})
    assert re.fullmatch(r"[A-Za-z0-9.\-]+", answer.body["operationId"])


async def test_node_unsubscribes_before_it_disconnects(fleet: Fleet) -> None:
    mqtt = await fleet.provisioning("dev-1")
    assert (await mqtt.ask(REGISTER, b"{}")).status == 200
    await mqtt.unsubscribe("$dps/registrations/res/#")
    await mqtt.send(Disconnect())
    await mqtt.wait_closed()


async def test_nothing_of_a_provisioning_session_is_kept(fleet: Fleet) -> None:
    async with await fleet.provisioning("dev-1"):
        pass
    async with await fleet.provisioning("dev-1", subscribe=False) as mqtt:
        assert not mqtt.session_present


# --- sessions of the hub


async def test_every_subscription_survives_a_disconnect_and_is_not_asked_for_again(
    fleet: Fleet, certified: Certified
) -> None:
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        assert set(await mqtt.subscribe(*CHANNELS, qos=1)) == {1}
    kept = fleet.rows("subscriptions")
    assert len(kept) == len(CHANNELS)
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        assert mqtt.session_present
        assert (await mqtt.ask("$iothub/twin/GET/")).status == 200
    assert fleet.rows("subscriptions") == kept


async def test_subscriptions_survive_the_renewal_of_a_token(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    key, _ = await timed_fleet.enroll("dev-1")
    await timed_fleet.register("dev-1", token=timed_fleet.provisioning_token("dev-1", key))
    short = timed_fleet.hub_token("dev-1", key, timedelta(minutes=5))
    mqtt = await timed_fleet.connect("dev-1", token=short, clean_session=False)
    await mqtt.subscribe(*CHANNELS)
    clock.advance(timedelta(minutes=4))
    renewed = timed_fleet.hub_token("dev-1", key)
    async with await timed_fleet.connect("dev-1", token=renewed, clean_session=False) as again:
        await mqtt.wait_closed()
        assert again.session_present
        assert (await again.ask("$iothub/twin/GET/")).status == 200


async def test_every_subscription_survives_a_restart(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data") as fleet:
        certified = await fleet.provision("dev-1")
        async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
            await mqtt.subscribe(*CHANNELS)
        kept = fleet.rows("subscriptions")
    async with Fleet.running(tmp_path / "data") as fleet:
        async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
            assert mqtt.session_present
        assert fleet.rows("subscriptions") == kept


# --- twins and messages of the hub


@pytest.fixture
async def mqtt(fleet: Fleet, certified: Certified) -> Mqtt:
    connected = await fleet.connect("dev-1", certified)
    await connected.subscribe(TWIN)
    return connected


async def test_twin_error_has_what_node_knows_an_error_by(mqtt: Mqtt) -> None:
    answer = await mqtt.ask("$iothub/twin/PATCH/properties/reported/", b"[]")
    assert answer.status == 400
    assert answer.body["errorCode"] != 0
    assert answer.body["message"]


async def test_twin_answers_end_in_a_query_of_pairs(mqtt: Mqtt) -> None:
    await mqtt.publish("$iothub/twin/PATCH/properties/reported/?$rid=7", b'{"a": 1}', qos=0)
    answer = await mqtt.message()
    assert re.fullmatch(r"\$iothub/twin/res/204/\?\$rid=7&\$version=\d+", answer.topic)
    assert answer.payload == b""
    await mqtt.publish("$iothub/twin/GET/?$rid=8", b" ", qos=0)
    assert (await mqtt.message()).topic == "$iothub/twin/res/200/?$rid=8"


SYSTEM = {
    "mid": "messageId",
    "cid": "correlationId",
    "uid": "userId",
    "to": "to",
    "ct": "contentType",
    "ce": "contentEncoding",
    "exp": "absoluteExpiryTime",
    "ifid": "interfaceId",
    "on": "outputName",
    "sub": "componentName",
}


@pytest.mark.parametrize(("dollar", "end"), [("$", ""), ("%24", ""), ("%24", "/")])
async def test_system_properties_are_known_however_their_keys_are_written(
    fleet: Fleet, mqtt: Mqtt, dollar: str, end: str
) -> None:
    bag = "&".join(f"{dollar}.{short}={short}%2Fx" for short in SYSTEM)
    await mqtt.publish(f"devices/dev-1/messages/events/{bag}{end}", b"")
    [event] = await fleet.events()
    sent = {long: f"{short}/x" for short, long in SYSTEM.items()}
    assert event["systemProperties"] == sent | {"connectionDeviceId": "dev-1"}
    assert event["properties"] == {}
