"""Many enrollments in one request of the operator API, and all of them taken away again."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from fleet import Fleet

SERVICE = "/fleetroot/provisioning-services/default"
KEY = base64.b64encode(b"k" * 32).decode()
SYMMETRIC: dict[str, Any] = {"attestation": {"type": "symmetricKey"}}


def row(registration_id: str, **more: Any) -> dict[str, Any]:
    return {"registrationId": registration_id, **SYMMETRIC, **more}


def keyed(registration_id: str, key: str = KEY) -> dict[str, Any]:
    keys = {"primaryKey": key, "secondaryKey": key}
    return row(registration_id, attestation={"type": "symmetricKey", "symmetricKey": keys})


async def imported(fleet: Fleet, *rows: Any, kind: str = "individual", **how: Any) -> Any:
    answer = await fleet.http.post(
        f"{SERVICE}/importEnrollments",
        params={"kind": kind},
        json={"enrollments": rows} | how,
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def exported(fleet: Fleet, what: str = "exportEnrollments", **query: Any) -> list[Any]:
    answer = await fleet.http.post(f"{SERVICE}/{what}", params=query, timeout=60)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def ids(fleet: Fleet, **query: Any) -> list[str]:
    return [each["registrationId"] for each in await exported(fleet, **query)]


async def audited(fleet: Fleet, subject: str) -> list[tuple[str, str]]:
    found = await fleet.http.get("/fleetroot/audit/entries", params={"subject": subject})
    return [(entry["action"], entry["actor"]) for entry in found.json()["value"]]


async def test_rows_are_created_and_devices_provision_with_their_keys(fleet: Fleet) -> None:
    done = await imported(fleet, keyed("dev-1"), row("dev-2", credentialPolicyName="default"))
    assert done == {"created": 2, "updated": 0, "unchanged": 0, "deleted": 0, "refused": []}
    token = fleet.provisioning_token("dev-1", key=b"k" * 32)
    assert (await fleet.register("dev-1", token=token)).status == 200


async def test_each_row_is_in_the_audit_log(fleet: Fleet) -> None:
    await imported(fleet, row("dev-1"), row("dev-2"))
    await imported(fleet, {"registrationId": "dev-2"}, mode="delete")
    assert [a for a, _ in await audited(fleet, "enrollment/dev-1")] == ["enrollment.put"]
    assert [a for a, _ in await audited(fleet, "enrollment/dev-2")] == [
        "enrollment.delete",
        "enrollment.put",
    ]


async def test_row_that_is_wrong_is_refused_alone(fleet: Fleet) -> None:
    done = await imported(
        fleet,
        row("dev-1"),
        row("-bad-"),
        {"registrationId": "dev-3"},
        row("dev-4", credentialPolicyName="none"),
        row("dev-5", iotHubs=["elsewhere.example"]),
        row("dev-6", attestation={"type": "symmetricKey", "symmetricKey": {"primaryKey": "x"}}),
        row("dev-7", attestation={"type": "x509"}),
        row("DEV-1"),
        SYMMETRIC,
        row("dev-9"),
    )
    assert (done["created"], await ids(fleet)) == (2, ["dev-1", "dev-9"])
    why = {refused["row"]: refused["message"] for refused in done["refused"]}
    assert list(why) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "registrationId must be" in why[1]
    assert why[2] == "attestation: Field required"
    assert "there is no policy 'none'" in why[3]
    assert "not linked" in why[4]
    assert "clientCertificates" in why[6]
    assert why[7] == "another row before it has this id"
    assert why[8] == "registrationId: required"


async def test_row_that_exists_is_refused_and_stays_as_it_was(fleet: Fleet) -> None:
    await imported(fleet, row("dev-1"))
    before = await exported(fleet)
    done = await imported(fleet, row("dev-1", provisioningStatus="disabled"))
    assert [r["errorCode"] for r in done["refused"]] == [409001]
    assert await exported(fleet) == before


async def test_same_rows_again_are_left_as_they_are(fleet: Fleet) -> None:
    rows = [keyed("dev-1"), row("dev-2", initialTwin={"tags": {"site": "yard"}})]
    await imported(fleet, *rows)
    before = await exported(fleet, "exportEnrollmentsWithKeys")
    for mode in ("create", "update", "createOrUpdate"):
        done = await imported(fleet, *rows, skipExisting=True, mode=mode)
        assert (done["unchanged"], done["refused"]) == (2, [])
    assert await exported(fleet, "exportEnrollmentsWithKeys") == before


async def test_row_that_is_there_as_another_is_no_repetition(fleet: Fleet) -> None:
    await imported(fleet, keyed("dev-1"), row("dev-2"))
    other = base64.b64encode(b"o" * 32).decode()
    done = await imported(
        fleet, keyed("dev-1", other), row("dev-2", deviceId="press"), skipExisting=True
    )
    assert [r["message"] for r in done["refused"]] == [
        "an enrollment of that id exists and is another"
    ] * 2


async def test_update_keeps_keys_that_are_left_out_and_refuses_what_is_not_there(
    fleet: Fleet,
) -> None:
    await imported(fleet, keyed("dev-1"))
    done = await imported(
        fleet, row("dev-1", provisioningStatus="disabled"), row("dev-2"), mode="update"
    )
    assert (done["updated"], [r["errorCode"] for r in done["refused"]]) == (1, [404201])
    (found,) = await exported(fleet, "exportEnrollmentsWithKeys")
    assert found["provisioningStatus"] == "disabled"
    assert found["attestation"]["symmetricKey"]["primaryKey"] == KEY


async def test_update_by_etag_refuses_another_version(fleet: Fleet) -> None:
    await imported(fleet, row("dev-1"), row("dev-2"))
    first, second = await exported(fleet)
    done = await imported(fleet, first, second | {"etag": "other"}, mode="updateIfMatchETag")
    assert (done["updated"], [r["row"] for r in done["refused"]]) == (1, [1])


async def test_rows_are_deleted_by_their_ids_alone(fleet: Fleet) -> None:
    await imported(fleet, row("dev-1"), row("dev-2"))
    gone = [{"registrationId": "DEV-1"}, {"registrationId": "dev-3"}]
    done = await imported(fleet, *gone, mode="delete")
    assert (done["deleted"], [r["errorCode"] for r in done["refused"]]) == (1, [404201])
    again = await imported(fleet, *gone, mode="delete", skipExisting=True)
    assert (again["unchanged"], again["refused"]) == (2, [])
    assert await ids(fleet) == ["dev-2"]


async def test_dry_run_tells_what_would_be_and_writes_nothing(fleet: Fleet) -> None:
    await imported(fleet, row("dev-1"))
    tables = ("enrollments", "audit_entries")
    before = [fleet.rows(table) for table in tables]
    done = await imported(fleet, row("dev-1"), row("dev-2"), dryRun=True)
    assert (done["created"], len(done["refused"])) == (1, 1)
    assert [fleet.rows(table) for table in tables] == before


async def test_groups_are_imported_by_their_own_id(fleet: Fleet) -> None:
    group = {"enrollmentGroupId": "line-4", **SYMMETRIC}
    assert (await imported(fleet, group, kind="group"))["created"] == 1
    found = await exported(fleet, kind="group")
    assert [each["enrollmentGroupId"] for each in found] == ["default", "line-4"]
    assert await ids(fleet) == []


async def test_too_many_rows_are_refused_whole(fleet: Fleet) -> None:
    rows = [{"registrationId": f"dev-{n}"} for n in range(1001)]
    answer = await fleet.http.post(f"{SERVICE}/importEnrollments", json={"enrollments": rows})
    assert answer.status_code == 400
    assert await ids(fleet) == []


async def test_two_imports_of_the_same_rows_take_each_row_once(fleet: Fleet) -> None:
    rows = [row(f"dev-{n}") for n in range(200)]
    first, second = await asyncio.gather(imported(fleet, *rows), imported(fleet, *rows))
    assert first["created"] + second["created"] == 200
    assert len(first["refused"]) + len(second["refused"]) == 200


async def test_export_has_keys_only_where_they_are_asked_for(fleet: Fleet) -> None:
    await imported(fleet, keyed("dev-1"))
    assert KEY not in json.dumps(await exported(fleet))
    subject = "provisioning-service/default"
    assert "keys.read" not in [a for a, _ in await audited(fleet, subject)]
    (found,) = await exported(fleet, "exportEnrollmentsWithKeys")
    assert found["attestation"]["symmetricKey"] == {"primaryKey": KEY, "secondaryKey": KEY}
    assert "keys.read" in [a for a, _ in await audited(fleet, subject)]


async def test_export_of_more_than_a_page_has_every_id_once_in_order(fleet: Fleet) -> None:
    rows = [row(f"Dev-{n:04}") for n in range(2001)]
    for start in range(0, len(rows), 1000):
        await imported(fleet, *rows[start : start + 1000])
    assert await ids(fleet) == [each["registrationId"] for each in rows]


async def test_enrollments_are_listed_page_by_page_without_keys(fleet: Fleet) -> None:
    await imported(fleet, *(keyed(f"dev-{n}") for n in range(3)))
    page = (await fleet.http.get(f"{SERVICE}/enrollments", params={"limit": 2})).json()
    assert [each["registrationId"] for each in page["value"]] == ["dev-0", "dev-1"]
    assert KEY not in json.dumps(page)
    rest = await fleet.http.get(f"{SERVICE}/enrollments", params={"after": page["next"]})
    assert [each["registrationId"] for each in rest.json()["value"]] == ["dev-2"]
    assert rest.json()["next"] is None
