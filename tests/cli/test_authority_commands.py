"""`fleetroot namespace`, `credential`, `policy` and `ca`, as people type them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_command_line import Done, run

from fleet import Fleet
from openssl_ca import OpensslCa


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def ok(*arguments: object, data: Path) -> Done:
    done = await run(*arguments, data=data)
    assert done.code == 0, done.err
    return done


async def shown(*arguments: object, data: Path) -> Any:
    return json.loads((await ok(*arguments, "--json", data=data)).out)


async def refused(*arguments: object, data: Path) -> str:
    done = await run(*arguments, data=data)
    assert (done.code, len(done.err.splitlines())) == (1, 1), done
    return done.err


def status(policy: dict[str, Any]) -> str:
    root = policy["certificate"]["certificateAuthorityConfiguration"]["bringYourOwnRoot"]
    return str(root["status"])


async def test_policy_is_made_listed_changed_and_deleted(data: Path) -> None:
    made = await shown(
        *("policy", "create", "plant", "--days", 14, "--leaf-key-type", "EC-P256"),
        *("--leaf-key-type", "ML-DSA-65", "--key-type", "EC-P521", "--subject", "Plant 7"),
        data=data,
    )
    authority = made["certificate"]["certificateAuthorityConfiguration"]
    assert (authority["keyType"], authority["subject"]) == ("EC-P521", "CN=Plant 7")
    leaf = made["certificate"]["leafCertificateConfiguration"]
    assert (leaf["validityPeriodInDays"], leaf["keyTypes"]) == (14, ["EC-P256", "ML-DSA-65"])
    listed = (await ok("policy", "list", data=data)).out
    assert "plant" in listed
    assert "14 days" in listed
    changed = await shown("policy", "update", "plant", "--hours", 180, data=data)
    leaf = changed["certificate"]["leafCertificateConfiguration"]
    assert (leaf["validityPeriodInDays"], leaf["validityPeriodInHours"]) == (7.5, 180)
    assert "CN=Plant 7" in (await ok("policy", "show", "plant", data=data)).out
    await ok("policy", "delete", "plant", data=data)
    assert "there is no policy plant" in await refused("policy", "show", "plant", data=data)


async def test_change_of_an_older_version_is_refused(data: Path) -> None:
    etag = (await shown("policy", "show", "default", data=data))["etag"]
    await ok("policy", "update", "default", "--days", 8, "--if-match", etag, data=data)
    assert "changed since" in await refused(
        "policy", "update", "default", "--days", 9, "--if-match", etag, data=data
    )


@pytest.mark.parametrize(
    "command",
    [
        ("policy", "create", "x", "--days", 1, "--hours", 1),
        ("policy", "create", "x", "--key-type", "RSA-2048"),
        ("policy", "update", "default"),
        ("policy", "show", ""),
        ("namespace", "create", "plant", "--tag", "nothing"),
        ("policy", "activate", "default", "no-such-file"),
    ],
    ids=lambda command: " ".join(map(str, command)),
)
async def test_what_cannot_be_meant_is_a_usage_error(
    data: Path, command: tuple[object, ...]
) -> None:
    done = await run(*command, data=data)
    assert done.code == 2, done.err


async def test_validity_out_of_the_limits_is_refused_with_the_setting_that_widens_them(
    data: Path,
) -> None:
    said = await refused("policy", "create", "plant", "--hours", 12, data=data)
    assert "7 to 90 days (settings leaf_validity_min_days" in said


async def test_limits_are_widened_by_their_settings(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "d", leaf_validity_min_days=0.02) as fleet:
        data = fleet.server.settings.data
        made = await shown("policy", "create", "plant", "--hours", 0.5, data=data)
        leaf = made["certificate"]["leafCertificateConfiguration"]
        assert leaf["validityPeriodInHours"] == 0.5


async def test_issuer_is_renewed_and_revoked(data: Path, fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    await ok("policy", "renew-issuer", "default", data=data)
    listed = await shown("ca", "list", data=data)
    assert [(each["kind"], each["revokedAt"]) for each in listed].count(("issuing", None)) == 2
    await ok("policy", "revoke-issuer", "default", data=data)
    listed = await shown("ca", "list", data=data)
    assert [(each["kind"], each["revokedAt"]) for each in listed].count(("issuing", None)) == 1
    assert "revoked" in (await ok("ca", "list", data=data)).out
    [certificate] = await shown("certificates", "list", data=data)
    assert certificate["status"] == "revoked"
    actions = [entry["action"] for entry in await shown("audit", "list", data=data)]
    assert "policy.revokeIssuer" in actions
    assert "policy.rotateIssuer" in actions


async def test_ca_is_shown_with_its_chain(data: Path) -> None:
    policy = await shown("policy", "show", "default", data=data)
    id_ = policy["certificate"]["certificateAuthorityConfiguration"]["issuingAuthority"]
    assert (await shown("ca", "show", id_, data=data))["kind"] == "issuing"
    pem = (await ok("ca", "show", id_, "--pem", data=data)).out
    assert pem.count("BEGIN CERTIFICATE") == 2
    assert "no certificate authority" in await refused("ca", "show", "none", data=data)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="apt-get install openssl")
async def test_root_of_another_is_brought(data: Path, tmp_path: Path) -> None:
    corp = OpensslCa.root(tmp_path / "corp")
    made = await shown("policy", "create", "plant", "--bring-your-own-root", data=data)
    assert status(made) == "PendingActivation"
    csr = (await ok("policy", "show", "plant", "--csr", data=data)).out
    (tmp_path / "wrong.pem").write_text(corp.pem)
    said = await refused("policy", "activate", "plant", tmp_path / "wrong.pem", data=data)
    assert "(rule subject)" in said
    (tmp_path / "chain.pem").write_text(corp.sign(csr.encode()) + corp.pem)
    active = await shown("policy", "activate", "plant", tmp_path / "chain.pem", data=data)
    assert status(active) == "Active"
    assert "waits for no" in await refused("policy", "show", "plant", "--csr", data=data)
    assert (await shown("namespace", "synchronize", "default", data=data))["synchronized"] == 1
    renewed = await shown("policy", "renew-issuer", "plant", data=data)
    assert status(renewed) == "ActiveButPendingRenewal"
    assert "external root" in await refused("policy", "revoke-issuer", "plant", data=data)


async def test_credential_is_tagged(data: Path) -> None:
    plant = ("--namespace", "plant")
    await ok("namespace", "create", "plant", "--no-credential", data=data)
    made = await shown("credential", "create", *plant, "--tag", "site=north", data=data)
    assert made["tags"] == {"site": "north"}
    await ok("credential", "update", *plant, "--tag", "site=south", data=data)
    assert "site=south" in (await ok("credential", "show", *plant, data=data)).out


async def test_namespace_is_made_with_what_belongs_to_it_and_deleted_when_it_is_empty(
    data: Path,
) -> None:
    await ok("namespace", "create", "plant", "--tag", "site=7", data=data)
    assert (await shown("namespace", "show", "plant", data=data))["tags"] == {"site": "7"}
    assert "plant" in (await ok("namespace", "list", data=data)).out
    await ok("namespace", "update", "plant", "--tag", "site=8", data=data)
    await ok("policy", "create", "first", "--namespace", "plant", data=data)
    assert "policies" in await refused("credential", "delete", "--namespace", "plant", data=data)
    await ok("policy", "delete", "first", "--namespace", "plant", data=data)
    assert "credential" in await refused("namespace", "delete", "plant", data=data)
    await ok("credential", "delete", "--namespace", "plant", data=data)
    assert "no credential" in await refused("credential", "show", "--namespace", "plant", data=data)
    await ok("credential", "create", "--namespace", "plant", "--key-type", "RSA-3072", data=data)
    await ok("credential", "delete", "--namespace", "plant", data=data)
    await ok("namespace", "delete", "plant", data=data)
    assert "no namespace plant" in await refused("namespace", "show", "plant", data=data)


async def test_ca_goes_by_the_verbs_of_the_newest_generation(data: Path) -> None:
    made = await shown("ca", "create", "plant", data=data)
    rotated = await shown("ca", "revoke-and-rotate", "plant", data=data)
    before, after = [
        each["certificate"]["certificateAuthorityConfiguration"]["issuingAuthority"]
        for each in (made, rotated)
    ]
    assert before != after
    await ok("ca", "update", "plant", "--days", 8, data=data)
    await ok("ca", "delete", "plant", data=data)
    assert "there is no policy plant" in await refused("ca", "activate", "plant", "-", data=data)
