"""Events of every kind over the operator API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fleet import SECONDS, Fleet


async def kinds_logged(fleet: Fleet, least: int, **query: Any) -> list[dict[str, Any]]:
    async with asyncio.timeout(SECONDS):
        while True:
            answer = await fleet.http.get("/fleetroot/events", params={"after": 0} | query)
            if len(answer.json()["value"]) >= least:
                return list(answer.json()["value"])
            await asyncio.sleep(0.05)


async def test_life_of_a_device_is_told_by_kind(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.publish("devices/dev-1/messages/events/", b"1")

    found = await kinds_logged(fleet, 5, kind="all")

    kinds = [event["kind"] for event in found]
    assert sorted(kinds[:2]) == ["certificate.issued", "identity.created"]
    assert kinds[2:] == ["device.connected", "telemetry", "device.disconnected"]
    chosen = await kinds_logged(fleet, 2, kind=["telemetry", "certificate"])
    assert sorted(event["kind"] for event in chosen) == ["certificate.issued", "telemetry"]


async def test_unknown_kind_is_400(fleet: Fleet) -> None:
    answer = await fleet.http.get("/fleetroot/events", params={"kind": "lifecicle"})
    assert answer.status_code == 400
    assert "lifecicle" in answer.json()["message"]


# --- as a stream


async def blocks(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, str]]:
    block: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(": ")
            block[name] = value
            continue
        if "data" in block:
            yield block
        block = {}


async def test_stream_goes_on_behind_the_last_event_id(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with asyncio.timeout(SECONDS), await fleet.connect("dev-1", certified) as mqtt:
        for text in (b"1", b"2"):
            await mqtt.publish("devices/dev-1/messages/events/", text)
        first, second = await kinds_logged(fleet, 2)
        headers = {"last-event-id": str(first["sequenceNumber"])}
        async with fleet.http.stream("GET", "/fleetroot/events/stream", headers=headers) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            found = blocks(stream.aiter_lines())
            old = await anext(found)
            await mqtt.publish("devices/dev-1/messages/events/", b"3")
            new = await anext(found)
    assert (old["id"], old["event"]) == (str(second["sequenceNumber"]), "telemetry")
    assert json.loads(old["data"]) == second
    assert json.loads(new["data"])["text"] == "3"


async def test_stream_ends_when_the_server_stops(fleet: Fleet) -> None:
    async with asyncio.timeout(SECONDS):
        async with fleet.http.stream("GET", "/fleetroot/events/stream") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == ": fleetroot"
            fleet.server.hubs.stop_waiting()
            rest = [line async for line in lines]
    assert all(not line.startswith("data") for line in rest)


async def test_stream_of_an_unknown_hub_is_404(fleet: Fleet) -> None:
    answer = await fleet.http.get("/fleetroot/events/stream", params={"hub": "other"})
    assert answer.status_code == 404


async def test_stream_ends_with_the_token_that_opened_it(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    body = {"name": "ear", "role": "reader"}
    made = (await fleet.http.post("/fleetroot/tokens", json=body)).json()
    headers = {"authorization": f"Bearer {made['token']}"}
    async with (
        asyncio.timeout(SECONDS),
        await fleet.connect("dev-1", certified) as mqtt,
        fleet.http.stream("GET", "/fleetroot/events/stream", headers=headers) as stream,
    ):
        found = blocks(stream.aiter_lines())
        await mqtt.publish("devices/dev-1/messages/events/", b"1")
        assert json.loads((await anext(found))["data"])["text"] == "1"
        gone = await fleet.http.post("/fleetroot/tokens/ear/revoke")
        assert gone.is_success, gone.text
        await mqtt.publish("devices/dev-1/messages/events/", b"2")
        assert [block async for block in found] == []
