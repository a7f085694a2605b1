"""`fleetroot job`, as people type it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from test_hub_commands import ok, refused, shown

from fleet import Fleet


async def make(fleet: Fleet, job_id: str, **said: object) -> None:
    body = {"queryCondition": "*", **said}
    made = await fleet.http.put(f"/jobs/v2/{job_id}", json=body)
    assert made.status_code == 200, made.text


async def test_jobs_are_listed_shown_and_cancelled(fleet: Fleet) -> None:
    data: Path = fleet.server.settings.data
    await fleet.provision("dev-1")
    assert (await ok("job", "list", data=data)).out == "no jobs\n"
    await make(
        fleet,
        "call",
        type="scheduleDeviceMethod",
        cloudToDeviceMethod={"methodName": "reboot", "payload": {"delay": 3}},
    )
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    tags = {"tags": {"site": "plant"}}
    await make(fleet, "tag", type="scheduleUpdateTwin", updateTwin=tags, startTime=later)
    while (await shown("job", "show", "call", data=data))["status"] != "completed":
        await asyncio.sleep(0.05)
    listed = (await ok("job", "list", data=data)).out
    assert "1 of 1, 1 failed" in listed
    assert "scheduled" in listed
    found = await shown("job", "list", "--type", "twin", data=data)
    assert [job["jobId"] for job in found] == ["tag"]
    assert await shown("job", "list", "--status", "running", data=data) == []
    text = (await ok("job", "show", "call", "--failed", data=data)).out
    assert 'method reboot {"delay": 3}' in text
    assert "Failed     1" in text
    assert "not connected" in text
    [device] = (await shown("job", "show", "call", "--devices", data=data))["devices"]
    assert (device["deviceId"], device["status"]) == ("dev-1", "failed")
    cancelled = (await ok("job", "cancel", "tag", data=data)).out
    assert "cancelled" in cancelled
    assert json.dumps(tags["tags"]) in cancelled
    assert "the job is cancelled" in await refused("job", "cancel", "tag", data=data)
    assert "there is no job nothing" in await refused("job", "show", "nothing", data=data)
