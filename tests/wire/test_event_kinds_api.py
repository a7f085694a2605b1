"""Events of every kind over the operator API."""

from __future__ import annotations

import asyncio
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
