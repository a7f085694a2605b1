"""A device's own twin: read, report, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet import Fleet, Mqtt

GET = "$iothub/twin/GET/"
PATCH = "$iothub/twin/PATCH/properties/reported/"


@pytest.fixture
async def mqtt(fleet: Fleet) -> Mqtt:
    """A device that listens to its twin."""
    mqtt = await fleet.connect("dev-1", await fleet.provision("dev-1"))
    await mqtt.subscribe("$iothub/twin/res/#")
    return mqtt


async def report(mqtt: Mqtt, patch: Any) -> int:
    answer = await mqtt.ask(PATCH, json.dumps(patch).encode())
    assert answer.status == 204, answer.body
    return int(answer.query["$version"])


async def reported(mqtt: Mqtt) -> Any:
    return (await mqtt.ask(GET)).body["reported"]


@pytest.mark.parametrize("payload", [b"", b" "])
async def test_new_twin_is_empty_at_version_1(mqtt: Mqtt, payload: bytes) -> None:
    answer = await mqtt.ask(GET, payload)
    assert answer.topic == "$iothub/twin/res/200/?$rid=1"
    assert answer.body == {"desired": {"$version": 1}, "reported": {"$version": 1}}


async def test_report_is_answered_with_the_new_version(mqtt: Mqtt) -> None:
    answer = await mqtt.ask(PATCH, b'{"a": 1}', rid="7")
    assert answer.topic == "$iothub/twin/res/204/?$rid=7&$version=2"
    assert answer.body is None


async def test_reports_are_merged(mqtt: Mqtt) -> None:
    await report(mqtt, {"a": {"x": 1, "y": 2}, "b": [1]})
    assert await report(mqtt, {"a": {"y": 3, "z": 4}, "b": [2]}) == 3
    assert await reported(mqtt) == {"a": {"x": 1, "y": 3, "z": 4}, "b": [2], "$version": 3}


async def test_null_deletes(mqtt: Mqtt) -> None:
    await report(mqtt, {"a": {"x": 1, "y": 2}, "b": 1})
    await report(mqtt, {"a": {"x": None}, "b": None, "c": {"d": None}})
    assert await reported(mqtt) == {"a": {"y": 2}, "c": {}, "$version": 3}


async def test_report_leaves_the_desired_properties_alone(mqtt: Mqtt) -> None:
    await report(mqtt, {"a": 1})
    assert (await mqtt.ask(GET)).body["desired"] == {"$version": 1}


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else 1


def nested_lists(levels: int) -> Any:
    return [nested_lists(levels - 1)] if levels else 1


@pytest.mark.parametrize(
    "patch",
    [
        [],
        "text",
        None,
        {"a.b": 1},
        {"a$": 1},
        {"a b": 1},
        {"": 1},
        {"$version": 5},
        {"a\u0007": 1},
        {"a": 2**53},
        {"a": "x" * 4097},
        {"k" * 1025: 1},
        {"a": ["x" * 3000] * 11},
        nested(11),
        {"a": nested_lists(11)},
    ],
    ids=lambda patch: repr(patch)[:24],
)
async def test_patch_against_the_rules_is_400004(mqtt: Mqtt, patch: Any) -> None:
    answer = await mqtt.ask(PATCH, json.dumps(patch).encode(), rid="7")
    assert answer.topic == "$iothub/twin/res/400/?$rid=7"
    assert answer.error_code == 400004
    assert answer.body["message"]
    assert await reported(mqtt) == {"$version": 1}


async def test_patch_far_too_deep_is_400004(mqtt: Mqtt) -> None:
    patch = b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}"
    assert (await mqtt.ask(PATCH, patch)).error_code == 400004


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 5000, b'{"a": NaN}'])
async def test_patch_that_is_not_json_is_400006(mqtt: Mqtt, body: bytes) -> None:
    assert (await mqtt.ask(PATCH, body)).error_code == 400006


@pytest.mark.parametrize(
    "patch",
    [
        nested(10),
        {"a": 2**52 - 1},
        {"a": -(2**52) + 1},
        {"a": "x" * 4096},
        {"é-_": True},
        {"a": 1.5},
        {"a": [{"b": None}]},
    ],
    ids=lambda patch: repr(patch)[:24],
)
async def test_patch_at_the_limits_is_taken(mqtt: Mqtt, patch: Any) -> None:
    await report(mqtt, patch)
    assert await reported(mqtt) == patch | {"$version": 2}


async def test_reported_properties_are_at_most_32_kilobytes_together(mqtt: Mqtt) -> None:
    for key in "abcd":
        await report(mqtt, {key: ["x" * 4000] * 2})
    answer = await mqtt.ask(PATCH, json.dumps({"e": "x" * 4000}).encode())
    assert (answer.status, answer.error_code) == (400, 400004)
    assert (await reported(mqtt))["$version"] == 5


async def test_request_without_rid_is_done_and_not_answered(mqtt: Mqtt) -> None:
    await mqtt.publish(GET, b"", qos=0)
    answer = await mqtt.ask(GET, rid="second")
    assert answer.query["$rid"] == "second"


async def test_requests_are_answered_in_their_order(mqtt: Mqtt) -> None:
    for rid in range(20):
        topic = PATCH if rid % 2 else GET
        await mqtt.publish(f"{topic}?$rid={rid}", b'{"a": 1}', qos=0)
    answers = [await mqtt.answer() for _ in range(20)]
    assert [answer.query["$rid"] for answer in answers] == [str(rid) for rid in range(20)]
