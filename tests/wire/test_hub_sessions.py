"""A device's session with a hub: subscriptions, topics, telemetry, wills, keep-alive."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from fleet import Certified, Fleet, Mqtt, refusal
from fleetroot.clock import ManualClock
from fleetroot.gateway.mqtt import (
    ConnackCode,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    SubackCode,
    Subscribe,
    Will,
)

EVENTS = "devices/dev-1/messages/events/"
TWIN = "$iothub/twin/res/#"
GET_TWIN = "$iothub/twin/GET/"


@pytest.fixture
async def certified(fleet: Fleet) -> Certified:
    return await fleet.provision("dev-1")


@pytest.fixture
async def mqtt(fleet: Fleet, certified: Certified) -> Mqtt:
    """The device, connected."""
    return await fleet.connect("dev-1", certified)


# --- sessions


async def test_subscriptions_survive_a_reconnect(fleet: Fleet, certified: Certified) -> None:
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        assert not mqtt.session_present
        await mqtt.subscribe(TWIN, qos=1)
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        assert mqtt.session_present
        assert (await mqtt.ask(GET_TWIN)).status == 200


async def test_subscriptions_survive_a_restart_of_the_server(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data") as fleet:
        certified = await fleet.provision("dev-1")
        async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
            await mqtt.subscribe(TWIN)
    async with Fleet.running(tmp_path / "data") as fleet:
        mqtt = await fleet.connect("dev-1", certified, clean_session=False)
        assert mqtt.session_present
        assert (await mqtt.ask(GET_TWIN)).status == 200


async def test_clean_session_ends_what_was_kept(fleet: Fleet, certified: Certified) -> None:
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        await mqtt.subscribe(TWIN)
    async with await fleet.connect("dev-1", certified, clean_session=True) as mqtt:
        assert not mqtt.session_present
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        assert not mqtt.session_present


async def test_clean_session_keeps_nothing(fleet: Fleet, certified: Certified) -> None:
    async with await fleet.connect("dev-1", certified, clean_session=True) as mqtt:
        await mqtt.subscribe(TWIN)
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        assert not mqtt.session_present


async def test_what_was_unsubscribed_does_not_come_back(fleet: Fleet, certified: Certified) -> None:
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        await mqtt.subscribe(TWIN)
        await mqtt.unsubscribe(TWIN)
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        assert not mqtt.session_present


async def test_device_that_does_not_listen_is_not_answered(mqtt: Mqtt) -> None:
    await mqtt.publish(f"{GET_TWIN}?$rid=first", b"", qos=0)
    await mqtt.subscribe(TWIN)
    answer = await mqtt.ask(GET_TWIN, rid="second")
    assert answer.query == {"$rid": "second"}


# --- topics


@pytest.mark.parametrize(
    "topic_filter",
    [
        TWIN,
        "$iothub/twin/PATCH/properties/desired/#",
        "$iothub/methods/POST/#",
        "$iothub/credentials/res/#",
        "devices/dev-1/messages/devicebound/#",
    ],
)
async def test_documented_filter_is_granted(mqtt: Mqtt, topic_filter: str) -> None:
    assert await mqtt.subscribe(topic_filter) == (SubackCode.QOS_0,)


@pytest.mark.parametrize(
    ("asked", "granted"), [(0, SubackCode.QOS_0), (1, SubackCode.QOS_1), (2, SubackCode.QOS_1)]
)
async def test_subscription_is_granted_at_most_qos_1(
    mqtt: Mqtt, asked: int, granted: SubackCode
) -> None:
    assert await mqtt.subscribe(TWIN, qos=asked) == (granted,)


@pytest.mark.parametrize(
    "topic_filter",
    ["#", "+/+/messages/events/#", "devices/dev-2/messages/devicebound/#", "$iothub/#", EVENTS],
)
async def test_other_filter_closes_the_connection(
    fleet: Fleet, mqtt: Mqtt, topic_filter: str
) -> None:
    await mqtt.send(Subscribe(1, ((topic_filter, 0),)))
    await mqtt.wait_closed()
    assert await fleet.refusals() == {"not a filter of this device": 1}


@pytest.mark.parametrize(
    "topic",
    [
        "a",
        "devices/dev-2/messages/events/",
        "devices/dev-1/messages/devicebound/",
        "devices/DEV-1/messages/events/",
        "$iothub/twin/PATCH/properties/desired/?$rid=1",
        "$dps/registrations/PUT/iotdps-register/?$rid=1",
        f"{GET_TWIN}?$rid",
        f"{EVENTS}a=%2",
    ],
)
async def test_other_topic_closes_the_connection(fleet: Fleet, mqtt: Mqtt, topic: str) -> None:
    await mqtt.send(Publish(topic, b"x", 1, False, False, 1))
    await mqtt.wait_closed()
    assert await fleet.events() == []


async def test_qos_2_closes_the_connection(fleet: Fleet, mqtt: Mqtt) -> None:
    await mqtt.send(Publish(EVENTS, b"x", 2, False, False, 1))
    await mqtt.wait_closed()
    assert await fleet.events() == []


# --- telemetry


async def test_qos_0_message_is_in_the_event_log(fleet: Fleet, mqtt: Mqtt) -> None:
    await mqtt.publish(EVENTS, b"first", qos=0)
    await mqtt.publish(EVENTS, b"second", qos=1)
    assert [event["text"] for event in await fleet.events()] == ["first", "second"]


async def test_property_bag_is_decoded(fleet: Fleet, mqtt: Mqtt) -> None:
    await mqtt.publish(EVENTS + "a%20b=c%2Fd&empty=&bare&%C3%A9=1", b"")
    [event] = await fleet.events()
    assert event["properties"] == {"a b": "c/d", "empty": "", "bare": None, "é": "1"}


async def test_system_properties_have_their_long_names(fleet: Fleet, mqtt: Mqtt) -> None:
    await mqtt.publish(EVENTS + "$.mid=m&%24.cid=c&%24.ct=text%2Fplain&$.ce=utf-8&%24.uid=u", b"")
    [event] = await fleet.events()
    assert event["systemProperties"] == {
        "messageId": "m",
        "correlationId": "c",
        "contentType": "text/plain",
        "contentEncoding": "utf-8",
        "userId": "u",
        "connectionDeviceId": "dev-1",
    }
    assert event["properties"] == {}


async def test_device_cannot_say_that_it_is_another(fleet: Fleet, mqtt: Mqtt) -> None:
    await mqtt.publish(EVENTS + "%24.cdid=dev-2&connectionDeviceId=dev-2", b"")
    [event] = await fleet.events()
    assert event["deviceId"] == event["systemProperties"]["connectionDeviceId"] == "dev-1"


async def test_slash_that_node_adds_is_not_of_the_last_value(fleet: Fleet, mqtt: Mqtt) -> None:
    await mqtt.publish(EVENTS + "room=7/", b"")
    [event] = await fleet.events()
    assert event["properties"] == {"room": "7"}


async def test_retained_message_is_marked_and_not_retained(
    fleet: Fleet, certified: Certified, mqtt: Mqtt
) -> None:
    await mqtt.send(Publish(EVENTS, b"x", 1, True, False, 7))
    await mqtt.expect(Puback)
    await mqtt.publish(EVENTS, b"y")
    marked, plain = await fleet.events()
    assert marked["properties"] == {"mqtt-retain": "true"}
    assert plain["properties"] == {}


async def test_message_of_256_kilobytes_is_taken(fleet: Fleet, mqtt: Mqtt) -> None:
    await mqtt.publish(EVENTS, b"x" * 256 * 1024)
    assert len(await fleet.events()) == 1


async def test_larger_message_closes_the_connection(fleet: Fleet, mqtt: Mqtt) -> None:
    await mqtt.send(Publish(EVENTS, b"x" * (256 * 1024 + 1), 1, False, False, 1))
    await mqtt.wait_closed()
    assert await fleet.events() == []


async def test_body_that_is_no_text_is_shown_as_base64_alone(fleet: Fleet, mqtt: Mqtt) -> None:
    await mqtt.publish(EVENTS, b"\xff\x00")
    [event] = await fleet.events()
    assert event["body"] == "/wA="
    assert "text" not in event


# --- wills


@pytest.fixture
async def testator(fleet: Fleet, certified: Certified) -> Mqtt:
    will = Will(EVENTS + "room=7", b"gone", 1, True)
    return await fleet.connect("dev-1", certified, will=will)


async def test_will_of_a_device_that_goes_without_a_word_is_telemetry(
    fleet: Fleet, testator: Mqtt
) -> None:
    testator.writer.transport.abort()
    [event] = (await fleet.http.get("/fleetroot/events", params={"after": 0, "wait": 10})).json()[
        "value"
    ]
    assert event["text"] == "gone"
    assert event["properties"] == {
        "room": "7",
        "iothub-MessageType": "Will",
        "mqtt-retain": "true",
    }


async def test_will_of_a_device_that_says_goodbye_is_discarded(
    fleet: Fleet, certified: Certified, testator: Mqtt
) -> None:
    await testator.close()
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.publish(EVENTS, b"next")
    assert [event["text"] for event in await fleet.events()] == ["next"]


async def test_will_on_another_topic_is_refused(fleet: Fleet, certified: Certified) -> None:
    will = Will("devices/dev-2/messages/events/", b"gone")
    code = await refusal(fleet.connect("dev-1", certified, will=will))
    assert code is ConnackCode.NOT_AUTHORIZED


# --- keep-alive


async def test_ping_is_answered(mqtt: Mqtt) -> None:
    await mqtt.send(Pingreq())
    await mqtt.expect(Pingresp)


async def test_silence_of_one_and_a_half_keep_alives_closes_the_connection(
    fleet: Fleet, certified: Certified
) -> None:
    loop = asyncio.get_running_loop()
    mqtt = await fleet.connect("dev-1", certified, keep_alive=1)
    start = loop.time()
    await mqtt.wait_closed()
    assert 1.4 <= loop.time() - start < 5
    assert await fleet.refusals() == {"silent": 1}


# --- retention


async def test_events_are_removed_when_their_time_is_over(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    certified = await timed_fleet.provision("dev-1")
    async with await timed_fleet.connect("dev-1", certified) as mqtt:
        await mqtt.publish(EVENTS, b"old")
        clock.advance(timedelta(hours=12))
        await mqtt.publish(EVENTS, b"new")
        clock.advance(timedelta(hours=12, seconds=1))
        await timed_fleet.server.hubs.remove_old_events()
    assert [event["text"] for event in await timed_fleet.events()] == ["new"]


async def test_events_beyond_the_count_are_removed(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", event_retention_count=2) as fleet:
        certified = await fleet.provision("dev-1")
        async with await fleet.connect("dev-1", certified) as mqtt:
            for text in (b"1", b"2", b"3"):
                await mqtt.publish(EVENTS, text)
        await fleet.server.hubs.remove_old_events()
        assert [event["text"] for event in await fleet.events()] == ["2", "3"]


async def test_events_beyond_the_size_are_removed_while_they_come(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", event_retention_megabytes=1) as fleet:
        certified = await fleet.provision("dev-1")
        async with await fleet.connect("dev-1", certified) as mqtt:
            for number in range(20):
                await mqtt.publish(EVENTS, b"%02d" % number + bytes(200 * 1024))
        kept = [event["text"][:2] for event in await fleet.events()]
        assert kept == ["14", "15", "16", "17", "18", "19"]
