"""Queries of the provisioning service API: pages of enrollments, groups and registrations."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from test_enrollment_api import client, service_token

from fleet import Fleet
from fleetroot import sas

PATHS = {"/enrollments/query": "registrationId", "/enrollmentGroups/query": "enrollmentGroupId"}
ALL = {"query": "SELECT * FROM enrollments"}


async def ask(
    fleet: Fleet,
    path: str,
    continuation: str | None = None,
    size: int | None = None,
    body: Any = ALL,
) -> httpx.Response:
    headers = {}
    if continuation is not None:
        headers["x-ms-continuation"] = continuation
    if size is not None:
        headers["x-ms-max-item-count"] = str(size)
    return await fleet.http.post(path, json=body, headers=headers)


async def pages(fleet: Fleet, path: str, size: int) -> list[list[dict[str, Any]]]:
    """Every page, as a client goes through them."""
    found, continuation = [], None
    while True:
        answer = await ask(fleet, path, continuation, size)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        continuation = answer.headers.get("x-ms-continuation")
        if continuation is None:
            return found


async def test_enrollments_come_in_the_order_of_their_ids_whatever_their_case(
    fleet: Fleet,
) -> None:
    for id_ in ("b-2", "A-1", "c-3", "D-4", "e-5"):
        await fleet.enroll(id_)
    found = await pages(fleet, "/enrollments/query", 2)
    assert [[each["registrationId"] for each in page] for page in found] == [
        ["A-1", "b-2"],
        ["c-3", "D-4"],
        ["e-5"],
    ]


async def test_page_that_is_full_and_the_last_has_no_continuation(fleet: Fleet) -> None:
    for id_ in ("a-1", "a-2"):
        await fleet.enroll(id_)
    answer = await ask(fleet, "/enrollments/query", size=2)
    assert len(answer.json()) == 2
    assert "x-ms-continuation" not in answer.headers


async def test_query_without_anything_to_find_is_an_empty_page(fleet: Fleet) -> None:
    answer = await ask(fleet, "/enrollments/query")
    assert (answer.status_code, answer.json()) == (200, [])
    assert "x-ms-continuation" not in answer.headers


async def test_individual_enrollments_and_groups_are_apart(fleet: Fleet) -> None:
    await fleet.enroll("dev-1")
    for path, name in PATHS.items():
        [found] = (await ask(fleet, path)).json()
        assert found[name] == ("dev-1" if name == "registrationId" else "default")


async def test_page_says_what_its_items_are(fleet: Fleet) -> None:
    types = {
        "/enrollments/query": "enrollment",
        "/enrollmentGroups/query": "enrollmentGroup",
        "/registrations/default/query": "deviceRegistration",
    }
    for path, item_type in types.items():
        assert (await ask(fleet, path)).headers["x-ms-item-type"] == item_type


async def test_no_page_has_keys(fleet: Fleet) -> None:
    for key in await fleet.enroll("dev-1"):
        for path in PATHS:
            assert base64.b64encode(key).decode() not in (await ask(fleet, path)).text
    [found] = (await ask(fleet, "/enrollments/query")).json()
    assert found["attestation"] == {"type": "symmetricKey", "symmetricKey": {}}


async def test_enrollment_is_shown_with_the_registration_that_its_device_made(
    fleet: Fleet,
) -> None:
    for id_ in ("dev-1", "dev-2", "dev-3"):
        key, _ = await fleet.enroll(id_)
        if id_ == "dev-2":
            await fleet.register(id_, token=fleet.provisioning_token(id_, key))
    states = {
        each["registrationId"]: each.get("registrationState", {}).get("deviceId")
        for page in await pages(fleet, "/enrollments/query", 2)
        for each in page
    }
    assert states == {"dev-1": None, "dev-2": "dev-2", "dev-3": None}


async def test_registration_under_a_group_is_not_of_the_enrollment_that_came_later(
    fleet: Fleet,
) -> None:
    await fleet.register("dev-1")
    await fleet.enroll("dev-1")
    [found] = (await ask(fleet, "/enrollments/query")).json()
    assert "registrationState" not in found
    assert "registrationState" not in (await fleet.http.get("/enrollments/dev-1")).json()


async def test_registrations_are_those_of_the_group(fleet: Fleet) -> None:
    other, _ = await fleet.enroll("line-4", group=True)
    for id_ in ("dev-3", "Dev-1", "dev-2"):
        await fleet.register(id_)
    token = fleet.provisioning_token("pump-1", sas.derive_device_key(other, "pump-1"))
    await fleet.register("pump-1", token=token)
    found = await pages(fleet, "/registrations/Default/query", 2)
    assert [[each["registrationId"] for each in page] for page in found] == [
        ["Dev-1", "dev-2"],
        ["dev-3"],
    ]
    assert {each["enrollmentGroupId"] for page in found for each in page} == {"default"}


async def test_registrations_outlive_their_group(fleet: Fleet) -> None:
    await fleet.register("dev-1")
    await fleet.http.delete("/enrollmentGroups/default")
    [found] = (await ask(fleet, "/registrations/default/query")).json()
    assert found["registrationId"] == "dev-1"


async def test_group_that_never_was_is_404(fleet: Fleet) -> None:
    answer = await ask(fleet, "/registrations/none/query")
    assert (answer.status_code, answer.json()["errorCode"]) == (404, 404201)


async def test_registrations_are_asked_without_a_body_too(fleet: Fleet) -> None:
    await fleet.register("dev-1")
    answer = await fleet.http.post("/registrations/default/query")
    assert [each["registrationId"] for each in answer.json()] == ["dev-1"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM enrollments",
        "select  *\nfrom EnrollmentGroups",
        "SELECT * FROM registrations",
        "SELECT * FROM deviceRegistrations",
        "SELECT *",
        "*",
        " * ",
    ],
)
async def test_every_way_in_which_clients_ask_for_everything_is_taken(
    fleet: Fleet, query: str
) -> None:
    answer = await ask(fleet, "/enrollmentGroups/query", body={"query": query})
    assert [each["enrollmentGroupId"] for each in answer.json()] == ["default"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "SELECT",
        "SELECT registrationId FROM enrollments",
        "SELECT * FROM devices",
        "SELECT * FROM enrollments WHERE provisioningStatus = 'enabled'",
        "SELECT * FROM enrollments; DELETE FROM enrollments",
        "x" * 1025,
    ],
)
async def test_any_other_query_is_400_and_says_which_are_not(fleet: Fleet, query: str) -> None:
    answer = await ask(fleet, "/enrollments/query", body={"query": query})
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)
    assert answer.headers["x-ms-error-code"] == "400004"
    assert "query: " in answer.json()["message"]


@pytest.mark.parametrize("size", [0, -1, 1001, "x"])
async def test_page_of_no_size_is_400(fleet: Fleet, size: Any) -> None:
    assert (await ask(fleet, "/enrollments/query", size=size)).status_code == 400


async def test_continuation_is_good_for_the_query_that_gave_it_alone(fleet: Fleet) -> None:
    for id_ in ("a-1", "a-2"):
        await fleet.enroll(id_)
        await fleet.enroll(id_, group=True)
    given = (await ask(fleet, "/enrollments/query", size=1)).headers["x-ms-continuation"]
    assert (await ask(fleet, "/enrollments/query", given)).status_code == 200
    for path in ("/enrollmentGroups/query", "/registrations/default/query"):
        answer = await ask(fleet, path, given)
        assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)


@pytest.mark.parametrize(
    "continuation", ["", "x", "AAAA", "_", "é", "Cg", "bm9uc2Vuc2U", "A" * 2000]
)
async def test_continuation_that_is_none_of_ours_is_400(fleet: Fleet, continuation: str) -> None:
    headers = [(b"x-ms-continuation", continuation.encode())]
    answer = await fleet.http.post("/enrollments/query", json=ALL, headers=headers)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)


async def test_continuation_goes_on_behind_what_was_deleted_meanwhile(fleet: Fleet) -> None:
    for id_ in ("a-1", "a-2", "a-3"):
        await fleet.enroll(id_)
    given = (await ask(fleet, "/enrollments/query", size=1)).headers["x-ms-continuation"]
    await fleet.http.delete("/enrollments/a-1")
    found = (await ask(fleet, "/enrollments/query", given)).json()
    assert [each["registrationId"] for each in found] == ["a-2", "a-3"]


async def test_shared_access_signature_asks_too(fleet: Fleet) -> None:
    async with client(fleet, service_token(fleet)) as owner:
        answer = await owner.post("/enrollmentGroups/query?api-version=2021-10-01", json=ALL)
    assert [each["enrollmentGroupId"] for each in answer.json()] == ["default"]
