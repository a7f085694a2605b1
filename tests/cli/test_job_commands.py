"""`fleetroot job`, as people type it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from test_command_line import run
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


async def test_jobs_are_made_for_twins_and_methods(fleet: Fleet) -> None:
    data: Path = fleet.server.settings.data
    await fleet.provision("dev-1")
    tagging = ("job", "patch", "tag", "--where", "*", "--tags", '{"site": "plant"}')
    assert (await ok(*tagging, data=data)).out.startswith("tag queued, starts 20")
    while (await shown("job", "show", "tag", data=data))["status"] != "completed":
        await asyncio.sleep(0.05)
    assert (await fleet.http.get("/twins/dev-1")).json()["tags"] == {"site": "plant"}
    where = "deviceId IN ['dev-1']"
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    calling = ("job", "call", "call", "reboot", "--where", where, "--payload", "[1]")
    made = await shown(*calling, "--start", later, "--within", 60, data=data)
    assert (made["status"], made["queryCondition"]) == ("scheduled", where)
    assert made["maxExecutionTimeInSeconds"] == 60
    assert made["cloudToDeviceMethod"]["payload"] == [1]
    patching = ("job", "patch", "both", "--where", where, "--start", later)
    made = await shown(*patching, "--desired", '{"a": null}', "--tags", "{}", data=data)
    assert made["updateTwin"]["properties"] == {"desired": {"a": None}}
    assert "there is a job tag" in await refused(*tagging, data=data)
    naive = ("job", "patch", "x", "--where", "*", "--tags", "{}", "--start", "2027-01-01T03:00:00")
    assert "startTime" in await refused(*naive, data=data)
    for wrong in (
        ("job", "patch", "x", "--where", "*"),
        ("job", "patch", "x", "--where", "*", "--tags", "{"),
        ("job", "patch", "x", "--tags", "{}"),
        ("job", "call", "x", "reboot", "--where", "*", "--payload", "NaN"),
    ):
        assert (await run(*wrong, data=data)).code == 2
