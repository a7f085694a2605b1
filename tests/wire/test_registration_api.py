"""Registrations over the provisioning service API: what became of a device, and forgetting it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from test_enrollment_api import client, service_token

from fleet import Fleet


async def state(fleet: Fleet, registration_id: str) -> dict[str, Any]:
    answer = await fleet.http.get(f"/registrations/{registration_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_registration_says_what_the_device_was_told(fleet: Fleet) -> None:
    told = (await fleet.register("Dev-1")).body["registrationState"]
    found = await state(fleet, "dev-1")
    for name in (
        "registrationId",
        "createdDateTimeUtc",
        "lastUpdatedDateTimeUtc",
        "assignedHub",
        "deviceId",
        "status",
        "substatus",
        "etag",
    ):
        assert found[name] == told[name], name
    assert found["enrollmentGroupId"] == "default"


async def test_registration_has_no_certificate(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    answer = await fleet.http.get("/registrations/dev-1")
    assert base64.b64encode(certified.chain[0]).decode() not in answer.text


async def test_registration_tells_which_key_the_device_uses(fleet: Fleet) -> None:
    for which, key in zip(("primary", "secondary"), await fleet.enroll("dev-1"), strict=True):
        await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", key))
        found = await state(fleet, "dev-1")
        assert (found["attestation"], found["credential"]) == ("symmetricKey", which)


async def test_enrollment_shows_the_registration_that_its_device_made(fleet: Fleet) -> None:
    key, _ = await fleet.enroll("dev-1")
    assert "registrationState" not in (await fleet.http.get("/enrollments/dev-1")).json()
    await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", key))
    shown = (await fleet.http.get("/enrollments/dev-1")).json()["registrationState"]
    assert shown == await state(fleet, "dev-1")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("id_", ["none", "-", "a" * 200, "%F0%9F%98%80"])
async def test_unknown_registration_is_404202(fleet: Fleet, method: str, id_: str) -> None:
    answer = await fleet.http.request(method, f"/registrations/{id_}")
    assert (answer.status_code, answer.json()["errorCode"]) == (404, 404202)
    assert answer.headers["x-ms-error-code"] == "404202"


async def test_forgotten_device_keeps_its_identity_and_provisions_as_for_the_first_time(
    fleet: Fleet,
) -> None:
    certified = await fleet.provision("dev-1")
    answer = await fleet.register("dev-1")
    assert answer.body["registrationState"]["substatus"] == "reprovisionedToInitialAssignment"
    assert (await fleet.http.delete("/registrations/DEV-1")).status_code == 204
    assert (await fleet.http.get("/registrations/dev-1")).status_code == 404
    async with await fleet.connect("dev-1", certified):
        pass
    again = (await fleet.register("dev-1")).body["registrationState"]
    assert again["substatus"] == "initialAssignment"
    async with await fleet.connect("dev-1", certified):
        pass


async def test_operation_of_a_forgotten_registration_is_unknown(fleet: Fleet) -> None:
    async with await fleet.provisioning("dev-1") as mqtt:
        told = await mqtt.ask("$dps/registrations/PUT/iotdps-register/", b"{}")
        await fleet.http.delete("/registrations/dev-1")
        operation = told.body["operationId"]
        topic = "$dps/registrations/GET/iotdps-get-operationstatus/"
        answer = await mqtt.answer_to(f"{topic}?$rid=2&operationId={operation}")
    assert (answer.status, answer.error_code) == (404, 404202)


@pytest.mark.parametrize("quote", ["", '"'])
async def test_etag_says_which_version_is_forgotten(fleet: Fleet, quote: str) -> None:
    await fleet.register("dev-1")
    old = (await state(fleet, "dev-1"))["etag"]
    await fleet.register("dev-1")
    new = (await state(fleet, "dev-1"))["etag"]
    for etag, status in ((old, 412), (new, 204)):
        headers = {"if-match": f"{quote}{etag}{quote}"}
        answer = await fleet.http.delete("/registrations/dev-1", headers=headers)
        assert answer.status_code == status, answer.text


async def test_forgetting_is_in_the_audit_log(fleet: Fleet) -> None:
    await fleet.register("dev-1")
    async with client(fleet, service_token(fleet)) as owner:
        await owner.delete("/registrations/dev-1")
    query = {"subject": "registration/dev-1"}
    [entry] = (await fleet.http.get("/fleetroot/audit/entries", params=query)).json()["value"]
    assert entry["action"] == "registration.delete"
    assert entry["actor"] == "default/provisioningserviceowner"
