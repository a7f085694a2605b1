"""Jobs over REST: made, shown, cancelled, listed, and done over the wires."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fleet import Fleet
from hub_service import hub_client, hub_token

VERSION = {"api-version": "2021-04-12"}
TAG = {
    "type": "scheduleUpdateTwin",
    "updateTwin": {"etag": "*", "tags": {"site": "plant"}},
    "queryCondition": "deviceId IN ['dev-1', 'dev-2']",
}
REBOOT = {
    "type": "scheduleDeviceMethod",
    "cloudToDeviceMethod": {
        "methodName": "reboot",
        "payload": {"delay": 3},
        "responseTimeoutInSeconds": 30,
    },
    "queryCondition": "*",
}


async def put(
    fleet: Fleet, body: dict[str, Any], job_id: str = "job-1", **more: Any
) -> httpx.Response:
    return await fleet.http.put(f"/jobs/v2/{job_id}", json=body | more, params=VERSION)


async def over(fleet: Fleet, job_id: str = "job-1") -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            job = (await fleet.http.get(f"/jobs/v2/{job_id}", params=VERSION)).json()
            if job["status"] not in ("scheduled", "queued", "running"):
                return dict(job)
            await asyncio.sleep(0.02)


async def test_job_changes_twins_and_says_how_far_it_is(fleet: Fleet) -> None:
    for device in ("dev-1", "dev-2", "dev-3"):
        await fleet.provision(device)
    made = await put(fleet, TAG, jobId="job-1", startTime=None, maxExecutionTimeInSeconds=60)
    assert made.status_code == 200, made.text
    assert made.json()["updateTwin"] == TAG["updateTwin"]
    assert made.json()["maxExecutionTimeInSeconds"] == 60
    done = await over(fleet)
    assert (done["status"], done["type"], done["jobId"]) == (
        "completed",
        "scheduleUpdateTwin",
        "job-1",
    )
    assert done["deviceJobStatistics"] == {
        "deviceCount": 2,
        "failedCount": 0,
        "succeededCount": 2,
        "runningCount": 0,
        "pendingCount": 0,
    }
    assert done["endTime"] >= done["createdTime"]
    tags = [(await fleet.http.get(f"/twins/dev-{n}")).json()["tags"] for n in (1, 2, 3)]
    assert tags == [{"site": "plant"}, {"site": "plant"}, {}]


async def test_job_calls_methods_and_keeps_what_each_device_answered(fleet: Fleet) -> None:
    await fleet.provision("dev-2")
    async with await fleet.connect("dev-1", await fleet.provision("dev-1")) as device:
        await device.subscribe("$iothub/methods/POST/#")
        async with hub_client(fleet, await hub_token(fleet, "service")) as service:
            made = await service.put("/jobs/v2/job-1", json=REBOOT, params=VERSION)
            assert made.status_code == 200, made.text
        message = await device.message()
        assert message.topic.startswith("$iothub/methods/POST/reboot/?$rid=")
        running = (await fleet.http.get("/jobs/v2/job-1")).json()
        assert running["status"] == "running"
        assert running["deviceJobStatistics"]["runningCount"] == 1
        assert "fleetroot_jobs_running 1.0" in (await fleet.http.get("/metrics")).text
        rid = message.topic.rpartition("=")[2]
        await device.publish(f"$iothub/methods/res/202/?$rid={rid}", message.payload)
    done = await over(fleet)
    assert done["status"] == "completed"
    assert done["cloudToDeviceMethod"] == {
        "methodName": "reboot",
        "payload": {"delay": 3},
        "responseTimeoutInSeconds": 30,
        "connectTimeoutInSeconds": 0,
    }
    assert done["deviceJobStatistics"]["failedCount"] == 1
    path = "/fleetroot/hubs/default/jobs/job-1/devices"
    found = (await fleet.http.get(path)).json()["value"]
    assert [(each["deviceId"], each["status"]) for each in found] == [
        ("dev-1", "succeeded"),
        ("dev-2", "failed"),
    ]
    assert found[0]["outcome"] == {"status": 202, "payload": {"delay": 3}}
    assert found[1]["outcome"]["errorCode"] == 404103
    page = (await fleet.http.get(path, params={"limit": 1})).json()
    assert (len(page["value"]), page["next"]) == (1, "dev-1")
    failed = (await fleet.http.get(path, params={"status": "failed", "after": "dev-1"})).json()
    assert [each["deviceId"] for each in failed["value"]] == ["dev-2"]


async def test_job_waits_for_its_time_and_can_be_cancelled(fleet: Fleet) -> None:
    start = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await put(fleet, TAG, startTime=start)
    assert made.json()["status"] == "scheduled"
    cancelled = await fleet.http.post("/jobs/v2/job-1/cancel", params=VERSION)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    again = await fleet.http.post("/jobs/v2/job-1/cancel", params=VERSION)
    assert (again.status_code, again.headers["iothub-errorcode"]) == (409, "Conflict")


async def test_job_goes_on_after_a_restart(tmp_path: Any) -> None:
    data = tmp_path / "data"
    method = {"methodName": "reboot", "connectTimeoutInSeconds": 60}
    async with Fleet.running(data) as fleet:
        held = await fleet.provision("dev-1")
        device = await fleet.connect("dev-1", held, clean_session=False)
        await device.subscribe("$iothub/methods/POST/#")
        await put(fleet, REBOOT, cloudToDeviceMethod=method)
        await put(fleet, TAG, "job-2", startTime=(datetime.now(UTC) + timedelta(1)).isoformat())
        await device.message()  # and the server stops before it answers
    async with (
        Fleet.running(data) as fleet,
        await fleet.connect("dev-1", held, clean_session=False) as device,
    ):
        rid = (await device.message()).topic.rpartition("=")[2]
        await device.publish(f"$iothub/methods/res/200/?$rid={rid}")
        done = await over(fleet)
        assert done["status"] == "completed"
        assert done["deviceJobStatistics"]["succeededCount"] == 1
        assert (await fleet.http.get("/jobs/v2/job-2")).json()["status"] == "scheduled"


async def test_jobs_are_listed_by_type_and_status_and_page(fleet: Fleet) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for number in range(5):
        await put(fleet, TAG if number % 2 else REBOOT, f"job-{number}", startTime=later)
    found: list[str] = []
    headers = {"x-ms-max-item-count": "2"}
    while True:
        page = await fleet.http.get("/jobs/v2/query", params=VERSION, headers=headers)
        found += [job["jobId"] for job in page.json()]
        if "x-ms-continuation" not in page.headers:
            break
        headers["x-ms-continuation"] = page.headers["x-ms-continuation"]
    assert found == [f"job-{number}" for number in (4, 3, 2, 1, 0)]
    query = {"jobType": "scheduleUpdateTwin", "jobStatus": "scheduled"}
    twins = await fleet.http.get("/jobs/v2/query", params=VERSION | query)
    assert [job["jobId"] for job in twins.json()] == ["job-3", "job-1"]
    none = await fleet.http.get("/jobs/v2/query", params={"jobStatus": "running"})
    assert none.json() == []


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"type": "export"}, "type"),
        ({"type": None}, "type"),
        ({"jobId": "another"}, "jobId"),
        ({"queryCondition": None}, "queryCondition"),
        ({"queryCondition": "tags.a ="}, ""),
        ({"queryCondition": "x" * 9000}, "queryCondition"),
        ({"updateTwin": None}, "updateTwin"),
        ({"updateTwin": {}}, "updateTwin"),
        ({"updateTwin": {"tags": 1}}, "tags"),
        ({"startTime": "tomorrow"}, "startTime"),
        ({"startTime": "2999-01-01T00:00:00Z"}, "startTime"),
        ({"maxExecutionTimeInSeconds": 0}, "maxExecutionTimeInSeconds"),
        ({"maxExecutionTimeInSeconds": 10**9}, "maxExecutionTimeInSeconds"),
        ({"type": "scheduleDeviceMethod"}, "cloudToDeviceMethod"),
        (
            {"type": "scheduleDeviceMethod", "cloudToDeviceMethod": {"methodName": "a/b"}},
            "methodName",
        ),
    ],
)
async def test_job_that_is_none_is_refused(fleet: Fleet, wrong: dict[str, Any], field: str) -> None:
    answer = await put(fleet, TAG | wrong)
    assert answer.status_code == 400, answer.text
    assert answer.json()["Message"].startswith("ErrorCode:ArgumentInvalid;")
    assert field in answer.json()["Message"]
    assert fleet.rows("jobs") == []


async def test_other_refusals_name_themselves(fleet: Fleet) -> None:
    assert (await put(fleet, TAG, "a%2Fb")).status_code in (400, 404)
    assert (await put(fleet, TAG, "query")).status_code in (400, 405)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await put(fleet, TAG, startTime=later)
    assert (await put(fleet, TAG)).status_code == 409
    assert (await fleet.http.get("/jobs/v2/nothing")).status_code == 404
    assert (await fleet.http.post("/jobs/v2/nothing/cancel")).status_code == 404
    bad = {"x-ms-continuation": "%%%"}
    assert (await fleet.http.get("/jobs/v2/query", headers=bad)).status_code == 400
    for query in ({"jobType": "x"}, {"jobStatus": "x"}):
        assert (await fleet.http.get("/jobs/v2/query", params=query)).status_code == 400


async def test_jobs_are_audited_and_their_twin_changes_are_part_of_them(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    await put(fleet, TAG)
    await over(fleet)
    await put(fleet, TAG, "job-2", startTime=(datetime.now(UTC) + timedelta(1)).isoformat())
    await fleet.http.post("/jobs/v2/job-2/cancel")
    entries = (await fleet.http.get("/fleetroot/audit/entries")).json()["value"]
    actions = [(each["action"], each["subject"]) for each in entries]
    assert ("job.create", "job/job-1") in actions
    assert ("job.cancel", "job/job-2") in actions
    assert not [each for each in actions if each[0] == "device.changeTwin"]


async def test_deleted_hub_takes_its_jobs_along(fleet: Fleet) -> None:
    await fleet.http.put("/fleetroot/hubs/works", json={})
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await fleet.http.put(
        "/fleetroot/hubs/works/jobs/job-1", json=REBOOT | {"startTime": later}
    )
    assert made.status_code == 200, made.text
    assert (await fleet.http.get("/fleetroot/hubs/default/jobs/job-1")).status_code == 404
    listed = (await fleet.http.get("/fleetroot/hubs/works/jobs")).json()["value"]
    assert [job["jobId"] for job in listed] == ["job-1"]
    assert (await fleet.http.delete("/fleetroot/hubs/works")).status_code in (200, 204)
    assert fleet.rows("jobs") == []
