"""Twins over the hub's service API, and what devices hear over MQTT of what services want."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from fleet import HUB_VERSION, Certified, Fleet, Mqtt

DESIRED = "$iothub/twin/PATCH/properties/desired/"
MODEL = "dtmi:com:example:Pump;2"


@pytest.fixture
async def certified(fleet: Fleet) -> Certified:
    return await fleet.provision("dev-1")


async def listening(fleet: Fleet, certified: Certified, qos: int = 0, **more: Any) -> Mqtt:
    """A device that hears of its desired properties."""
    mqtt = await fleet.connect("dev-1", certified, **more)
    await mqtt.subscribe(f"{DESIRED}#", qos=qos)
    return mqtt


async def change(fleet: Fleet, body: Any, verb: str = "PATCH", **headers: str) -> Any:
    answer = await fleet.http.request(verb, "/twins/dev-1", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def want(fleet: Fleet, desired: Any, verb: str = "PATCH") -> Any:
    return await change(fleet, {"properties": {"desired": desired}}, verb)


async def heard(mqtt: Mqtt) -> tuple[int, Any]:
    """The next change that the device hears of: the version of its topic, and its body."""
    message = await mqtt.message()
    path, _, version = message.topic.partition("?$version=")
    assert path == DESIRED
    return int(version), json.loads(message.payload)


async def test_twin_has_what_is_known_of_its_device(fleet: Fleet, certified: Certified) -> None:
    mqtt = await fleet.connect("dev-1", certified)
    twin = (await fleet.http.get("/twins/DEV-1")).json()
    made, active = twin["properties"]["desired"]["$metadata"], twin.pop("lastActivityTime")
    assert active >= made["$lastUpdated"]
    assert twin == {
        "deviceId": "dev-1",
        "etag": twin["etag"],
        "deviceEtag": twin["deviceEtag"],
        "status": "enabled",
        "statusUpdateTime": "0001-01-01T00:00:00Z",
        "connectionState": "Connected",
        "cloudToDeviceMessageCount": 0,
        "authenticationType": "certificateAuthority",
        "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
        "modelId": "",
        "version": 2,
        "tags": {},
        "properties": {
            "desired": {
                "$metadata": {"$lastUpdated": made["$lastUpdated"], "$lastUpdatedVersion": 1},
                "$version": 1,
            },
            "reported": {"$metadata": {"$lastUpdated": made["$lastUpdated"]}, "$version": 1},
        },
        "capabilities": {"iotEdge": False},
    }
    await mqtt.close()


async def test_device_hears_of_a_change_and_reads_it(fleet: Fleet, certified: Certified) -> None:
    async with await listening(fleet, certified, qos=1) as mqtt:
        twin = await want(fleet, {"interval": 5, "mode": {"fast": True}})
        assert twin["properties"]["desired"]["$version"] == 2
        assert await heard(mqtt) == (2, {"interval": 5, "mode": {"fast": True}, "$version": 2})
        await want(fleet, {"mode": None})
        assert await heard(mqtt) == (3, {"mode": None, "$version": 3})
        await mqtt.subscribe("$iothub/twin/res/#")
        seen = (await mqtt.ask("$iothub/twin/GET/")).body
    assert seen == {"desired": {"interval": 5, "$version": 3}, "reported": {"$version": 1}}


async def test_whole_twin_is_replaced_as_an_sdk_sends_it(
    fleet: Fleet, certified: Certified
) -> None:
    async with await listening(fleet, certified) as mqtt:
        before = await change(
            fleet, {"tags": {"a": 1, "b": 2}, "properties": {"desired": {"x": 1}}}
        )
        await heard(mqtt)
        before["tags"].pop("a")
        before["properties"]["desired"]["y"] = 2
        before["properties"]["reported"]["forged"] = True
        after = await change(fleet, before, "PUT", **{"if-match": f'"{before["etag"]}"'})
        assert await heard(mqtt) == (3, {"y": 2, "$version": 3})
    assert after["tags"] == {"b": 2}
    assert {k: v for k, v in after["properties"]["desired"].items() if k[0] != "$"} == {
        "x": 1,
        "y": 2,
    }
    assert "forged" not in after["properties"]["reported"]


async def test_null_empties_a_section_and_what_is_left_out_stays(
    fleet: Fleet, certified: Certified
) -> None:
    await change(fleet, {"tags": {"a": 1}, "properties": {"desired": {"x": 1}}})
    twin = await change(fleet, {"tags": None})
    assert (twin["tags"], twin["properties"]["desired"]["x"]) == ({}, 1)
    twin = await change(fleet, {"properties": {"desired": None}})
    assert "x" not in twin["properties"]["desired"]


async def test_replacement_without_a_section_empties_it(fleet: Fleet, certified: Certified) -> None:
    await change(fleet, {"tags": {"a": 1}, "properties": {"desired": {"x": 1}}})
    twin = await change(fleet, {"tags": {"b": 1}}, "PUT")
    assert twin["tags"] == {"b": 1}
    assert "x" not in twin["properties"]["desired"]


async def test_etag_that_is_stale_is_refused(fleet: Fleet, certified: Certified) -> None:
    stale = (await fleet.http.get("/twins/dev-1")).json()["etag"]
    await change(fleet, {"tags": {"by": "me"}}, **{"if-match": f'"{stale}"'})
    answer = await fleet.http.patch(
        "/twins/dev-1", json={"tags": {"by": "you"}}, headers={"if-match": f'"{stale}"'}
    )
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (412, "PreconditionFailed")
    twin = await change(fleet, {"tags": {"by": "anybody"}}, **{"if-match": '"*"'})
    assert twin["tags"] == {"by": "anybody"}


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"tags": 1},
        {"tags": []},
        {"properties": {"desired": "x"}},
        {"properties": {"desired": {"a": {"$version": 1}}}},
        {"properties": {"desired": {"a": "x" * 4097}}},
        {"tags": {f"k{n}": "x" * 4000 for n in range(3)}},
        {"properties": {"desired": {f"k{n}": "x" * 4000 for n in range(9)}}},
        {"tags": {"a": 2**60}},
    ],
)
async def test_bad_change_is_refused_and_changes_nothing(
    fleet: Fleet, certified: Certified, body: Any
) -> None:
    before = (await fleet.http.get("/twins/dev-1")).json()
    for verb in ("PATCH", "PUT"):
        answer = await fleet.http.request(verb, "/twins/dev-1", json=body)
        assert answer.status_code == 400, answer.text
        assert answer.headers["iothub-errorcode"] == "ArgumentInvalid"
    assert (await fleet.http.get("/twins/dev-1")).json() == before


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 400])
async def test_number_that_json_cannot_carry_is_refused(
    fleet: Fleet, certified: Certified, number: str
) -> None:
    answer = await fleet.http.patch("/twins/dev-1", content=f'{{"tags":{{"a":{number}}}}}')
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("verb", ["GET", "PATCH", "PUT"])
async def test_device_that_is_not_there_has_no_twin(fleet: Fleet, verb: str) -> None:
    answer = await fleet.http.request(verb, "/twins/dev-9", json={"tags": {}})
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (404, "DeviceNotFound")


async def test_subscription_to_desired_properties_survives_a_reconnect(
    fleet: Fleet, certified: Certified
) -> None:
    async with await listening(fleet, certified, clean_session=False):
        pass
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        assert mqtt.session_present
        await want(fleet, {"a": 1})
        assert await heard(mqtt) == (2, {"a": 1, "$version": 2})


async def test_device_that_reads_late_arrives_where_the_twin_is(
    fleet: Fleet, certified: Certified
) -> None:
    """What the kernel and the server took for it comes first; the rest in one patch."""
    async with await listening(fleet, certified) as mqtt:
        changes = 300
        for number in range(changes):
            keys = [f"k{number % 7}{place}" for place in range(7)]
            await want(fleet, dict.fromkeys(keys, f"{number}" + "x" * 4000), "PUT")
        known: dict[str, Any] = {}
        patches = version = 0
        while version < changes + 1:
            version, patch = await heard(mqtt)
            patches += 1
            known |= patch
        known = {key: value for key, value in known.items() if value is not None}
        twin = (await fleet.http.get("/twins/dev-1")).json()["properties"]["desired"]
    del twin["$metadata"]
    assert known == twin
    assert patches < changes


@pytest.mark.parametrize("spelling", [MODEL, quote(MODEL)], ids=["raw", "encoded"])
async def test_model_that_a_device_names_is_told(
    fleet: Fleet, certified: Certified, spelling: str
) -> None:
    version = f"{HUB_VERSION}&model-id={spelling}"
    async with await fleet.connect("dev-1", certified, version=version):
        async with asyncio.timeout(5):
            while (await fleet.http.get("/twins/dev-1")).json()["modelId"] != MODEL:
                await asyncio.sleep(0.01)


async def test_twin_counts_the_messages_that_wait(fleet: Fleet, certified: Certified) -> None:
    for _ in range(2):
        await fleet.http.post("/devices/dev-1/messages/deviceBound", content="x")
    assert (await fleet.http.get("/twins/dev-1")).json()["cloudToDeviceMessageCount"] == 2


async def test_disabled_device_has_a_twin_that_says_so(fleet: Fleet, certified: Certified) -> None:
    await fleet.http.post("/fleetroot/devices/dev-1/disable")
    assert (await change(fleet, {"tags": {"a": 1}}))["status"] == "disabled"
