"""The newest generation of the management API: a namespace's root and ICAs, and their policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import test_management_api as management
from test_management_api import SCOPE, error

from fleet import Fleet
from openssl_ca import OpensslCa

VERSION = "2026-11-02-preview"
PLANT = "/namespaces/plant"
CAS = PLANT + "/certificateAuthorities"
ROOT = {"location": "eastus2", "properties": {"certificateAuthorityType": "Root", "keyType": "ECC"}}
EXTERNAL: dict[str, Any] = {
    "properties": {"certificateAuthorityType": "ICA", "issuer": {"issuerType": "External"}}
}


async def ask(
    fleet: Fleet, method: str, path: str, body: Any = None, **headers: str
) -> httpx.Response:
    return await management.ask(fleet, method, path, body, version=VERSION, **headers)


async def done(fleet: Fleet, method: str, path: str, body: Any = None) -> Any:
    answer = await ask(fleet, method, path, body)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def ica_of(root: str, **more: Any) -> dict[str, Any]:
    issuer = {
        "issuerType": "Microsoft",
        "certificateAuthorityResourceId": f"{SCOPE}{CAS}/{root}",
    }
    return {"properties": {"certificateAuthorityType": "ICA", "issuer": issuer, **more}}


@pytest.fixture
async def plant(fleet: Fleet) -> None:
    """A namespace with a root, `plant-root`, and nothing else."""
    await done(fleet, "PUT", PLANT, {"location": "eastus2"})
    await done(fleet, "PUT", f"{CAS}/plant-root", {**ROOT, "tags": {"site": "north"}})


async def test_root_and_icas_of_the_older_generation_are_one_list(fleet: Fleet) -> None:
    listed = await done(fleet, "GET", "/namespaces/default/certificateAuthorities")
    ica, root = listed["value"]
    assert (ica["name"], root["name"]) == ("default", "root")
    assert root["properties"]["certificateAuthorityType"] == "Root"
    assert "issuer" not in root["properties"]
    assert ica["properties"]["certificateAuthorityType"] == "ICA"
    issuer = ica["properties"]["issuer"]
    assert issuer["issuerType"] == "Microsoft"
    assert issuer["certificateAuthorityResourceId"] == root["id"]
    assert ica["properties"]["subject"].startswith("CN=")
    assert await done(fleet, "GET", "/namespaces/default/certificateAuthorities/ROOT") == root
    assert await done(fleet, "GET", "/namespaces/default/certificateAuthorities/Default") == ica


@pytest.mark.usefixtures("plant")
async def test_root_is_the_credential_of_the_older_generation(fleet: Fleet) -> None:
    root = await done(fleet, "GET", f"{CAS}/plant-root")
    assert (root["location"], root["tags"]) == ("eastus2", {"site": "north"})
    credential = await done(fleet, "GET", PLANT + "/credentials/default")
    assert credential["properties"]["subject"] == root["properties"]["subject"]
    await done(fleet, "PATCH", f"{CAS}/plant-root", {"tags": {"site": "south"}})
    assert (await done(fleet, "GET", PLANT + "/credentials/default"))["tags"] == {"site": "south"}
    await done(fleet, "DELETE", f"{CAS}/plant-root")
    assert (await done(fleet, "GET", CAS))["value"] == []
    await done(fleet, "PUT", PLANT + "/credentials/default", {})
    assert [each["name"] for each in (await done(fleet, "GET", CAS))["value"]] == ["root"]


@pytest.mark.usefixtures("plant")
async def test_ica_and_its_policy_are_a_policy_of_the_older_generation(fleet: Fleet) -> None:
    made = await ask(fleet, "PUT", f"{CAS}/line-7", ica_of("plant-root"))
    assert made.status_code == 201
    path = f"{CAS}/line-7/certificatePolicies/line-7"
    body = {"location": "eastus2", "properties": {"certificate": {"validityPeriodInDays": 14}}}
    policy = await done(fleet, "PUT", path, body)
    assert policy["id"] == SCOPE + path
    assert policy["properties"]["certificate"]["validityPeriodInDays"] == 14
    assert policy["properties"]["uuid"] != made.json()["properties"]["uuid"]
    body["properties"]["certificate"]["validityPeriodInDays"] = 30
    changed = await done(fleet, "PATCH", path, body)
    assert (await done(fleet, "GET", path)) == changed
    assert (await done(fleet, "GET", path.rpartition("/")[0]))["value"] == [changed]
    older = await done(fleet, "GET", PLANT + "/credentials/default/policies/line-7")
    leaf = older["properties"]["certificate"]["leafCertificateConfiguration"]
    assert leaf["validityPeriodInDays"] == 30
    await done(fleet, "DELETE", path)
    assert [each["name"] for each in (await done(fleet, "GET", CAS))["value"]] == ["plant-root"]
    await done(fleet, "DELETE", f"{CAS}/line-7")


@pytest.mark.usefixtures("plant")
async def test_what_is_sent_as_it_was_read_changes_nothing(fleet: Fleet) -> None:
    await done(fleet, "PUT", f"{CAS}/line-7", ica_of("plant-root", subject="Line 7"))
    for path in (f"{CAS}/line-7", f"{CAS}/plant-root"):
        read = await done(fleet, "GET", path)
        again = await ask(fleet, "PUT", path, read, if_match=read["etag"])
        assert again.status_code == 200
        assert again.json()["properties"] == read["properties"]


@pytest.mark.usefixtures("plant")
async def test_ica_is_revoked_and_another_takes_its_place(fleet: Fleet) -> None:
    before = await done(fleet, "PUT", f"{CAS}/line-7", ica_of("plant-root"))
    answer = await ask(fleet, "POST", f"{CAS}/line-7/revokeAndRotate")
    assert answer.status_code == 202
    status = await fleet.http.get(answer.headers["azure-asyncoperation"])
    assert status.json()["status"] == "Succeeded"
    after = await done(fleet, "GET", f"{CAS}/line-7")
    assert after["properties"]["uuid"] == before["properties"]["uuid"]
    assert (
        after["properties"]["issuer"]["thumbprint"]
        != (before["properties"]["issuer"]["thumbprint"])
    )


@pytest.mark.usefixtures("plant")
async def test_ica_of_another_root_is_activated(fleet: Fleet, tmp_path: Path) -> None:
    pending = await done(fleet, "PUT", f"{CAS}/line-7", EXTERNAL)
    issuer = pending["properties"]["issuer"]
    assert (issuer["issuerType"], issuer["status"]) == ("External", "PendingActivation")
    assert "validityNotAfter" not in pending["properties"]
    corp = OpensslCa.root(tmp_path / "corp")
    chain = corp.sign(issuer["certificateSigningRequest"].encode()) + corp.pem
    answer = await ask(fleet, "POST", f"{CAS}/line-7/activate", {"certificateChain": chain})
    assert answer.status_code == 202
    active = await done(fleet, "GET", f"{CAS}/line-7")
    assert active["properties"]["issuer"]["status"] == "Active"
    assert active["properties"]["issuer"]["thumbprint"]
    assert active["properties"]["validityNotAfter"]
    refused = await ask(fleet, "POST", f"{CAS}/line-7/revokeAndRotate")
    assert error(refused) == (400, "InvalidParameter")


@pytest.mark.usefixtures("plant")
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PUT", "line-7", {}, 400, "InvalidParameter"),
        ("PUT", "line-7", {"properties": {"certificateAuthorityType": "Leaf"}}, 400, None),
        ("PUT", "line-7", {"properties": {"certificateAuthorityType": "ICA"}}, 400, None),
        ("PUT", "line-7", ica_of("another"), 400, None),
        ("PUT", "line-7", ica_of("plant-root") | {"tags": {"a": "b"}}, 400, None),
        ("PUT", "line-7", ica_of("plant-root", keyType="DSA"), 400, None),
        ("PUT", "-", ica_of("plant-root"), 400, None),
        ("PUT", "another-root", ROOT, 409, "Conflict"),
        ("PUT", "plant-root", ica_of("plant-root"), 409, "PropertyChangeNotAllowed"),
        ("PUT", "line-8", EXTERNAL, 409, "PropertyChangeNotAllowed"),
        ("PUT", "line-8", ica_of("plant-root", keyType="RSA-3072"), 409, None),
        ("PUT", "line-8/certificatePolicies/other", {}, 400, None),
        ("PUT", "line-7/certificatePolicies/line-7", {}, 404, "ResourceNotFound"),
        ("GET", "line-7", None, 404, "ResourceNotFound"),
        ("GET", "line-8/certificatePolicies/other", None, 404, "ResourceNotFound"),
        ("POST", "line-7/revokeAndRotate", None, 404, "ResourceNotFound"),
        ("POST", "plant-root/revokeAndRotate", None, 400, None),
        ("POST", "plant-root/activate", {"certificateChain": "x"}, 400, None),
        ("POST", "line-8/activate", {"certificateChain": "x"}, 409, "Conflict"),
        ("POST", "line-8/activate", {}, 400, None),
        ("DELETE", "plant-root", None, 409, "Conflict"),
    ],
)
async def test_what_cannot_be_is_refused(
    fleet: Fleet, method: str, path: str, body: Any, status: int, code: str | None
) -> None:
    await done(fleet, "PUT", f"{CAS}/line-8", ica_of("plant-root"))
    answer = await ask(fleet, method, f"{CAS}/{path}", body)
    refused = {400: "InvalidParameter", 409: "PropertyChangeNotAllowed"}
    assert error(answer) == (status, code or refused[status])


async def test_ica_needs_a_root(fleet: Fleet) -> None:
    await done(fleet, "PUT", PLANT, {})
    assert error(await ask(fleet, "PUT", f"{CAS}/line-7", EXTERNAL)) == (409, "Conflict")


@pytest.mark.usefixtures("plant")
async def test_policy_of_the_older_generation_is_not_called_as_the_root(fleet: Fleet) -> None:
    path = PLANT + "/credentials/default/policies/Plant-Root"
    assert error(await ask(fleet, "PUT", path, {})) == (409, "Conflict")


async def test_older_generations_do_not_have_it(fleet: Fleet) -> None:
    answer = await management.ask(fleet, "GET", "/namespaces/default/certificateAuthorities")
    assert error(answer) == (400, "InvalidApiVersionParameter")


async def test_device_is_put_under_an_ica_s_policy(fleet: Fleet) -> None:
    place = f"{SCOPE}/namespaces/default/certificateAuthorities/default/certificatePolicies/default"
    body = {"properties": {"policy": {"resourceId": place}}}
    made = await done(fleet, "PUT", "/namespaces/default/devices/dev-1", body)
    assert made["properties"]["policy"]["resourceId"].endswith("/policies/default")
