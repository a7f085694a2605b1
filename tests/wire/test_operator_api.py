"""The operator's HTTPS API: who may ask, devices, certificates, events, limits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509

from fleet import Fleet
from fleetroot import sas
from fleetroot.clock import ManualClock

ROUTES = [
    ("GET", "/fleetroot/status"),
    ("GET", "/fleetroot/devices"),
    ("GET", "/fleetroot/devices/dev-1"),
    ("POST", "/fleetroot/devices/dev-1/revoke"),
    ("POST", "/fleetroot/devices/dev-1/disable"),
    ("POST", "/fleetroot/devices/dev-1/enable"),
    ("GET", "/fleetroot/certificates"),
    ("GET", "/fleetroot/certificates/00"),
    ("GET", "/fleetroot/events"),
    ("PUT", "/enrollments/dev-1"),
    ("GET", "/enrollmentGroups/default"),
    ("DELETE", "/enrollmentGroups/default"),
]
DEVICE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/fleetroot/providers"
    "/Microsoft.DeviceRegistry/namespaces/default/devices/dev-1?api-version=2025-10-01"
)
ERROR_FIELDS = {"errorCode", "trackingId", "message", "timestampUtc"}


def anonymous(fleet: Fleet, port: str = "httpsPort", **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"https://{fleet.bootstrap['hostname']}:{fleet.bootstrap[port]}",
        headers=headers,
        verify=fleet.trust(),
    )


# --- who may ask


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer",
        "Bearer wrong",
        "Basic {token}",
        "{token}",
        "Bearer {token}x",
        "Bearer " + "x" * 5000,
        "SharedAccessSignature {token}",
    ],
)
async def test_every_route_is_closed_without_the_operators_token(
    fleet: Fleet, authorization: str | None
) -> None:
    token = fleet.bootstrap["adminToken"]
    headers = {"authorization": authorization.format(token=token)} if authorization else {}
    async with anonymous(fleet, **headers) as client:
        for method, path in ROUTES:
            answer = await client.request(method, path, json={})
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.json().keys() == ERROR_FIELDS
            assert answer.json()["message"] == "Unauthorized"
    assert len((await fleet.http.get("/enrollmentGroups/default")).text) > 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/fleetroot/devices/dev-1/revoke"),
        ("PUT", "/enrollments/dev-1"),
        ("PUT", "/enrollmentGroups/line-4?api-version=unknown"),
    ],
)
async def test_body_of_a_stranger_is_not_looked_at(fleet: Fleet, method: str, path: str) -> None:
    async with anonymous(fleet, **{"content-type": "application/json"}) as client:
        answer = await client.request(method, path, content=b"{")
    assert answer.status_code == 401


async def test_console_port_asks_for_the_token_too(fleet: Fleet) -> None:
    async with anonymous(fleet, "consolePort") as client:
        assert (await client.get("/fleetroot/devices")).status_code == 401
        token = f"Bearer {fleet.bootstrap['adminToken']}"
        answer = await client.get("/fleetroot/devices", headers={"authorization": token})
        assert answer.status_code == 200


async def test_token_of_a_hub_policy_is_not_the_operators(fleet: Fleet) -> None:
    hub = await fleet.server.hubs.by_name("default")
    owner = await fleet.server.hubs.shared_access_policy(hub, "iothubowner")
    assert owner is not None
    expires_at = fleet.server.clock.now() + timedelta(hours=1)
    token = sas.sign_token(fleet.hub_host, owner.primary_key, expires_at, "iothubowner")
    async with anonymous(fleet, authorization=token) as client:
        for path in ("/fleetroot/devices", "/enrollmentGroups/default"):
            assert (await client.get(path)).status_code == 401


@pytest.mark.parametrize("path", ["/", "/docs", "/fleetroot", "/fleetroot/x"])
async def test_path_that_is_none_is_404_with_the_documented_body(fleet: Fleet, path: str) -> None:
    answer = await fleet.http.get(path)
    assert answer.status_code == 404
    assert answer.json().keys() == ERROR_FIELDS
    assert answer.headers["x-ms-error-code"] == str(answer.json()["errorCode"])


@pytest.mark.parametrize(
    "path", ["/fleetroot/devices/", "/Fleetroot/DEVICES", "/fleetroot/devices/Dev-1/"]
)
async def test_path_is_found_in_any_case_and_with_a_slash_behind_it(
    fleet: Fleet, path: str
) -> None:
    await fleet.provision("Dev-1")
    assert (await fleet.http.get(path)).status_code == 200
    async with anonymous(fleet) as client:
        assert (await client.get(path)).status_code == 401


async def test_id_in_a_path_is_decoded_once(fleet: Fleet) -> None:
    answer = await fleet.http.get("/fleetroot/devices/Dev%2541")
    assert answer.status_code == 404
    assert "Dev%41" in answer.json()["message"]


# --- what is counted


async def test_refusals_are_counted_by_the_name_of_their_code_alone(fleet: Fleet) -> None:
    for number in range(3):
        broken = b'{"a":' + b" " * number + b"]"
        await fleet.http.put(
            f"/enrollments/dev-{number}",
            content=broken,
            headers={"content-type": "application/json"},
        )
        await fleet.http.get(f"/fleetroot/devices/dev-{number}")
        await fleet.http.get(f"/fleetroot/events?hub=hub-{number}")
    assert await fleet.refusals() == {"INVALID_ARGUMENT": 3, "NOT_FOUND": 6}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", DEVICE, rb'{"location": "\ud800"}'),
        ("PUT", DEVICE, rb'{"tags": {"a": "\ud800"}}'),
        ("POST", "/fleetroot/masterKey/rotate", rb'{"passphrase": "\ud800\ud800\ud800\ud800"}'),
    ],
)
async def test_half_of_a_surrogate_pair_is_400(
    fleet: Fleet, method: str, path: str, body: bytes
) -> None:
    answer = await fleet.http.request(
        method, path, content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text


@pytest.mark.postgresql("on SQLite there are backups")
async def test_backup_that_is_pg_dumps_is_refused_for_good(fleet: Fleet) -> None:
    answer = await fleet.http.post("/fleetroot/backup", json={"passphrase": "correct horse"})
    assert answer.status_code == 409
    assert "pg_dump" in answer.json()["message"]


async def test_list_that_is_no_base64_is_400(fleet: Fleet) -> None:
    for text in ("====", "\u00e9"):
        answer = await fleet.http.post("/fleetroot/crls/third-party", json={"crl": text})
        assert answer.status_code == 400
        assert answer.json()["message"] == "crl: not base64"


async def test_method_that_a_path_has_not_is_405_and_told_those_that_it_has(fleet: Fleet) -> None:
    answer = await fleet.http.request("POST", "/fleetroot/namespaces/default/")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, GET, PATCH, PUT"


# --- devices and certificates


async def test_device_is_shown_with_its_certificates_and_connections(fleet: Fleet) -> None:
    certified = await fleet.provision("Dev-1")
    async with await fleet.connect("Dev-1", certified):
        shown = (await fleet.http.get("/fleetroot/devices/dev-1")).json()
    assert shown["deviceId"] == "Dev-1"
    assert shown["policy"] == "default"
    assert shown["enabled"] is True
    assert [c["hub"] for c in shown["connections"]] == ["default"]
    [certificate] = shown["certificates"]
    assert certificate["status"] == "valid"
    assert certificate["origin"] == "provisioning"


@pytest.mark.parametrize("verb", ["", "/revoke", "/disable", "/enable"])
async def test_unknown_device_is_404001(fleet: Fleet, verb: str) -> None:
    method = "POST" if verb else "GET"
    answer = await fleet.http.request(method, f"/fleetroot/devices/dev-1{verb}")
    assert answer.status_code == 404
    assert answer.json()["errorCode"] == 404001


async def test_devices_come_in_pages(fleet: Fleet) -> None:
    for number in range(3):
        await fleet.register(f"dev-{number}")
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await fleet.http.get("/fleetroot/devices", params=query)).json()
        seen += [device["deviceId"] for device in page["value"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert seen == ["dev-0", "dev-1", "dev-2"]


async def test_certificates_come_in_pages_newest_first(fleet: Fleet) -> None:
    for number in range(3):
        await fleet.provision(f"dev-{number}")
    first = (await fleet.http.get("/fleetroot/certificates", params={"limit": 2})).json()
    query = {"limit": 2, "before": first["next"]}
    second = (await fleet.http.get("/fleetroot/certificates", params=query)).json()
    seen = [c["deviceId"] for c in first["value"] + second["value"]]
    assert seen == ["dev-2", "dev-1", "dev-0"]
    assert second["next"] is None


async def test_certificate_is_found_by_serial_fingerprint_or_its_beginning(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    [listed] = await fleet.certificates()
    for name in (
        listed["serialNumber"],
        listed["serialNumber"].upper(),
        listed["sha256"],
        listed["sha256"][:8],
        ":".join(listed["sha256"][i : i + 2] for i in range(0, 64, 2)),
    ):
        found = (await fleet.http.get(f"/fleetroot/certificates/{name}")).json()
        assert found["sha256"] == listed["sha256"], name
    parsed = x509.load_pem_x509_certificate(found["pem"].encode())
    assert parsed.subject.rfc4514_string() == found["subject"] == "CN=dev-1"


@pytest.mark.parametrize(
    "name", ["0", "xyz", "0x12345678", "1_2345678", "+1234567", "a" * 65, "12"]
)
async def test_name_of_no_certificate_is_404(fleet: Fleet, name: str) -> None:
    await fleet.provision("dev-1")
    answer = await fleet.http.get(f"/fleetroot/certificates/{name}")
    assert answer.status_code == 404


async def test_certificate_tells_when_it_is_expired(timed_fleet: Fleet, clock: ManualClock) -> None:
    await timed_fleet.provision("dev-1")
    clock.advance(timedelta(days=31))
    [certificate] = await timed_fleet.certificates()
    assert certificate["status"] == "expired"


async def test_revoke_may_disable_as_well(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    answer = await fleet.http.post("/fleetroot/devices/dev-1/revoke", json={"disable": True})
    assert answer.json()["certificatesRevoked"] == 1
    assert answer.json()["device"]["enabled"] is False
    assert (await fleet.register("dev-1")).status == 401


async def test_second_revocation_finds_nothing_left(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    answer = await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    assert answer.json()["certificatesRevoked"] == 0


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"disable": "yes"}', b'{"disable": 1}', b'{"other": true}']
)
async def test_bad_revoke_body_revokes_nothing(fleet: Fleet, body: bytes) -> None:
    await fleet.provision("dev-1")
    answer = await fleet.http.post(
        "/fleetroot/devices/dev-1/revoke",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)
    assert [c["status"] for c in await fleet.certificates()] == ["valid"]


@pytest.mark.parametrize(
    "path",
    [
        "devices?limit=0",
        "devices?limit=1001",
        "devices?limit=x",
        "certificates?before=x",
        "certificates?before=-1",
        f"certificates?before={2**63}",
        "events?after=-1",
        f"events?after={2**63}",
        "events?last=1001",
        "events?wait=31",
        "events?wait=nan",
    ],
)
async def test_query_out_of_range_is_400004(fleet: Fleet, path: str) -> None:
    answer = await fleet.http.get(f"/fleetroot/{path}")
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)


# --- events


async def test_events_go_on_from_where_the_last_answer_ended(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.publish("devices/dev-1/messages/events/", b"1")
        first = (await fleet.http.get("/fleetroot/events", params={"after": 0})).json()
        await mqtt.publish("devices/dev-1/messages/events/", b"2")
        query = {"after": first["next"]}
        second = (await fleet.http.get("/fleetroot/events", params=query)).json()
    assert [event["text"] for event in first["value"] + second["value"]] == ["1", "2"]


async def test_events_of_one_device(fleet: Fleet) -> None:
    for device_id in ("dev-1", "dev-2"):
        certified = await fleet.provision(device_id)
        async with await fleet.connect(device_id, certified) as mqtt:
            await mqtt.publish(f"devices/{device_id}/messages/events/", b"x")
    assert [event["deviceId"] for event in await fleet.events(device="DEV-2")] == ["dev-2"]


async def test_events_of_a_quiet_device_go_on_from_the_newest_of_all(fleet: Fleet) -> None:
    certified = await fleet.provision("loud")
    async with await fleet.connect("loud", certified) as mqtt:
        await mqtt.publish("devices/loud/messages/events/", b"x")
    [newest] = await fleet.events()
    query = {"after": 0, "device": "quiet"}
    answer = (await fleet.http.get("/fleetroot/events", params=query)).json()
    assert answer == {"value": [], "next": newest["sequenceNumber"]}


async def test_events_of_an_unknown_hub_are_404(fleet: Fleet) -> None:
    assert (await fleet.http.get("/fleetroot/events?hub=other")).status_code == 404


# --- bodies


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_body_over_a_megabyte_is_413(fleet: Fleet, chunked: bool) -> None:
    body = b'{"x": "' + b"x" * 1024 * 1024 + b'"}'

    async def chunks() -> Any:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    answer = await fleet.http.put(
        "/enrollments/dev-1",
        content=chunks() if chunked else body,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 413
    assert answer.json()["errorCode"] == 413001
    assert answer.json().keys() == ERROR_FIELDS


async def test_role_of_an_issuer_says_on_which_namespace_it_is(fleet: Fleet) -> None:
    await fleet.http.put("/fleetroot/namespaces/plant", json={"credential": False})
    roles = {
        "painters": {"role": "reader", "namespace": "plant"},
        "admins": {"role": "owner", "namespace": None},
    }
    body = {"issuer": "https://login.example", "audience": "fleetroot", "roles": roles}
    put = await fleet.http.put("/fleetroot/oidc-issuers/login", json=body)
    assert put.json()["roles"] == roles
    [listed] = (await fleet.http.get("/fleetroot/oidc-issuers")).json()["value"]
    assert listed["roles"] == roles


@pytest.mark.parametrize("text", ["é", "====", "a b"])
async def test_revocation_list_that_is_not_base64_is_a_bad_request(fleet: Fleet, text: str) -> None:
    path = "/fleetroot/namespaces/default/authorities/none/revocationList"
    answer = await fleet.http.put(path, json={"crl": text})
    assert (answer.status_code, answer.json()["message"]) == (400, "crl: not base64")
