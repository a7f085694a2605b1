"""The management API as any HTTP client sees it: preconditions, versions, and what it refuses. What
the SDK sees is in `clients/test_azure_mgmt_deviceregistry*.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from test_roles import bearer

from fleet import Fleet
from fleetroot.access import Role
from fleetroot.audit import SYSTEM

VERSION = {"api-version": "2026-03-01-preview"}
NS = "/namespaces/default"
ROOT = NS + "/credentials/default"
POLICY = ROOT + "/policies/default"
DEVICE = NS + "/devices/dev-1"
RESOURCES = [NS, ROOT, POLICY, DEVICE]
SCOPE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/fleetroot"
    "/providers/Microsoft.DeviceRegistry"
)


async def ask(
    fleet: Fleet | httpx.AsyncClient,
    method: str,
    path: str,
    body: Any = None,
    *,
    version: str | None = VERSION["api-version"],
    **headers: str,
) -> httpx.Response:
    client = fleet.http if isinstance(fleet, Fleet) else fleet
    return await client.request(
        method,
        path if path.startswith("/subscriptions") else SCOPE + path,
        params={} if version is None else {"api-version": version},
        json=body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def error(answer: httpx.Response) -> tuple[int, str]:
    told = answer.json()["error"]
    assert told["message"]
    return answer.status_code, told["code"]


@pytest.fixture
async def device(fleet: Fleet) -> None:
    assert (await ask(fleet, "PUT", DEVICE, {})).status_code == 201


# --- paths, versions, bodies


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("path", RESOURCES)
async def test_path_matches_in_any_case_with_a_slash_behind_it(fleet: Fleet, path: str) -> None:
    plain = (await ask(fleet, "GET", path)).json()
    shouted = await fleet.http.get(f"{SCOPE}{path}/".upper(), params=VERSION)
    assert shouted.json() == plain


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("path", RESOURCES)
@pytest.mark.parametrize(
    ("version", "code"),
    [
        (None, "MissingApiVersionParameter"),
        ("2020-01-01", "InvalidApiVersionParameter"),
        ("", "InvalidApiVersionParameter"),
    ],
)
async def test_api_version_that_is_none_is_refused(
    fleet: Fleet, path: str, version: str | None, code: str
) -> None:
    assert error(await ask(fleet, "GET", path, version=version)) == (400, code)


@pytest.mark.parametrize("path", RESOURCES)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_body_that_is_no_json_is_refused(fleet: Fleet, path: str, method: str) -> None:
    answer = await fleet.http.request(
        method,
        SCOPE + path,
        params=VERSION,
        content=b'{"tags": ',
        headers={"content-type": "application/json"},
    )
    assert error(answer) == (400, "InvalidRequestContent")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[" * 50_000,
        b'{"tags": {"x": "\\ud800"}}',
        b'{"properties": {"certificate": {"leafCertificateConfiguration": '
        b'{"validityPeriodInDays": 1' + b"0" * 5000 + b"}}}}",
        b'{"properties": {"certificate": {"leafCertificateConfiguration": '
        b'{"validityPeriodInHours": NaN}}}}',
    ],
    ids=["empty", "no text", "deep", "half a character", "huge", "NaN"],
)
async def test_body_that_hurts_parsers_is_refused(fleet: Fleet, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await fleet.http.put(SCOPE + POLICY, params=VERSION, content=body, headers=headers)
    assert error(answer)[0] == 400


@pytest.mark.parametrize("path", RESOURCES)
async def test_body_that_is_too_large_is_refused(fleet: Fleet, path: str) -> None:
    answer = await ask(fleet, "PUT", path, {"tags": {"x": "y" * 2_000_000}})
    assert error(answer) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize("path", RESOURCES)
async def test_body_is_not_read_of_who_has_no_token(fleet: Fleet, path: str) -> None:
    async with httpx.AsyncClient(base_url=str(fleet.http.base_url), verify=fleet.trust()) as nobody:
        answer = await ask(nobody, "PUT", path, [])
    assert error(answer) == (401, "AuthenticationFailed")
    assert answer.headers["www-authenticate"] == "Bearer"


def leaf(**leaf: Any) -> dict[str, Any]:
    return {"properties": {"certificate": {"leafCertificateConfiguration": leaf}}}


def authority(**authority: Any) -> dict[str, Any]:
    return {"properties": {"certificate": {"certificateAuthorityConfiguration": authority}}}


BAD_BODIES: list[tuple[str, Any]] = [
    *((path, []) for path in RESOURCES),
    *((path, {"tags": {"site": 7}}) for path in RESOURCES),
    *((path, {"tags": {"": "x"}}) for path in (NS, ROOT)),
    *((path, {"tags": {str(n): "" for n in range(51)}}) for path in (NS, ROOT)),
    (NS, {"location": ""}),
    (NS, {"location": "a\r\nb"}),
    (NS, {"location": 7}),
    (NS, {"properties": {"messaging": {"endpoints": {"x": {"address": "y"}}}}}),
    (ROOT, {"properties": {"keyType": "RSA-1024"}}),
    (ROOT, {"properties": {"offlineRoot": 7}}),
    (POLICY, {"tags": {"site": "north"}}),
    (POLICY, {"properties": 7}),
    (POLICY, leaf(validityPeriodInDays="14")),
    (POLICY, leaf(validityPeriodInDays=14.5)),
    (POLICY, leaf(validityPeriodInDays=0)),
    (POLICY, leaf(validityPeriodInDays=10**30)),
    (POLICY, leaf(validityPeriodInHours=-1)),
    (POLICY, leaf(validityPeriodInDays=14, validityPeriodInHours=24)),
    (POLICY, leaf(keyTypes=[])),
    (POLICY, leaf(keyTypes=["DSA"])),
    (POLICY, authority(keyType=7)),
    (POLICY, authority(bringYourOwnRoot={"enabled": "yes"})),
]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("path", "body"), BAD_BODIES, ids=str)
async def test_body_that_cannot_be_is_refused_and_nothing_changes(
    fleet: Fleet, path: str, body: Any
) -> None:
    before = (await ask(fleet, "GET", path)).json()
    assert error(await ask(fleet, "PUT", path, body)) == (400, "InvalidParameter")
    assert (await ask(fleet, "GET", path)).json() == before


@pytest.mark.parametrize(
    "path",
    [
        "/namespaces/%F0%9F%8C%B1",
        "/namespaces/default/credentials/other",
        "/namespaces/default/devices/%20",
        "/namespaces/default/credentials/default/policies/" + "x" * 4000,
    ],
)
async def test_name_that_nothing_can_have_is_not_found(fleet: Fleet, path: str) -> None:
    assert error(await ask(fleet, "GET", path)) == (404, "ResourceNotFound")


@pytest.mark.parametrize("path", ["/namespaces", NS + "/devices", ROOT + "/policies"])
async def test_name_that_databases_do_not_take_is_refused(fleet: Fleet, path: str) -> None:
    assert error(await ask(fleet, "GET", path + "/a%00b"))[0] in (400, 404)
    listed = await fleet.http.get(SCOPE + path, params=VERSION | {"$skipToken": "a\0b"})
    assert listed.status_code in (200, 400)


@pytest.mark.parametrize("name", ["a%00b", "-ab", "ab", "x" * 51, "a_b"])
@pytest.mark.parametrize("path", ["/namespaces/{}", ROOT + "/policies/{}"])
async def test_name_out_of_the_rules_is_refused(fleet: Fleet, path: str, name: str) -> None:
    assert error(await ask(fleet, "PUT", path.format(name), {})) == (400, "InvalidParameter")


async def test_namespace_of_another_subscription_is_refused(fleet: Fleet) -> None:
    path = f"{SCOPE}/namespaces/plant".replace("0000", "1111")
    assert error(await ask(fleet, "PUT", path, {})) == (404, "SubscriptionNotFound")


async def test_role_on_one_namespace_makes_no_other_and_learns_of_none(fleet: Fleet) -> None:
    default = await fleet.server.namespaces.get("default")
    async with await bearer(fleet, Role.OWNER, default.id) as client:
        answers = [
            await ask(client, method, "/namespaces/plant", {})
            for method in ("PUT", "DELETE", "PATCH", "GET")
        ]
        listed = (await ask(client, "GET", "/namespaces")).json()
        changed = await ask(client, "PUT", NS, {"tags": {"site": "north"}})
    assert {error(answer) for answer in answers} == {(403, "AuthorizationFailed")}
    assert [each["name"] for each in listed["value"]] == ["default"]
    assert changed.status_code == 200


# --- preconditions


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("path", RESOURCES)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_version_that_is_not_the_newest_is_412(fleet: Fleet, path: str, method: str) -> None:
    before = (await ask(fleet, "GET", path)).json()
    body = None if method == "DELETE" else {}
    answer = await ask(fleet, method, path, body, if_match='"0000"')
    assert error(answer) == (412, "PreconditionFailed")
    assert (await ask(fleet, "GET", path)).json() == before


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("path", RESOURCES)
@pytest.mark.parametrize("form", ["{}", '"{}"', 'W/"{}"'])
async def test_newest_version_may_be_changed(fleet: Fleet, path: str, form: str) -> None:
    etag = (await ask(fleet, "GET", path)).json()["etag"]
    changed = await ask(fleet, "PUT", path, {}, if_match=form.format(etag))
    assert changed.status_code == 200
    assert changed.json()["etag"] != etag


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("path", RESOURCES)
async def test_what_exists_is_not_created_again(fleet: Fleet, path: str) -> None:
    answer = await ask(fleet, "PUT", path, {}, if_none_match="*")
    assert error(answer) == (412, "PreconditionFailed")


@pytest.mark.parametrize("path", ["/namespaces/plant", ROOT + "/policies/line-7", DEVICE])
async def test_what_must_be_there_is_not_created(fleet: Fleet, path: str) -> None:
    answer = await ask(fleet, "PUT", path, {}, if_match="*")
    assert error(answer) == (412, "PreconditionFailed")
    assert (await ask(fleet, "GET", path)).status_code == 404
    assert (await ask(fleet, "PUT", path, {}, if_none_match="*")).status_code == 201


# --- policies


async def test_policy_that_is_sent_as_it_was_read_stays_as_it_is(fleet: Fleet) -> None:
    path = ROOT + "/policies/line-7"
    wanted = leaf(validityPeriodInHours=180, keyTypes=["ML-DSA-65", "EC-P256"])
    wanted["properties"]["certificate"] |= authority(keyType="EC-P521", subject="Line 7")[
        "properties"
    ]["certificate"]
    made = (await ask(fleet, "PUT", path, wanted)).json()
    shown = made["properties"]["certificate"]
    assert shown["leafCertificateConfiguration"] == {
        "validityPeriodInDays": 8,
        "validityPeriodInHours": 180,
        "keyTypes": ["EC-P256", "ML-DSA-65"],
    }
    assert shown["certificateAuthorityConfiguration"]["keyType"] == "EC-P521"
    assert shown["certificateAuthorityConfiguration"]["subject"] == "CN=Line 7"
    for body in (made, wanted):
        again = await ask(fleet, "PUT", path, body)
        assert again.status_code == 200, again.text
        assert again.json()["properties"] == made["properties"]


async def test_policy_keeps_what_a_change_does_not_say(fleet: Fleet) -> None:
    before = (await ask(fleet, "GET", POLICY)).json()
    for method in ("PUT", "PATCH"):
        changed = (await ask(fleet, method, POLICY, {})).json()
        assert changed["properties"] == before["properties"]


@pytest.mark.parametrize(
    "wanted",
    [
        authority(keyType="EC-P256"),
        authority(subject="Another"),
        authority(bringYourOwnRoot={"enabled": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_what_is_said_of_cas_is_for_good(
    fleet: Fleet, method: str, wanted: dict[str, Any]
) -> None:
    path = ROOT + "/policies/line-7"
    await ask(fleet, "PUT", path, authority(subject="Line 7"))
    assert error(await ask(fleet, method, path, wanted)) == (409, "PropertyChangeNotAllowed")


async def test_key_of_a_credential_is_for_good(fleet: Fleet) -> None:
    answer = await ask(fleet, "PUT", ROOT, {"properties": {"keyType": "RSA-3072"}})
    assert error(answer) == (409, "PropertyChangeNotAllowed")


async def test_validity_is_as_wide_as_the_settings_let_it(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", leaf_validity_min_days=0.02) as fleet:
        made = await ask(fleet, "PUT", ROOT + "/policies/short", leaf(validityPeriodInHours=0.5))
        shown = made.json()["properties"]["certificate"]["leafCertificateConfiguration"]
        assert (shown["validityPeriodInDays"], shown["validityPeriodInHours"]) == (1, 0.5)


async def test_policy_needs_a_credential(fleet: Fleet) -> None:
    await ask(fleet, "PUT", "/namespaces/plant", {})
    path = "/namespaces/plant/credentials/default"
    assert error(await ask(fleet, "PUT", path + "/policies/line-7", {}))[0] == 404
    assert error(await ask(fleet, "POST", path + "/synchronize"))[0] == 404


# --- what one alone may not do


@pytest.fixture
async def guarded(tmp_path: Path) -> Any:
    asked = ["revoke-issuer", "delete-authority"]
    async with Fleet.running(tmp_path / "data", second_person_for=asked) as running:
        yield running


async def approve(fleet: Fleet, answer: httpx.Response) -> None:
    assert error(answer) == (403, "ApprovalNeeded")
    [more] = answer.json()["error"]["additionalInfo"]
    async with await bearer(fleet, Role.CREDENTIALS_CONTRIBUTOR) as second:
        approved = await second.post(f"/fleetroot/approvals/{more['info']['approvalId']}/approve")
        assert approved.status_code == 200


async def test_issuer_is_revoked_once_somebody_else_approved(guarded: Fleet) -> None:
    before = (await ask(guarded, "GET", POLICY)).json()
    await approve(guarded, await ask(guarded, "POST", POLICY + "/revokeIssuer"))
    assert (await ask(guarded, "GET", POLICY)).json() == before
    assert (await ask(guarded, "POST", POLICY + "/revokeIssuer")).status_code == 202
    assert error(await ask(guarded, "POST", POLICY + "/revokeIssuer"))[0] == 403


async def test_root_is_deleted_once_somebody_else_approved(guarded: Fleet) -> None:
    await ask(guarded, "PUT", "/namespaces/plant", {})
    path = "/namespaces/plant/credentials/default"
    await ask(guarded, "PUT", path, {})
    await approve(guarded, await ask(guarded, "DELETE", path))
    assert (await ask(guarded, "GET", path)).status_code == 200
    assert (await ask(guarded, "DELETE", path)).status_code == 204
    assert (await ask(guarded, "GET", path)).status_code == 404


# --- operations


async def test_operation_is_told_to_who_may_read_its_namespace(fleet: Fleet) -> None:
    other = await fleet.server.namespaces.create(
        "plant", subscription_id="s", resource_group="g", by=SYSTEM
    )
    done = await ask(fleet, "POST", ROOT + "/synchronize")
    address = done.headers["location"]
    answers, default = {}, await fleet.server.namespaces.get("default")
    for name, namespace in (("everywhere", None), ("default", default.id)):
        async with await bearer(fleet, Role.READER, namespace) as client:
            answers[name] = (await client.get(address)).status_code
    async with await bearer(fleet, Role.OWNER, other.id) as client:
        answers["plant"] = (await client.get(address)).status_code
        unknown = await client.get(address.replace("operationStatuses/", "operationStatuses/0"))
        answers["unknown"] = unknown.status_code
    assert answers == {"everywhere": 200, "default": 200, "plant": 403, "unknown": 403}


@pytest.mark.parametrize("operation", ["x", "%00", "0" * 2000, f"{'0' * 36}.AAAA"])
async def test_operation_that_is_none_is_404(fleet: Fleet, operation: str) -> None:
    path = SCOPE.partition("/resourceGroups")[0] + (
        f"/providers/Microsoft.DeviceRegistry/locations/local/operationStatuses/{operation}"
    )
    assert error(await ask(fleet, "GET", path)) == (404, "ResourceNotFound")


# --- what is told at the public URL of CAs


async def test_root_of_every_namespace_is_at_its_public_url(fleet: Fleet) -> None:
    await ask(fleet, "PUT", "/namespaces/plant", {})
    await ask(fleet, "PUT", "/namespaces/plant/credentials/default", {})
    path = "/namespaces/plant/credentials/default/policies/line-7"
    made = (await ask(fleet, "PUT", path, {})).json()
    found = await fleet.http.get("/fleetroot/namespaces/plant/authorities")
    shown = {each["kind"]: each for each in found.json()["value"]}
    plain = f"http://{fleet.bootstrap['bind']}:{fleet.bootstrap['httpPort']}"
    async with httpx.AsyncClient(base_url=plain) as anybody:
        for each in shown.values():
            der = (await anybody.get(f"/pki/{each['id']}/ca.cer")).content
            certificate = x509.load_der_x509_certificate(der)
            assert certificate.subject.rfc4514_string() == each["subject"]
    assert (
        made["properties"]["certificate"]["certificateAuthorityConfiguration"]["subject"]
        == (shown["issuing"]["subject"])
    )
