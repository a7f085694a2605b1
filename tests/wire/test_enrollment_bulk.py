"""Bulk changes of enrollments: each item all or not at all, in one call."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from fleet import Fleet

SYMMETRIC = {"type": "symmetricKey"}


def item(id_: str, **more: Any) -> dict[str, Any]:
    return {"registrationId": id_, "attestation": SYMMETRIC} | more


async def bulk(
    fleet: Fleet, mode: str, *items: dict[str, Any], version: str = ""
) -> httpx.Response:
    path = f"/enrollments?api-version={version}" if version else "/enrollments"
    return await fleet.http.post(path, json={"mode": mode, "enrollments": items})


def errors(answer: httpx.Response) -> dict[str, int]:
    """The items that were not done, and the code of why."""
    assert answer.status_code == 200, answer.text
    found = {e["registrationId"]: e["errorCode"] for e in answer.json()["errors"]}
    assert answer.json()["isSuccessful"] is not bool(found)
    return found


async def ids(fleet: Fleet) -> list[str]:
    answer = await fleet.http.post("/enrollments/query", json={"query": "*"})
    return [each["registrationId"] for each in answer.json()]


async def test_all_of_them_are_created(fleet: Fleet) -> None:
    answer = await bulk(fleet, "create", *(item(f"dev-{n}") for n in range(10)))
    assert answer.json() == {"isSuccessful": True, "errors": []}
    assert await ids(fleet) == [f"dev-{n}" for n in range(10)]


async def test_item_that_breaks_a_rule_is_told_and_the_others_are_done(fleet: Fleet) -> None:
    await fleet.enroll("dev-2")
    answer = await bulk(
        fleet,
        "create",
        item("dev-1"),
        item("dev-2"),
        item("dev-3", credentialPolicyName="nowhere"),
        item("dev-4", iotHubs=["other.example"]),
        item("-bad"),
        item("dev-5", deviceId="a/b"),
        {"registrationId": "dev-6"},
        item("dev-7"),
    )
    assert errors(answer) == {
        "dev-2": 409001,
        "dev-3": 400004,
        "dev-4": 400004,
        "-bad": 400004,
        "dev-5": 400004,
        "dev-6": 400004,
    }
    assert all(each["errorStatus"] for each in answer.json()["errors"])
    assert await ids(fleet) == ["dev-1", "dev-2", "dev-7"]


async def test_created_ones_get_keys(fleet: Fleet) -> None:
    await bulk(fleet, "create", item("dev-1"), item("dev-2"))
    keys = {
        (await fleet.http.post(f"/enrollments/{id_}/attestationmechanism")).json()["symmetricKey"][
            which
        ]
        for id_ in ("dev-1", "dev-2")
        for which in ("primaryKey", "secondaryKey")
    }
    assert len(keys) == 4


async def test_update_replaces_what_is_there_and_keeps_its_keys(fleet: Fleet) -> None:
    before = await fleet.enroll("dev-1")
    answer = await bulk(fleet, "update", item("DEV-1", deviceId="pump-7"), item("dev-2"))
    assert errors(answer) == {"dev-2": 404201}
    assert (await fleet.http.get("/enrollments/dev-1")).json()["deviceId"] == "pump-7"
    assert await fleet.enroll("dev-1", again=True) == before


@pytest.mark.parametrize("mode", ["updateIfMatchETag", "updateIfMatchEtag"])
async def test_update_by_etag_replaces_that_version_alone(fleet: Fleet, mode: str) -> None:
    for id_ in ("dev-1", "dev-2", "dev-3"):
        await fleet.enroll(id_)
    etag = (await fleet.http.get("/enrollments/dev-1")).json()["etag"]
    answer = await bulk(
        fleet,
        mode,
        item("dev-1", etag=f'"{etag}"', deviceId="new"),
        item("dev-2", etag=etag, deviceId="new"),
        item("dev-3", deviceId="new"),
        item("dev-4", etag=etag),
    )
    assert errors(answer) == {"dev-2": 412001, "dev-3": 400004, "dev-4": 404201}
    for id_, device_id in (("dev-1", "new"), ("dev-2", None), ("dev-3", None)):
        assert (await fleet.http.get(f"/enrollments/{id_}")).json().get("deviceId") == device_id


async def test_delete_needs_the_id_alone(fleet: Fleet) -> None:
    await fleet.enroll("dev-1")
    await fleet.enroll("dev-2")
    answer = await bulk(fleet, "delete", {"registrationId": "dev-1"}, item("dev-3"))
    assert errors(answer) == {"dev-3": 404201}
    assert await ids(fleet) == ["dev-2"]


async def test_groups_are_told_by_the_id_of_the_group(fleet: Fleet) -> None:
    items = [
        {"enrollmentGroupId": "default", "attestation": SYMMETRIC},
        {
            "enrollmentGroupId": "line-4",
            "attestation": SYMMETRIC,
            "credentialPolicyName": "default",
        },
        {"enrollmentGroupId": "line-5", "attestation": SYMMETRIC, "deviceId": "x"},
    ]
    body = {"mode": "create", "enrollmentGroups": items}
    answer = (await fleet.http.post("/enrollmentGroups/", json=body)).json()
    assert [(e["enrollmentGroupId"], e["errorCode"]) for e in answer["errors"]] == [
        ("default", 409001),
        ("line-5", 400004),
    ]
    assert (await fleet.http.get("/enrollmentGroups/line-4")).status_code == 200
    assert (await fleet.http.get("/enrollmentGroups/line-5")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"mode": "create"},
        {"mode": "create", "enrollments": []},
        {"mode": "upsert", "enrollments": [item("dev-1")]},
        {"mode": "create", "enrollments": [item(f"dev-{n}") for n in range(11)]},
        {"mode": "create", "enrollments": [item("dev-1"), item("DEV-1")]},
        {"mode": "create", "enrollments": [item("dev-1"), item("dev-2", provisioningStatus="x")]},
        {"mode": "create", "enrollments": [item("dev-1"), {"attestation": SYMMETRIC}]},
        {"mode": "create", "enrollmentGroups": [item("dev-1")]},
    ],
)
async def test_call_that_is_not_of_its_form_is_400_and_does_nothing(
    fleet: Fleet, body: dict[str, Any]
) -> None:
    answer = await fleet.http.post("/enrollments", json=body)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)
    assert await ids(fleet) == []


async def test_older_version_keeps_the_policy(fleet: Fleet) -> None:
    await fleet.enroll("dev-1", policy="default")
    answer = await bulk(fleet, "update", item("dev-1", deviceId="x"), version="2021-10-01")
    assert errors(answer) == {}
    assert (await fleet.http.get("/enrollments/dev-1")).json()["credentialPolicyName"] == "default"


async def test_each_item_that_was_done_is_in_the_audit_log(fleet: Fleet) -> None:
    await fleet.enroll("dev-2")
    answer = await bulk(fleet, "create", item("dev-1"), item("dev-2"), item("dev-3"))
    entries = (await fleet.http.get("/fleetroot/audit/entries")).json()["value"]
    found = {e["subject"] for e in entries if e["traceId"] == answer.headers["x-ms-request-id"]}
    assert found == {"enrollment/dev-1", "enrollment/dev-3"}
