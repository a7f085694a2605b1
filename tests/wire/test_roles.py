"""What each role may ask of the APIs, over HTTPS with a token of that role; and what is noted."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from test_enrollment_api import service_token

from fleet import Fleet
from fleetroot.access import EVERYWHERE, Grant, Permission, Role
from fleetroot.api.access import OperatorRoute
from fleetroot.api.applications import MANAGEMENT, OPERATOR, PROVISIONING
from fleetroot.api.arm.routing import ArmRoute
from fleetroot.api.provisioning_routes import ProvisioningRoute
from fleetroot.audit import SYSTEM


def service_calls(path: str) -> dict[tuple[str, str], Permission]:
    """What hubs and provisioning services have in common; `path` is of one that is there."""
    read = (("GET", ""), ("GET", "/certificates"), ("GET", "/certificates/x"))
    write = (
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/link"),
        ("POST", "/keys/none/rotate"),
        ("PUT", "/certificates/x"),
        ("DELETE", "/certificates/x"),
        ("POST", "/certificates/x/generateVerificationCode"),
        ("POST", "/certificates/x/verify"),
    )
    kind = path.rpartition("/")[0]
    return {
        ("GET", kind): Permission.READ,
        ("PUT", f"{kind}/another"): Permission.WRITE_SERVICES,
        ("POST", f"{path}/keys"): Permission.READ_SECRETS,
        **{(method, path + below): Permission.READ for method, below in read},
        **{(method, path + below): Permission.WRITE_SERVICES for method, below in write},
    }


def device_calls(above: str) -> dict[tuple[str, str], Permission]:
    """What is asked of the devices and certificates of a namespace; `above` is where they are."""
    device = f"{above}/devices/dev-1"
    read = ("/devices", "/certificates", "/certificates/00000000", "/devices/dev-1")
    read += ("/certificates/expiring", "/certificates/expiring/counts")
    verbs = ("revoke", "disable", "enable")
    return {
        **{("GET", above + path): Permission.READ for path in read},
        **{("GET", f"{device}/{what}"): Permission.READ for what in ("explanation", "timeline")},
        **{(method, device): Permission.WRITE_DEVICES for method in ("PUT", "PATCH", "DELETE")},
        **{("POST", f"{device}/{verb}"): Permission.WRITE_DEVICES for verb in verbs},
    }


def enrollment_calls(path: str) -> dict[tuple[str, str], Permission]:
    """What individual enrollments and groups have in common."""
    return {
        ("GET", f"{path}/none"): Permission.READ,
        ("POST", f"{path}/query"): Permission.READ,
        ("POST", f"{path}/none/attestationmechanism"): Permission.READ_SECRETS,
        ("POST", path): Permission.WRITE_ENROLLMENTS,
        ("PUT", f"{path}/none"): Permission.WRITE_ENROLLMENTS,
        ("DELETE", f"{path}/none"): Permission.WRITE_ENROLLMENTS,
    }


_INCIDENTS = "/fleetroot/namespaces/default/incidents"
_ENROLLMENTS = "/fleetroot/provisioning-services/default/enrollments"
# What every call needs.
NEEDS = {
    **service_calls("/fleetroot/hubs/default"),
    **service_calls("/fleetroot/provisioning-services/default"),
    ("PUT", "/fleetroot/provisioning-services/default/hubs/x"): Permission.WRITE_SERVICES,
    ("DELETE", "/fleetroot/provisioning-services/default/hubs/x"): Permission.WRITE_SERVICES,
    **device_calls("/fleetroot"),
    **device_calls("/fleetroot/namespaces/default"),
    ("POST", "/fleetroot/hubs/default/devices/dev-1/messages"): Permission.WRITE_DEVICES,
    ("DELETE", "/fleetroot/hubs/default/devices/dev-1/messages"): Permission.WRITE_DEVICES,
    ("GET", "/fleetroot/hubs/default/authorities"): Permission.READ,
    ("DELETE", "/fleetroot/hubs/default/authorities/none"): Permission.WRITE_CREDENTIALS,
    ("GET", "/fleetroot/hubs/default/identities"): Permission.READ,
    ("GET", "/fleetroot/hubs/default/identities/none"): Permission.READ,
    ("PUT", "/fleetroot/hubs/default/identities/none"): Permission.WRITE_DEVICES,
    ("DELETE", "/fleetroot/hubs/default/identities/none"): Permission.WRITE_DEVICES,
    ("GET", "/fleetroot/hubs/default/identities/none/modules"): Permission.READ,
    ("GET", "/fleetroot/hubs/default/identities/none/modules/none"): Permission.READ,
    ("PUT", "/fleetroot/hubs/default/identities/none/modules/none"): Permission.WRITE_DEVICES,
    ("DELETE", "/fleetroot/hubs/default/identities/none/modules/none"): Permission.WRITE_DEVICES,
    ("POST", "/fleetroot/hubs/default/query"): Permission.READ,
    ("GET", "/fleetroot/hubs/default/devices/dev-1/twin"): Permission.READ,
    ("PATCH", "/fleetroot/hubs/default/devices/dev-1/twin"): Permission.WRITE_DEVICES,
    ("PUT", "/fleetroot/hubs/default/devices/dev-1/twin"): Permission.WRITE_DEVICES,
    ("POST", "/fleetroot/hubs/default/devices/dev-1/methods"): Permission.WRITE_DEVICES,
    ("GET", "/fleetroot/hubs/default/jobs"): Permission.READ,
    ("PUT", "/fleetroot/hubs/default/jobs/none"): Permission.WRITE_DEVICES,
    ("GET", "/fleetroot/hubs/default/jobs/none"): Permission.READ,
    ("POST", "/fleetroot/hubs/default/jobs/none/cancel"): Permission.WRITE_DEVICES,
    ("GET", "/fleetroot/hubs/default/jobs/none/devices"): Permission.READ,
    ("GET", "/fleetroot/provisioning-services/default/quarantine"): Permission.READ,
    (
        "POST",
        "/fleetroot/provisioning-services/default/quarantine/approve",
    ): Permission.WRITE_ENROLLMENTS,
    (
        "POST",
        "/fleetroot/provisioning-services/default/quarantine/reject",
    ): Permission.WRITE_ENROLLMENTS,
    ("GET", "/fleetroot/provisioning-services/default/regions"): Permission.READ,
    ("PUT", "/fleetroot/provisioning-services/default/regions/x"): Permission.WRITE_SERVICES,
    ("DELETE", "/fleetroot/provisioning-services/default/regions/x"): Permission.WRITE_SERVICES,
    ("POST", "/fleetroot/provisioning-services/default/webhookSecrets"): Permission.READ_SECRETS,
    (
        "POST",
        "/fleetroot/provisioning-services/default/webhookSecrets/rotate",
    ): Permission.WRITE_SERVICES,
    ("GET", "/fleetroot/provisioning-services/default/registrations"): Permission.READ,
    ("GET", "/fleetroot/provisioning-services/default/registrations/none"): Permission.READ,
    (
        "DELETE",
        "/fleetroot/provisioning-services/default/registrations/none",
    ): Permission.WRITE_DEVICES,
    ("GET", f"{_ENROLLMENTS}"): Permission.READ,
    ("GET", f"{_ENROLLMENTS}/none"): Permission.READ,
    ("POST", f"{_ENROLLMENTS}/none/keys"): Permission.READ_SECRETS,
    ("PUT", f"{_ENROLLMENTS}/none"): Permission.WRITE_ENROLLMENTS,
    ("DELETE", f"{_ENROLLMENTS}/none"): Permission.WRITE_ENROLLMENTS,
    (
        "POST",
        "/fleetroot/provisioning-services/default/importEnrollments",
    ): Permission.WRITE_ENROLLMENTS,
    ("POST", "/fleetroot/provisioning-services/default/exportEnrollments"): Permission.READ,
    (
        "POST",
        "/fleetroot/provisioning-services/default/exportEnrollmentsWithKeys",
    ): Permission.READ_SECRETS,
    ("GET", "/fleetroot/status"): Permission.READ,
    ("GET", "/fleetroot/registrations/dev-1/explanation"): Permission.READ,
    ("GET", "/fleetroot/refusals"): Permission.READ,
    ("GET", "/fleetroot/events"): Permission.READ,
    ("GET", "/fleetroot/events/stream"): Permission.READ,
    ("GET", "/fleetroot/namespaces/default"): Permission.READ,
    ("GET", "/fleetroot/namespaces/default/credential"): Permission.READ,
    ("GET", "/fleetroot/namespaces/default/policies"): Permission.READ,
    ("GET", "/fleetroot/namespaces/default/policies/default"): Permission.READ,
    ("GET", "/fleetroot/namespaces/default/authorities"): Permission.READ,
    ("GET", "/fleetroot/namespaces/default/authorities/none"): Permission.READ,
    ("GET", "/fleetroot/namespaces/default/authorities/none/revocationList"): Permission.READ,
    (
        "PUT",
        "/fleetroot/namespaces/default/authorities/none/revocationList",
    ): Permission.WRITE_CREDENTIALS,
    ("POST", f"{_INCIDENTS}/certificates"): Permission.READ,
    ("POST", f"{_INCIDENTS}/summary"): Permission.READ,
    ("POST", f"{_INCIDENTS}/export"): Permission.READ,
    ("GET", f"{_INCIDENTS}/revocations"): Permission.READ,
    ("GET", f"{_INCIDENTS}/revocations/none"): Permission.READ,
    ("POST", f"{_INCIDENTS}/revocations"): Permission.WRITE_CREDENTIALS,
    ("POST", f"{_INCIDENTS}/revocations/none/cancel"): Permission.WRITE_CREDENTIALS,
    ("GET", "/fleetroot/namespaces"): Permission.READ,
    ("PUT", "/fleetroot/namespaces/x"): Permission.WRITE_SERVICES,
    ("PATCH", "/fleetroot/namespaces/default"): Permission.WRITE_SERVICES,
    ("DELETE", "/fleetroot/namespaces/default"): Permission.WRITE_SERVICES,
    ("POST", "/fleetroot/namespaces/default/synchronize"): Permission.WRITE_CREDENTIALS,
    ("PUT", "/fleetroot/namespaces/default/credential"): Permission.WRITE_CREDENTIALS,
    ("PATCH", "/fleetroot/namespaces/default/credential"): Permission.WRITE_CREDENTIALS,
    ("DELETE", "/fleetroot/namespaces/default/credential"): Permission.WRITE_CREDENTIALS,
    ("PUT", "/fleetroot/namespaces/default/policies/x"): Permission.WRITE_CREDENTIALS,
    ("PATCH", "/fleetroot/namespaces/default/policies/x"): Permission.WRITE_CREDENTIALS,
    ("DELETE", "/fleetroot/namespaces/default/policies/x"): Permission.WRITE_CREDENTIALS,
    **{
        ("POST", f"/fleetroot/namespaces/default/policies/x/{verb}"): Permission.WRITE_CREDENTIALS
        for verb in ("revokeIssuer", "renewIssuer", "activateBringYourOwnRoot")
    },
    ("GET", "/fleetroot/tokens"): Permission.READ,
    ("GET", "/fleetroot/audit/key"): Permission.READ,
    ("GET", "/fleetroot/crls"): Permission.READ,
    ("POST", "/fleetroot/crls/third-party"): Permission.WRITE_CREDENTIALS,
    ("DELETE", "/fleetroot/crls/third-party/none"): Permission.WRITE_CREDENTIALS,
    **enrollment_calls("/enrollments"),
    **enrollment_calls("/enrollmentGroups"),
    ("GET", "/registrations/none"): Permission.READ,
    ("DELETE", "/registrations/none"): Permission.WRITE_DEVICES,
    ("POST", "/registrations/none/query"): Permission.READ,
    ("POST", "/fleetroot/tokens"): Permission.WRITE_ACCESS,
    ("POST", "/fleetroot/tokens/none/rotate"): Permission.WRITE_ACCESS,
    ("POST", "/fleetroot/tokens/none/revoke"): Permission.WRITE_ACCESS,
    ("GET", "/fleetroot/oidc-issuers"): Permission.READ,
    ("PUT", "/fleetroot/oidc-issuers/corp"): Permission.WRITE_ACCESS,
    ("DELETE", "/fleetroot/oidc-issuers/corp"): Permission.WRITE_ACCESS,
    ("GET", "/fleetroot/approvals"): Permission.READ,
    ("POST", "/fleetroot/approvals/none/approve"): Permission.APPROVE,
    ("POST", "/fleetroot/approvals/none/reject"): Permission.APPROVE,
    ("GET", "/fleetroot/audit/entries"): Permission.READ_AUDIT_LOG,
    ("POST", "/fleetroot/audit/export"): Permission.READ_AUDIT_LOG,
    ("GET", "/fleetroot/masterKey"): Permission.READ,
    ("POST", "/fleetroot/masterKey/rotate"): Permission.WRITE_ACCESS,
    ("POST", "/fleetroot/backup"): Permission.BACK_UP,
}

_SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000000"
_REGISTRY = (
    _SUBSCRIPTION + "/resourceGroups/fleetroot/providers/Microsoft.DeviceRegistry/namespaces"
)
_DEFAULT = _REGISTRY + "/default"
_POLICY = _DEFAULT + "/credentials/default/policies/x"
_AUTHORITY = _DEFAULT + "/certificateAuthorities/x"
_R, _S = Permission.READ, Permission.WRITE_SERVICES
_C, _D = Permission.WRITE_CREDENTIALS, Permission.WRITE_DEVICES


def crud(path: str, write: Permission) -> dict[tuple[str, str], Permission]:
    """A resource: who may read it may list its kind, too."""
    writes = {(method, path): write for method in ("PUT", "PATCH", "DELETE")}
    return {("GET", path.rpartition("/")[0]): _R, ("GET", path): _R, **writes}


# The same of the management API.
ARM_NEEDS = {
    ("GET", _SUBSCRIPTION + "/providers/Microsoft.DeviceRegistry/namespaces"): _R,
    **crud(_DEFAULT, _S),
    **crud(_DEFAULT + "/credentials/default", _C),
    ("POST", _DEFAULT + "/credentials/default/synchronize"): _C,
    **crud(_POLICY, _C),
    ("POST", _POLICY + "/revokeIssuer"): _C,
    ("POST", _POLICY + "/activateBringYourOwnRoot"): _C,
    **crud(_AUTHORITY, _C),
    ("POST", _AUTHORITY + "/activate"): _C,
    ("POST", _AUTHORITY + "/revokeAndRotate"): _C,
    **crud(_AUTHORITY + "/certificatePolicies/x", _C),
    **crud(_DEFAULT + "/devices/dev-1", _D),
    ("POST", _DEFAULT + "/devices/dev-1/revoke"): _D,
    (
        "GET",
        _SUBSCRIPTION + "/providers/Microsoft.DeviceRegistry/locations/l/operationStatuses/x",
    ): _R,
}


def arm_service_calls(kind: str, check: str, key: str) -> dict[tuple[str, str], Permission]:
    """What is asked of hubs or provisioning services; `key` is where one of their keys is."""
    one = f"{_SUBSCRIPTION}/resourceGroups/fleetroot/providers/Microsoft.Devices/{kind}/default"
    certificate = f"{one}/certificates/x"
    certificates = crud(certificate, _S)
    del certificates["PATCH", certificate]
    return {
        ("GET", f"{_SUBSCRIPTION}/providers/Microsoft.Devices/{kind}"): _R,
        ("POST", f"{_SUBSCRIPTION}/providers/Microsoft.Devices/{check}"): _R,
        **crud(one, _S),
        ("POST", f"{one}/listkeys"): Permission.READ_SECRETS,
        ("POST", f"{one}/{key}/none/listkeys"): Permission.READ_SECRETS,
        **certificates,
        ("POST", f"{certificate}/generateVerificationCode"): _S,
        ("POST", f"{certificate}/verify"): _S,
    }


ARM_NEEDS |= arm_service_calls("IotHubs", "checkNameAvailability", "IotHubKeys")
ARM_NEEDS |= arm_service_calls(
    "provisioningServices", "checkProvisioningServiceNameAvailability", "keys"
)
# Lists that show whoever may read one namespace what is of that one.
LISTS = {
    path
    for method, path in (*NEEDS, *ARM_NEEDS)
    if method == "GET"
    and path.endswith(("/namespaces", "hubs", "/provisioning-services", "IotHubs", "Services"))
}


def version(path: str) -> dict[str, str]:
    """The `api-version` of a call of the management API."""
    if "/IotHubs" in path or "checkNameAvailability" in path:
        return {"api-version": "2026-10-01-preview"}
    if "rovisioningService" in path:
        return {"api-version": "2026-11-01"}
    return {"api-version": "2026-11-02-preview"}


async def bearer(
    fleet: Fleet, role: Role, namespace_id: str | None = EVERYWHERE
) -> httpx.AsyncClient:
    name = f"{role.value}-{len(await fleet.server.access.tokens())}"
    _, text = await fleet.server.access.create_token(name, Grant(role, namespace_id), by=SYSTEM)
    return httpx.AsyncClient(
        base_url=f"https://{fleet.bootstrap['hostname']}:{fleet.bootstrap['httpsPort']}",
        headers={"authorization": f"Bearer {text.text}"},
        verify=fleet.trust(),
    )


async def ask(client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    """The answer to an empty body; of one that never ends, its head."""
    async with client.stream(method, path, params=version(path), json={}) as answer:
        if answer.headers.get("content-type", "").partition(";")[0] != "text/event-stream":
            await answer.aread()
    return answer


@pytest.mark.parametrize("role", Role)
async def test_role_opens_what_it_carries_and_nothing_else(fleet: Fleet, role: Role) -> None:
    async with await bearer(fleet, role) as client:
        for (method, path), permission in NEEDS.items():
            answer = await ask(client, method, path)
            if permission in role.permissions:
                assert answer.status_code not in (401, 403), (method, path, answer.text)
            else:
                assert answer.status_code == 403, (method, path, answer.text)
                assert answer.json()["errorCode"] == 403001


@pytest.mark.parametrize("role", Role)
async def test_role_opens_what_it_carries_of_the_management_api(fleet: Fleet, role: Role) -> None:
    async with await bearer(fleet, role) as client:
        for (method, path), permission in ARM_NEEDS.items():
            answer = await client.request(method, path, params=version(path), json={})
            if permission in role.permissions:
                assert answer.status_code not in (401, 403), (method, path, answer.text)
            else:
                assert answer.status_code == 403, (method, path, answer.text)
                assert answer.json()["error"]["code"] == "AuthorizationFailed"


async def test_role_on_another_namespace_opens_nothing(fleet: Fleet) -> None:
    other = await fleet.server.namespaces.create(
        "other", subscription_id="s", resource_group="g", pki_url="http://x", by=SYSTEM
    )
    async with await bearer(fleet, Role.OWNER, other.id) as client:
        for method, path in (*NEEDS, *ARM_NEEDS):
            answer = await ask(client, method, path)
            if path in LISTS and method == "GET":
                continue
            assert answer.status_code == 403, (method, path, answer.text)


async def test_lists_show_what_is_of_the_namespace_of_the_role(fleet: Fleet) -> None:
    made = await fleet.http.put("/fleetroot/namespaces/other", json={"credential": False})
    services = {"hubs": "works", "provisioning-services": "plant"}
    for kind, name in services.items():
        await fleet.http.put(f"/fleetroot/{kind}/{name}", json={"namespace": "other"})
    assert len(LISTS) == 9
    async with await bearer(fleet, Role.READER, made.json()["id"]) as client:
        for path in LISTS:
            answer = await client.get(path, params=version(path))
            assert answer.status_code == 200, (path, answer.text)
            [listed] = answer.json()["value"]
            assert listed["name"] in ("other", "works", "plant"), path
            assert len((await fleet.http.get(path, params=version(path))).json()["value"]) == 2


OF_ALL = ("tokens", "oidc-issuers", "approvals", "audit", "masterKey", "backup")


async def test_role_on_the_first_namespace_does_not_open_what_is_of_no_namespace(
    fleet: Fleet,
) -> None:
    """Or who owns one namespace makes a token that owns them all."""
    first = await fleet.server.namespaces.get("default")
    asked = [(m, p) for m, p in NEEDS if p.startswith(tuple(f"/fleetroot/{w}" for w in OF_ALL))]
    assert len(asked) > 12
    async with await bearer(fleet, Role.OWNER, first.id) as client:
        for method, path in asked:
            answer = await client.request(method, path, json={"name": "mine", "role": "owner"})
            assert answer.status_code == 403, (method, path, answer.text)


def test_every_route_of_the_operator_is_asked_here() -> None:
    routes = [route for router in OPERATOR for route in router.routes]
    assert len(routes) > 20
    for route in routes:
        assert isinstance(route, OperatorRoute)
        for method in route.methods:
            asked = [p for m, p in NEEDS if m == method and route.path_regex.fullmatch(p)]
            assert asked, f"{method} {route.path}"


def test_every_route_of_the_provisioning_service_is_asked_here() -> None:
    routes = [route for router in PROVISIONING for route in router.routes]
    assert len(routes) > 10
    for route in routes:
        assert isinstance(route, ProvisioningRoute)
        for method in route.methods:
            asked = [p for m, p in NEEDS if m == method and route.path_regex.fullmatch(p)]
            assert asked, f"{method} {route.path}"


def test_every_route_of_the_management_api_is_asked_here() -> None:
    routes = [route for router in MANAGEMENT for route in router.routes]
    assert len(routes) > 60
    for route in routes:
        assert isinstance(route, ArmRoute)
        for method in route.methods:
            asked = [p for m, p in ARM_NEEDS if m == method and route.path_regex.fullmatch(p)]
            assert asked, f"{method} {route.path}"


def test_route_that_does_not_say_what_it_needs_cannot_be_made() -> None:
    async def endpoint() -> None: ...

    for kind in (OperatorRoute, ProvisioningRoute):
        with pytest.raises(TypeError):
            kind("/x", endpoint)


async def test_every_answer_has_a_trace_id_that_the_audit_log_has_too(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    answer = await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    [entry] = (
        await fleet.http.get("/fleetroot/audit/entries", params={"subject": "device/dev-1"})
    ).json()["value"][:1]
    assert entry["traceId"] == answer.headers["x-ms-request-id"]
    assert (entry["action"], entry["outcome"]) == ("device.revoke", "done")
    assert (entry["actorKind"], entry["actor"]) == ("token", "bootstrap")
    assert entry["peer"].startswith("127.0.")
    assert entry["details"] == {"certificates": 1, "disable": False}


async def test_who_wrote_an_enrollment_by_a_shared_access_policy_is_noted(fleet: Fleet) -> None:
    body: dict[str, Any] = {"attestation": {"type": "symmetricKey"}}
    token = service_token(fleet)
    answer = await fleet.http.put("/enrollments/dev-1", json=body, headers={"authorization": token})
    assert answer.status_code == 200
    [entry] = (
        await fleet.http.get("/fleetroot/audit/entries", params={"subject": "enrollment/dev-1"})
    ).json()["value"]
    assert (entry["actorKind"], entry["actor"]) == (
        "sharedAccess",
        "default/provisioningserviceowner",
    )


async def test_who_was_refused_for_a_role_that_is_too_small_is_noted(fleet: Fleet) -> None:
    async with await bearer(fleet, Role.READER) as client:
        answer = await client.post("/fleetroot/devices/dev-1/revoke")
        assert answer.status_code == 403
    await fleet.server.audit_log.write()
    entries = (await fleet.http.get("/fleetroot/audit/entries")).json()["value"]
    [entry] = [e for e in entries if e["traceId"] == answer.headers["x-ms-request-id"]]
    assert (entry["outcome"], entry["action"]) == ("refused", "http")
    assert entry["actor"].startswith("reader-")
    assert "role too small" in entry["reason"]
