"""Who may ask what of which provisioning service, and in which version."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from test_enrollment_api import SYMMETRIC, client, put, service_token
from test_roles import bearer

from fleet import Fleet
from fleetroot import sas
from fleetroot.access import Role
from fleetroot.api.applications import PROVISIONING
from fleetroot.api.provisioning_routes import SERVICE_VERSIONS, ProvisioningRoute
from fleetroot.registry import shared_access
from fleetroot.registry.shared_access import PROVISIONING_RIGHTS, Right

# What every route asks of a shared access policy, in this order of method and path.
RIGHTS = {
    ("PUT", "/enrollments/x"): Right.ENROLLMENT_WRITE,
    ("GET", "/enrollments/x"): Right.ENROLLMENT_READ,
    ("DELETE", "/enrollments/x"): Right.ENROLLMENT_WRITE,
    ("POST", "/enrollments"): Right.ENROLLMENT_WRITE,
    ("POST", "/enrollments/query"): Right.ENROLLMENT_READ,
    ("POST", "/enrollments/x/attestationmechanism"): Right.ENROLLMENT_WRITE,
    ("PUT", "/enrollmentGroups/x"): Right.ENROLLMENT_WRITE,
    ("GET", "/enrollmentGroups/x"): Right.ENROLLMENT_READ,
    ("DELETE", "/enrollmentGroups/x"): Right.ENROLLMENT_WRITE,
    ("POST", "/enrollmentGroups"): Right.ENROLLMENT_WRITE,
    ("POST", "/enrollmentGroups/query"): Right.ENROLLMENT_READ,
    ("POST", "/enrollmentGroups/x/attestationmechanism"): Right.ENROLLMENT_WRITE,
    ("GET", "/registrations/x"): Right.REGISTRATION_STATUS_READ,
    ("DELETE", "/registrations/x"): Right.REGISTRATION_STATUS_WRITE,
    ("POST", "/registrations/x/query"): Right.REGISTRATION_STATUS_READ,
}


async def policy_token(fleet: Fleet, host_name: str, right: Right) -> str:
    """A signature of a policy that has this right alone."""
    server = fleet.server
    service = await server.administration.addressed(host_name)
    await server.store.write(
        lambda tx: shared_access.create(tx, server._sealer, service.id, {"one": frozenset({right})})
    )
    policy = await server.administration.shared_access_policy(service, "one")
    assert policy is not None
    return sas.sign_token(
        host_name, policy.primary_key, server.clock.now() + timedelta(hours=1), "one"
    )


def test_every_route_is_asked_here() -> None:
    routes = [route for router in PROVISIONING for route in router.routes]
    asked = {
        (method, path): route.asked.right
        for route in routes
        if isinstance(route, ProvisioningRoute)
        for method in route.methods
        for m, path in RIGHTS
        if m == method and route.path_regex.fullmatch(path)
    }
    assert len(asked) == len(routes)
    assert asked == RIGHTS


@pytest.mark.parametrize("right", sorted(PROVISIONING_RIGHTS))
async def test_policy_opens_what_its_right_is_for_and_nothing_else(
    fleet: Fleet, right: Right
) -> None:
    host_name = (await fleet.server.administration.service()).host_name
    token = await policy_token(fleet, host_name, right)
    async with client(fleet, token) as caller:
        for (method, path), asked in RIGHTS.items():
            answer = await caller.request(method, path, json={})
            if asked is right:
                assert answer.status_code not in (401, 403), (method, path, answer.text)
            else:
                assert answer.status_code == 403, (method, path, answer.text)
                assert answer.headers["x-ms-error-code"] == "403001"


async def test_reader_reads_enrollments_and_no_keys(fleet: Fleet) -> None:
    await fleet.enroll("dev-1")
    async with await bearer(fleet, Role.READER) as reader:
        shown = (await reader.get("/enrollments/dev-1")).json()
        assert shown["attestation"] == {"type": "symmetricKey", "symmetricKey": {}}
        answer = await reader.post("/enrollments/dev-1/attestationmechanism")
    assert answer.status_code == 403


async def test_keys_are_answered_by_the_attestation_mechanism_and_noted(fleet: Fleet) -> None:
    for path, subject in (
        ("/enrollments/dev-1", "enrollment/dev-1"),
        ("/enrollmentgroups/line-4", "enrollment-group/line-4"),
    ):
        written = (await put(fleet, path)).json()
        async with client(fleet, service_token(fleet)) as owner:
            answer = await owner.post(f"{path}/attestationmechanism?api-version=2021-10-01")
        assert answer.json() == written["attestation"]
        query = {"subject": subject, "action": "keys.read"}
        entries = (await fleet.http.get("/fleetroot/audit/entries", params=query)).json()["value"]
        assert "keys.read" in [entry["action"] for entry in entries]
        assert answer.json()["symmetricKey"]["primaryKey"] not in json.dumps(entries)


async def test_attestation_mechanism_of_what_is_not_there_is_404(fleet: Fleet) -> None:
    answer = await fleet.http.post("/enrollments/none/attestationmechanism")
    assert (answer.status_code, answer.json()["errorCode"]) == (404, 404201)


async def test_what_was_read_is_written_back_without_losing_keys(fleet: Fleet) -> None:
    before = await fleet.enroll("dev-1", policy="default")
    for version in SERVICE_VERSIONS:
        path = f"/enrollments/dev-1?api-version={version}"
        read = (await fleet.http.get(path)).json()
        answer = await fleet.http.put(path, json=read, headers={"if-match": read["etag"]})
        assert answer.status_code == 200, answer.text
    assert await fleet.enroll("dev-1", policy="default", again=True) == before


# --- several services


@pytest.fixture
async def works(fleet: Fleet) -> str:
    """The host name of a second provisioning service."""
    answer = await fleet.http.put("/fleetroot/provisioning-services/works", json={})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["hostName"])


async def test_each_service_sees_its_own_alone(fleet: Fleet, works: str) -> None:
    def at(host_name: str | None) -> dict[str, str]:
        return {"host": host_name} if host_name else {}

    async def ids(host_name: str | None) -> list[str]:
        body = {"query": "*"}
        answer = await fleet.http.post("/enrollments/query", json=body, headers=at(host_name))
        return [each["registrationId"] for each in answer.json()]

    await fleet.http.put("/enrollments/dev-1", json=SYMMETRIC)
    await fleet.http.put("/enrollments/dev-2", json=SYMMETRIC, headers=at(works))
    assert (await ids(None), await ids(works)) == (["dev-1"], ["dev-2"])
    await fleet.register("dev-3")
    for method, path in (
        ("GET", "/enrollments/dev-1"),
        ("DELETE", "/enrollments/dev-1"),
        ("POST", "/enrollments/dev-1/attestationmechanism"),
        ("GET", "/enrollmentGroups/default"),
        ("GET", "/registrations/dev-3"),
        ("DELETE", "/registrations/dev-3"),
        ("POST", "/registrations/default/query"),
    ):
        answer = await fleet.http.request(method, path, headers=at(works))
        assert answer.status_code == 404, (method, path)
    body = {"mode": "delete", "enrollments": [{"registrationId": "dev-1"}]}
    answer = await fleet.http.post("/enrollments", json=body, headers=at(works))
    assert not answer.json()["isSuccessful"]
    assert await ids(None) == ["dev-1"]


async def test_continuation_of_one_service_is_not_one_of_another(fleet: Fleet, works: str) -> None:
    for id_ in ("dev-1", "dev-2"):
        await fleet.enroll(id_)
    first = await fleet.http.post(
        "/enrollments/query", json={"query": "*"}, headers={"x-ms-max-item-count": "1"}
    )
    headers = {"host": works, "x-ms-continuation": first.headers["x-ms-continuation"]}
    answer = await fleet.http.post("/enrollments/query", json={"query": "*"}, headers=headers)
    assert answer.status_code == 400


async def test_signature_of_one_service_does_not_open_another(fleet: Fleet, works: str) -> None:
    ours, theirs = service_token(fleet), await policy_token(fleet, works, Right.ENROLLMENT_READ)
    async with client(fleet, ours) as caller:
        answer = await caller.get("/enrollmentGroups/default", headers={"host": works})
        assert (answer.status_code, answer.json()["errorCode"]) == (401, 401003)
    async with client(fleet, theirs) as caller:
        assert (await caller.get("/enrollmentGroups/default")).status_code == 401
        answer = await caller.get("/enrollmentGroups/default", headers={"host": works})
        assert answer.status_code == 404


@pytest.mark.parametrize("host", ["[", "a b", "x" * 300, "[::1", ":", "é"])
async def test_host_that_is_no_name_is_not_a_server_error(fleet: Fleet, host: str) -> None:
    headers = [(b"host", host.encode())]
    answer = await fleet.http.get("/enrollmentGroups/default", headers=headers)
    assert answer.status_code < 500


# --- versions


@pytest.mark.parametrize("version", SERVICE_VERSIONS)
async def test_version_that_clients_send_is_served(fleet: Fleet, version: str) -> None:
    query = {"api-version": version}
    answer = await fleet.http.put("/enrollments/dev-1", json=SYMMETRIC, params=query)
    assert answer.status_code == 200


@pytest.mark.parametrize(("method", "path"), RIGHTS)
async def test_unknown_version_is_400_everywhere_and_lists_the_known(
    fleet: Fleet, method: str, path: str
) -> None:
    answer = await fleet.http.request(method, path, params={"api-version": "2031-01-01"}, json={})
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)
    for version in SERVICE_VERSIONS:
        assert version in answer.json()["message"]


PREVIEW = "?api-version=2021-11-01-preview"
ISSUED_BY_DEFAULT = {"clientCertificateIssuancePolicy": {"certificateAuthorityName": "default"}}


async def put_preview(fleet: Fleet, **body: Any) -> httpx.Response:
    return await put(fleet, f"/enrollments/dev-1{PREVIEW}", "*", **body)


async def test_policy_has_the_name_of_the_version_that_is_spoken(fleet: Fleet) -> None:
    await fleet.enroll("dev-1")
    shown = (await put_preview(fleet, **ISSUED_BY_DEFAULT)).json()
    assert shown.items() >= ISSUED_BY_DEFAULT.items()
    assert "credentialPolicyName" not in shown
    newer = (await fleet.http.get("/enrollments/dev-1")).json()
    assert newer["credentialPolicyName"] == "default"
    assert "clientCertificateIssuancePolicy" not in newer


async def test_policy_that_the_preview_leaves_out_is_kept_and_null_takes_it_away(
    fleet: Fleet,
) -> None:
    await fleet.enroll("dev-1", policy="default")
    shown = (await put_preview(fleet)).json()
    assert shown.items() >= ISSUED_BY_DEFAULT.items()
    shown = (await put_preview(fleet, clientCertificateIssuancePolicy=None)).json()
    assert "clientCertificateIssuancePolicy" not in shown
    assert "credentialPolicyName" not in (await fleet.http.get("/enrollments/dev-1")).json()


async def test_name_of_the_preview_is_of_the_preview_alone(fleet: Fleet) -> None:
    await fleet.enroll("dev-1")
    answer = await put(fleet, "/enrollments/dev-1", "*", **ISSUED_BY_DEFAULT)
    assert "credentialPolicyName" not in answer.json()


async def test_policy_of_the_preview_that_is_not_there_is_400(fleet: Fleet) -> None:
    await fleet.enroll("dev-1")
    named = {"certificateAuthorityName": "nowhere"}
    answer = await put_preview(fleet, clientCertificateIssuancePolicy=named)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004)
