"""The unmodified `azure-mgmt-deviceregistry` as the operator: namespaces, credentials, policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_azure_mgmt_deviceregistry import call, pytestmark, sdk  # noqa: F401

from fleet import Fleet
from fleetroot.access import EVERYWHERE, Grant, Role
from fleetroot.audit import SYSTEM
from openssl_ca import OpensslCa

GROUP = "fleetroot"
PLANT = (GROUP, "plant")
DEFAULT = (GROUP, "default")
NOBODY = "00000000-0000-0000-0000-000000000000"


def namespaces(verb: str, *arguments: Any) -> list[Any]:
    return call(f"namespaces.{verb}", *arguments)


def credentials(verb: str, *arguments: Any) -> list[Any]:
    return call(f"credentials.{verb}", *arguments)


def policies(verb: str, *arguments: Any) -> list[Any]:
    return call(f"policies.{verb}", *arguments)


def tracked(location: str = "eastus2", **tags: str) -> dict[str, Any]:
    return {"location": location, "tags": tags}


def certificate(days: int = 14, **authority: Any) -> dict[str, Any]:
    return {
        "properties": {
            "certificate": {
                "certificateAuthorityConfiguration": {"keyType": "ECC", **authority},
                "leafCertificateConfiguration": {"validityPeriodInDays": days},
            }
        }
    }


EXTERNAL = certificate(bringYourOwnRoot={"enabled": True})


def parts(policy: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    found = policy["properties"]["certificate"]
    return (
        found["certificateAuthorityConfiguration"],
        found["leafCertificateConfiguration"],
    )


async def test_namespace_is_created_read_changed_and_deleted(fleet: Fleet) -> None:
    created, read, changed, replaced, deleted, gone, again = await sdk(
        fleet,
        namespaces("begin_create_or_replace", *PLANT, tracked(site="north")),
        namespaces("get", GROUP.upper(), "PLANT"),
        namespaces("begin_update", *PLANT, {"tags": {"site": "south"}}),
        namespaces("begin_create_or_replace", *PLANT, tracked("westus", line="7")),
        namespaces("begin_delete", *PLANT),
        namespaces("get", *PLANT),
        namespaces("begin_delete", *PLANT),
    )
    subscription = fleet.bootstrap["subscriptionId"]
    assert created["id"] == (
        f"/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/"
        "Microsoft.DeviceRegistry/namespaces/plant"
    )
    assert (created["name"], created["type"]) == ("plant", "Microsoft.DeviceRegistry/namespaces")
    assert (created["location"], created["tags"]) == ("eastus2", {"site": "north"})
    assert created["properties"]["provisioningState"] == "Succeeded"
    assert created["systemData"]["createdAt"]
    assert read == created
    assert (changed["tags"], changed["location"]) == ({"site": "south"}, "eastus2")
    assert changed["etag"] != created["etag"]
    assert (replaced["tags"], replaced["location"]) == ({"line": "7"}, "westus")
    assert replaced["properties"]["uuid"] == created["properties"]["uuid"]
    assert deleted is again is None
    assert (gone["error"]["status"], gone["error"]["code"]) == (404, "ResourceNotFound")


async def test_namespaces_are_listed_by_group_and_subscription_page_by_page(fleet: Fleet) -> None:
    for number in range(203):
        await fleet.server.namespaces.create(
            f"plant-{number:03}",
            subscription_id=fleet.bootstrap["subscriptionId"],
            resource_group="plants",
            by=SYSTEM,
        )
    names = [f"plant-{number:03}" for number in range(203)]
    of_group, of_all, of_none = await sdk(
        fleet,
        namespaces("list_by_resource_group", "Plants"),
        namespaces("list_by_subscription"),
        namespaces("list_by_resource_group", "elsewhere"),
    )
    assert [each["name"] for each in of_group] == names
    assert [each["name"] for each in of_all] == ["default", *names]
    assert of_none == []


async def test_credential_is_created_tagged_listed_and_deleted(fleet: Fleet) -> None:
    none, created, read, changed, replaced, listed, deleted, gone, again = await sdk(
        fleet,
        namespaces("begin_create_or_replace", *PLANT, tracked()),
        credentials("begin_create_or_update", *PLANT, tracked(site="north")),
        credentials("get", *PLANT),
        credentials("begin_update", *PLANT, {"tags": {"site": "south"}}),
        credentials("begin_create_or_update", *PLANT, tracked(line="7")),
        credentials("list_by_resource_group", *PLANT),
        credentials("begin_delete", *PLANT),
        credentials("get", *PLANT),
        credentials("list_by_resource_group", *PLANT),
    )
    assert created["id"] == none["id"] + "/credentials/default"
    assert (created["name"], created["location"]) == ("default", "eastus2")
    assert created["properties"]["provisioningState"] == "Succeeded"
    assert read == created
    assert (created["tags"], changed["tags"], replaced["tags"]) == (
        {"site": "north"},
        {"site": "south"},
        {"line": "7"},
    )
    assert replaced["properties"] == created["properties"]
    assert listed == [replaced]
    assert deleted is None
    assert gone["error"]["status"] == 404
    assert again == []


async def test_policy_is_created_changed_listed_and_deleted(fleet: Fleet) -> None:
    created, read, changed, replaced, listed, deleted, gone, again = await sdk(
        fleet,
        policies("begin_create_or_update", *DEFAULT, "line-7", certificate(14)),
        policies("get", *DEFAULT, "LINE-7"),
        policies(
            "begin_update",
            *DEFAULT,
            "line-7",
            {
                "properties": {
                    "certificate": {"leafCertificateConfiguration": {"validityPeriodInDays": 30}}
                }
            },
        ),
        policies("begin_create_or_update", *DEFAULT, "line-7", certificate(60)),
        policies("list_by_resource_group", *DEFAULT),
        policies("begin_delete", *DEFAULT, "line-7"),
        policies("get", *DEFAULT, "line-7"),
        policies("begin_delete", *DEFAULT, "line-7"),
    )
    assert created["id"].endswith("/namespaces/default/credentials/default/policies/line-7")
    assert created["type"] == "Microsoft.DeviceRegistry/namespaces/credentials/policies"
    assert "location" not in created
    authority, leaf = parts(created)
    assert authority["keyType"] == "ECC"
    assert authority["subject"].startswith("CN=")
    assert authority["validityNotBefore"] < authority["validityNotAfter"]
    assert authority["bringYourOwnRoot"] == {"enabled": False}
    assert leaf["validityPeriodInDays"] == 14
    assert read == created
    assert parts(changed)[1]["validityPeriodInDays"] == 30
    assert parts(replaced)[1]["validityPeriodInDays"] == 60
    assert parts(replaced)[0] == authority
    assert [each["name"] for each in listed] == ["default", "line-7"]
    assert deleted is again is None
    assert gone["error"]["status"] == 404


async def test_hubs_trust_a_policy_once_it_is_synchronized(fleet: Fleet) -> None:
    _, done = await sdk(
        fleet,
        policies("begin_create_or_update", *DEFAULT, "line-7", certificate()),
        credentials("begin_synchronize", *DEFAULT),
    )
    assert done is None
    again = await fleet.http.post("/fleetroot/namespaces/default/synchronize")
    assert again.json() == {"synchronized": 0}


async def test_issuer_is_revoked_and_another_takes_its_place(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    before, revoked, after = await sdk(
        fleet,
        policies("get", *DEFAULT, "default"),
        policies("begin_revoke_issuer", *DEFAULT, "default"),
        policies("get", *DEFAULT, "default"),
    )
    assert revoked is None
    await mqtt.wait_closed()
    assert parts(after)[0]["subject"] != parts(before)[0]["subject"]
    assert after["etag"] != before["etag"]
    [only] = await fleet.certificates("dev-1")
    assert only["status"] == "revoked"
    again = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", again)).close()


async def test_chain_of_another_root_is_activated(fleet: Fleet, tmp_path: Path) -> None:
    [pending] = await sdk(fleet, policies("begin_create_or_update", *DEFAULT, "line-7", EXTERNAL))
    root = parts(pending)[0]["bringYourOwnRoot"]
    assert (root["enabled"], root["status"]) == (True, "PendingActivation")
    corp = OpensslCa.root(tmp_path / "corp")
    chain = corp.sign(root["certificateSigningRequest"].encode()) + corp.pem
    body = {"certificateChain": chain}
    done, active, twice, revoked = await sdk(
        fleet,
        policies("begin_activate_bring_your_own_root", *DEFAULT, "line-7", body),
        policies("get", *DEFAULT, "line-7"),
        policies("begin_activate_bring_your_own_root", *DEFAULT, "line-7", body),
        policies("begin_revoke_issuer", *DEFAULT, "line-7"),
    )
    assert done is None
    root = parts(active)[0]["bringYourOwnRoot"]
    assert (root["enabled"], root["status"]) == (True, "Active")
    assert root["issuingCertificateThumbprint"]
    assert (twice["error"]["status"], twice["error"]["code"]) == (409, "Conflict")
    assert (revoked["error"]["status"], revoked["error"]["code"]) == (400, "InvalidParameter")


async def test_chain_that_breaks_a_rule_is_refused_with_the_rule(
    fleet: Fleet, tmp_path: Path
) -> None:
    [pending] = await sdk(fleet, policies("begin_create_or_update", *DEFAULT, "line-7", EXTERNAL))
    csr = parts(pending)[0]["bringYourOwnRoot"]["certificateSigningRequest"].encode()
    corp = OpensslCa.root(tmp_path / "corp")
    chain = corp.sign(csr, basicConstraints="critical,CA:FALSE") + corp.pem
    refused, still = await sdk(
        fleet,
        policies(
            "begin_activate_bring_your_own_root", *DEFAULT, "line-7", {"certificateChain": chain}
        ),
        policies("get", *DEFAULT, "line-7"),
    )
    assert (refused["error"]["status"], refused["error"]["code"]) == (400, "InvalidParameter")
    assert "rule basic_constraints" in refused["error"]["message"]
    assert still == pending


async def test_operation_is_known_after_a_restart(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data") as fleet:
        path = (
            f"/subscriptions/{fleet.bootstrap['subscriptionId']}/resourceGroups/{GROUP}/providers/"
            "Microsoft.DeviceRegistry/namespaces/default/credentials/default/synchronize"
        )
        answer = await fleet.http.post(path, params={"api-version": "2026-03-01-preview"})
        assert answer.status_code == 202
        assert answer.headers["retry-after"] == "1"
        address = answer.headers["azure-asyncoperation"]
        assert answer.headers["location"] == address
        location, _, operation = address.partition("?")[0].split("/")[-3:]
    async with Fleet.running(tmp_path / "data") as fleet:
        found, unknown = await sdk(
            fleet,
            call("operation_status.get", location, operation),
            call("operation_status.get", location, f"{NOBODY}.{operation.partition('.')[2]}"),
        )
    assert (found["status"], found["percentComplete"]) == ("Succeeded", 100.0)
    assert found["name"] == operation
    assert found["startTime"] == found["endTime"]
    assert (unknown["error"]["status"], unknown["error"]["code"]) == (404, "ResourceNotFound")


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        (namespaces("begin_create_or_replace", GROUP, "no name", tracked()), 400, None),
        (namespaces("begin_create_or_replace", GROUP, "x" * 51, tracked()), 400, None),
        (namespaces("begin_create_or_replace", "group.", "plant", tracked()), 400, None),
        (namespaces("begin_create_or_replace", "elsewhere", "default", tracked()), 409, "Conflict"),
        (namespaces("begin_delete", *DEFAULT), 409, "Conflict"),
        (namespaces("get", GROUP, "none"), 404, "ResourceNotFound"),
        (namespaces("get", "elsewhere", "default"), 404, "ResourceNotFound"),
        (credentials("begin_create_or_update", GROUP, "none", tracked()), 404, "ResourceNotFound"),
        (credentials("begin_delete", *DEFAULT), 409, "Conflict"),
        (policies("begin_create_or_update", *DEFAULT, "line-7", certificate(6)), 400, None),
        (policies("begin_create_or_update", *DEFAULT, "line-7", certificate(91)), 400, None),
        (
            policies("begin_create_or_update", *DEFAULT, "line-7", certificate(keyType="DSA")),
            400,
            None,
        ),
        (policies("begin_create_or_update", *DEFAULT, "-", certificate()), 400, None),
        (
            policies("begin_create_or_update", *DEFAULT, "default", EXTERNAL),
            409,
            "PropertyChangeNotAllowed",
        ),
        (policies("begin_revoke_issuer", *DEFAULT, "none"), 404, "ResourceNotFound"),
        (
            policies(
                "begin_activate_bring_your_own_root", *DEFAULT, "default", {"certificateChain": "x"}
            ),
            409,
            "Conflict",
        ),
    ],
    ids=lambda value: (
        ".".join(map(str, [value[0], *value[1]]))[:60] if isinstance(value, list) else None
    ),
)
async def test_what_cannot_be_is_refused_in_the_shape_that_the_sdk_reads(
    fleet: Fleet, asked: list[Any], status: int, code: str | None
) -> None:
    [refused] = await sdk(fleet, asked)
    assert refused["error"]["status"] == status, refused
    assert refused["error"]["code"] == (code or "InvalidParameter")
    assert refused["error"]["message"]


async def test_role_that_is_too_small_is_403(fleet: Fleet) -> None:
    _, text = await fleet.server.access.create_token(
        "devices", Grant(Role.DEVICE_CONTRIBUTOR, EVERYWHERE), by=SYSTEM
    )
    refused, also, listed = await sdk(
        fleet,
        namespaces("begin_create_or_replace", *PLANT, tracked()),
        policies("begin_revoke_issuer", *DEFAULT, "default"),
        namespaces("list_by_subscription"),
        token=text.text,
    )
    for each in (refused, also):
        assert (each["error"]["status"], each["error"]["code"]) == (403, "AuthorizationFailed")
    assert [each["name"] for each in listed] == ["default"]
