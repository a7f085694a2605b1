"""The provisioning service's HTTPS API: enrollments and enrollment groups."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from fleet import HTTP_SECONDS, Fleet
from fleetroot import sas

SYMMETRIC = {"attestation": {"type": "symmetricKey"}}
PATHS = ["/enrollments/dev-1", "/enrollmentGroups/line-4"]


def service_token(
    fleet: Fleet,
    *,
    resource: str | None = None,
    key: bytes | None = None,
    name: str = "provisioningserviceowner",
    expires_in: timedelta = timedelta(hours=1),
) -> str:
    fields = dict(
        part.split("=", 1)
        for part in fleet.bootstrap["provisioning"]["connectionString"].split(";")
    )
    return sas.sign_token(
        resource or fields["HostName"],
        key or base64.b64decode(fields["SharedAccessKey"]),
        fleet.server.clock.now() + expires_in,
        name,
    )


def client(fleet: Fleet, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"https://{fleet.bootstrap['hostname']}:{fleet.bootstrap['httpsPort']}",
        headers={"authorization": token},
        verify=fleet.trust(),
        timeout=HTTP_SECONDS,
    )


async def put(fleet: Fleet, path: str, etag: str | None = None, **body: Any) -> httpx.Response:
    headers = {"content-type": "application/json"}
    if etag is not None:
        headers["if-match"] = etag
    return await fleet.http.put(path, content=json.dumps(SYMMETRIC | body), headers=headers)


def without_keys(written: dict[str, Any]) -> dict[str, Any]:
    """An enrollment as it is read, of what its writer was answered."""
    return written | {"attestation": {"type": "symmetricKey", "symmetricKey": {}}}


# --- who may ask


async def test_owner_of_the_service_reads_writes_and_deletes(fleet: Fleet) -> None:
    async with client(fleet, service_token(fleet)) as owner:
        assert (await owner.put("/enrollments/dev-1", json=SYMMETRIC)).status_code == 200
        assert (await owner.get("/enrollments/dev-1")).status_code == 200
        assert (await owner.delete("/enrollments/dev-1")).status_code == 204


async def test_token_that_is_not_the_services_is_401003(fleet: Fleet) -> None:
    for token in (
        service_token(fleet, key=b"k" * 32),
        service_token(fleet, resource="other.example"),
        service_token(fleet, expires_in=timedelta(seconds=-1)),
        service_token(fleet, name="other"),
        "SharedAccessSignature x",
    ):
        async with client(fleet, token) as stranger:
            answer = await stranger.get("/enrollmentGroups/default")
        assert (answer.status_code, answer.json()["errorCode"]) == (401, 401003)


async def test_devices_token_does_not_open_the_service(fleet: Fleet) -> None:
    async with client(fleet, fleet.provisioning_token("dev-1").decode()) as device:
        assert (await device.get("/enrollmentGroups/default")).status_code == 401


# --- documents


async def test_individual_enrollment_is_read_as_it_was_written(fleet: Fleet) -> None:
    written = (
        await put(
            fleet,
            "/enrollments/Dev-1",
            registrationId="Dev-1",
            deviceId="pump-7",
            provisioningStatus="disabled",
            reprovisionPolicy={"updateHubAssignment": False, "migrateDeviceData": False},
            iotHubs=[fleet.hub_host],
            initialTwin={"tags": {"a": 1}, "properties": {"desired": {"b": 2}}},
            credentialPolicyName="default",
        )
    ).json()
    assert (await fleet.http.get("/enrollments/dev-1")).json() == without_keys(written)
    assert written["registrationId"] == "Dev-1"
    assert written["deviceId"] == "pump-7"
    assert written["provisioningStatus"] == "disabled"
    assert written["reprovisionPolicy"] == {
        "updateHubAssignment": False,
        "migrateDeviceData": False,
    }
    assert written["iotHubs"] == [fleet.hub_host]
    assert written["allocationPolicy"] == "static"
    assert written["initialTwin"] == {"tags": {"a": 1}, "properties": {"desired": {"b": 2}}}
    assert written["credentialPolicyName"] == "default"


@pytest.mark.parametrize("path", PATHS)
async def test_keys_that_are_left_out_are_generated(fleet: Fleet, path: str) -> None:
    keys = (await put(fleet, path)).json()["attestation"]["symmetricKey"]
    primary, secondary = (base64.b64decode(keys[which]) for which in ("primaryKey", "secondaryKey"))
    assert len(primary) == len(secondary) == 64
    assert primary != secondary


async def test_keys_that_are_left_out_of_a_replacement_are_kept(fleet: Fleet) -> None:
    first = (await put(fleet, "/enrollments/dev-1")).json()
    second = (await put(fleet, "/enrollments/dev-1", "*", deviceId="x")).json()
    assert first["attestation"] == second["attestation"]
    assert first["createdDateTimeUtc"] == second["createdDateTimeUtc"]


async def test_older_version_that_does_not_know_policies_keeps_the_policy(fleet: Fleet) -> None:
    for version in ("2018-09-01-preview", "2021-10-01"):
        answer = await put(fleet, f"/enrollmentGroups/default?api-version={version}", "*")
        assert answer.json()["credentialPolicyName"] == "default"


async def test_newer_version_takes_the_policy_away(fleet: Fleet) -> None:
    answer = await put(fleet, "/enrollmentGroups/default?api-version=2026-11-01", "*")
    assert "credentialPolicyName" not in answer.json()


async def test_unknown_version_is_told_which_there_are(fleet: Fleet) -> None:
    answer = await fleet.http.get("/enrollmentGroups/default?api-version=2031-01-01")
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)
    assert "2021-10-01" in answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/enrollmentgroups/default",
        "/enrollmentGroups/default/",
        "/ENROLLMENTGROUPS/Default/?api-version=2021-10-01",
    ],
)
async def test_path_is_found_in_any_case_and_with_a_slash_behind_it(
    fleet: Fleet, path: str
) -> None:
    async with client(fleet, service_token(fleet)) as owner:
        answer = await owner.get(path)
    assert (answer.status_code, answer.json()["enrollmentGroupId"]) == (200, "default")


async def test_id_in_a_path_keeps_its_case(fleet: Fleet) -> None:
    assert (await put(fleet, "/EnrollmentS/Dev-X/")).json()["registrationId"] == "Dev-X"


# --- preconditions


@pytest.mark.parametrize("path", PATHS)
async def test_creating_what_exists_is_409(fleet: Fleet, path: str) -> None:
    before = (await put(fleet, path)).json()
    answer = await put(fleet, path, provisioningStatus="disabled")
    assert (answer.status_code, answer.json()["errorCode"]) == (409, 409001)
    assert (await fleet.http.get(path)).json() == without_keys(before)


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("path", PATHS)
async def test_replacing_takes_the_etag_that_is_there(
    fleet: Fleet, path: str, quoted: bool
) -> None:
    etag = (await put(fleet, path)).json()["etag"]
    answer = await put(fleet, path, f'"{etag}"' if quoted else etag)
    assert answer.status_code == 200
    assert answer.json()["etag"] != etag


@pytest.mark.parametrize("etag", ["other", '"other"'])
async def test_another_etag_is_412_and_changes_nothing(fleet: Fleet, etag: str) -> None:
    before = (await put(fleet, "/enrollments/dev-1")).json()
    answer = await put(fleet, "/enrollments/dev-1", etag, deviceId="x")
    assert (answer.status_code, answer.json()["errorCode"]) == (412, 412001)
    headers = {"if-match": etag}
    assert (await fleet.http.delete("/enrollments/dev-1", headers=headers)).status_code == 412
    assert (await fleet.http.get("/enrollments/dev-1")).json() == without_keys(before)


@pytest.mark.parametrize("etag", ["*", "other"])
async def test_replacing_what_does_not_exist_is_412(fleet: Fleet, etag: str) -> None:
    assert (await put(fleet, "/enrollments/dev-1", etag)).status_code == 412
    assert (await fleet.http.get("/enrollments/dev-1")).status_code == 404


async def test_only_one_of_two_writers_of_the_same_etag_wins(fleet: Fleet) -> None:
    etag = (await put(fleet, "/enrollments/dev-1")).json()["etag"]
    codes = [
        (await put(fleet, "/enrollments/dev-1", etag, deviceId=name)).status_code
        for name in ("one", "two")
    ]
    assert codes == [200, 412]
    assert (await fleet.http.get("/enrollments/dev-1")).json()["deviceId"] == "one"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
async def test_unknown_enrollment_is_404201(fleet: Fleet, method: str, path: str) -> None:
    answer = await fleet.http.request(method, path)
    assert (answer.status_code, answer.json()["errorCode"]) == (404, 404201)


async def test_deleting_an_enrollment_leaves_its_devices_what_they_have(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    assert (await fleet.http.delete("/enrollmentGroups/default")).status_code == 204
    async with await fleet.connect("dev-1", certified):
        pass
    assert (await fleet.register("dev-1")).status == 404


# --- what is refused


@pytest.mark.parametrize(
    "change",
    [
        {"attestation": None},
        {"attestation": {"type": "x509"}},
        {"attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "short"}}},
        {"attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "!" * 44}}},
        {"registrationId": "dev-2"},
        {"deviceId": "a/b"},
        {"provisioningStatus": "maybe"},
        {"credentialPolicyName": "nowhere"},
        {"credentialPolicyName": "\ud800"},
        {"iotHubs": ["other.example"]},
        {"iotHubHostName": "other.example"},
        {"allocationPolicy": "anywhere"},
        {"initialTwin": 5},
        {"expiryDateTimeUtc": 0},
        {"expiryDateTimeUtc": "2027-01-01T00:00:00"},
        {"expiryDateTimeUtc": "0001-01-01T00:00:00+14:00"},
        {"initialTwin": {"tags": [1]}},
        {"initialTwin": {"properties": 5}},
        {"initialTwin": {"properties": {"desired": [1]}}},
        {"initialTwin": {"properties": {"desired": {"a": 2**70}}}},
    ],
    ids=lambda change: json.dumps(change)[:60],
)
async def test_bad_enrollment_is_400004_and_creates_nothing(
    fleet: Fleet, change: dict[str, Any]
) -> None:
    answer = await put(fleet, "/enrollments/dev-1", **change)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)
    assert (await fleet.http.get("/enrollments/dev-1")).status_code == 404


@pytest.mark.parametrize("id_", ["-a", "a_", "a" * 129, "a$b", "a b"])
async def test_what_is_no_registration_id_is_400004(fleet: Fleet, id_: str) -> None:
    answer = await put(fleet, f"/enrollments/{id_}")
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)


async def test_group_has_no_device_id(fleet: Fleet) -> None:
    answer = await put(fleet, "/enrollmentGroups/line-4", deviceId="x")
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)


@pytest.mark.parametrize(
    "initial_twin",
    [{}, {"tags": None}, {"properties": None}, {"properties": {"desired": None}}, {"tags": {}}],
)
async def test_initial_twin_with_nothing_in_it_is_an_empty_twin(
    fleet: Fleet, initial_twin: dict[str, Any]
) -> None:
    primary, _ = await fleet.enroll("dev-1", initialTwin=initial_twin)
    await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", primary))
    async with await fleet.connect("dev-1", token=fleet.hub_token("dev-1", primary)) as mqtt:
        await mqtt.subscribe("$iothub/twin/res/#")
        twin = await mqtt.ask("$iothub/twin/GET/")
    assert twin.body["desired"] == {"$version": 1}
