"""A root whose key is never on the server: `fleetroot ca create-offline`, `sign-offline` and
`sign-offline-crl`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from test_authority_commands import ok, refused, shown, status

from fleet import Fleet
from fleetroot.pki import offline_authority_id, to_pem

PLANT = ("--namespace", "plant")


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


@pytest.fixture
def passphrase(tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "pass").write_text("correct horse\n")
    return ("--passphrase-file", tmp_path / "pass")


@pytest.fixture
async def root(tmp_path: Path, passphrase: tuple[object, ...]) -> Path:
    folder = tmp_path / "root"
    await ok("ca", "create-offline", folder, *passphrase, data=tmp_path)
    return folder


@pytest.fixture
async def plant(data: Path, root: Path) -> None:
    """A namespace of that root, with a policy that waits."""
    await ok("namespace", "create", "plant", "--no-credential", data=data)
    await ok("credential", "create", *PLANT, "--offline-root", root / "root.pem", data=data)
    made = await shown("policy", "create", "line", *PLANT, data=data)
    assert status(made) == "PendingActivation"


async def sign(
    data: Path, root: Path, passphrase: tuple[object, ...], out: Path, *options: object
) -> None:
    """The ceremony: a request goes there, a chain comes back."""
    csr = out.with_suffix(".csr")
    csr.write_text((await ok("policy", "show", "line", *PLANT, "--csr", data=data)).out)
    url = (await shown("status", data=data))["pkiUrl"]
    command = ("ca", "sign-offline", root, csr, "--out", out, "--pki-url", url, "--yes")
    await ok(*command, *passphrase, *options, data=root)


async def test_root_is_kept_sealed_and_for_its_owner_only(root: Path) -> None:
    assert root.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in root.iterdir())
    assert b"PRIVATE" not in b"".join(file.read_bytes() for file in root.iterdir())


async def test_folder_that_is_there_is_left_alone(
    root: Path, passphrase: tuple[object, ...]
) -> None:
    before = (root / "root.sealed").read_bytes()
    assert "there already" in await refused("ca", "create-offline", root, *passphrase, data=root)
    assert (root / "root.sealed").read_bytes() == before


@pytest.mark.usefixtures("plant")
async def test_policy_of_an_offline_root_is_signed_by_a_ceremony(
    fleet: Fleet, data: Path, root: Path, passphrase: tuple[object, ...], tmp_path: Path
) -> None:
    shown_root = await shown("credential", "show", *PLANT, data=data)
    assert shown_root["root"]["keyKept"] == "elsewhere"
    await sign(data, root, passphrase, tmp_path / "chain.pem")
    active = await shown("policy", "activate", "line", tmp_path / "chain.pem", *PLANT, data=data)
    assert status(active) == "Active"
    namespace = await fleet.server.namespaces.get("plant")
    [root_ca, issuing] = await fleet.server.registry.authorities(namespace)
    certificate = x509.load_der_x509_certificate(issuing.certificate)
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert root_ca.id in str(points[0].full_name)
    assert (root_ca.sealed_key, issuing.issuer_id) == (None, root_ca.id)


@pytest.mark.usefixtures("plant")
async def test_chain_of_another_root_is_refused(
    data: Path, passphrase: tuple[object, ...], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    await ok("ca", "create-offline", other, *passphrase, data=tmp_path)
    await sign(data, other, passphrase, tmp_path / "chain.pem")
    said = await refused("policy", "activate", "line", tmp_path / "chain.pem", *PLANT, data=data)
    assert "(rule chain)" in said


@pytest.mark.usefixtures("plant")
async def test_wrong_passphrase_signs_nothing(data: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "csr").write_text(
        (await ok("policy", "show", "line", *PLANT, "--csr", data=data)).out
    )
    (tmp_path / "wrong").write_text("wrong")
    said = await refused(
        *("ca", "sign-offline", root, tmp_path / "csr", "--out", tmp_path / "chain.pem"),
        *("--pki-url", "http://pki.example", "--yes", "--passphrase-file", tmp_path / "wrong"),
        data=root,
    )
    assert "passphrase" in said
    assert not (tmp_path / "chain.pem").exists()


async def test_what_is_no_request_is_refused(
    root: Path, passphrase: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "csr").write_text("nothing")
    said = await refused(
        *("ca", "sign-offline", root, tmp_path / "csr", "--out", tmp_path / "chain.pem"),
        *("--pki-url", "http://pki.example", "--yes", *passphrase),
        data=root,
    )
    assert "cannot be signed" in said


async def test_certificate_that_is_no_root_is_no_credential(data: Path, tmp_path: Path) -> None:
    await ok("namespace", "create", "plant", "--no-credential", data=data)
    policy = await shown("policy", "show", "default", data=data)
    id_ = policy["certificate"]["certificateAuthorityConfiguration"]["issuingAuthority"]
    (tmp_path / "ca.pem").write_text((await ok("ca", "show", id_, "--pem", data=data)).out)
    said = await refused(
        "credential", "create", *PLANT, "--offline-root", tmp_path / "ca.pem", data=data
    )
    assert "cannot be a root" in said


@pytest.mark.usefixtures("plant")
async def test_revoked_issuer_of_an_offline_root_waits_for_a_ceremony(
    fleet: Fleet, data: Path, root: Path, passphrase: tuple[object, ...], tmp_path: Path
) -> None:
    await sign(data, root, passphrase, tmp_path / "one.pem")
    await ok("policy", "activate", "line", tmp_path / "one.pem", *PLANT, data=data)
    revoked = await shown("policy", "revoke-issuer", "line", *PLANT, data=data)
    assert status(revoked) == "PendingActivation"
    [first] = [a for a in await shown("ca", "list", *PLANT, data=data) if a["kind"] == "issuing"]
    assert first["revokedAt"]
    await sign(data, root, passphrase, tmp_path / "two.pem")
    again = await shown("policy", "activate", "line", tmp_path / "two.pem", *PLANT, data=data)
    assert status(again) == "Active"


async def test_request_that_is_signed_twice_is_activated_once(
    fleet: Fleet,
    data: Path,
    plant: None,
    root: Path,
    passphrase: tuple[object, ...],
    tmp_path: Path,
) -> None:
    await sign(data, root, passphrase, tmp_path / "one.pem")
    await sign(data, root, passphrase, tmp_path / "two.pem", "--days", 400)
    await ok("policy", "activate", "line", tmp_path / "one.pem", *PLANT, data=data)
    said = await refused("policy", "activate", "line", tmp_path / "two.pem", *PLANT, data=data)
    assert "waits for no certificate" in said


# --- revocation lists


async def listed(
    data: Path, root: Path, passphrase: tuple[object, ...], out: Path, *options: object
) -> tuple[str, Path]:
    """What is asked of the root now, signed there: the root's id and the list's file."""
    [root_ca] = [a for a in await shown("ca", "list", *PLANT, data=data) if a["kind"] == "root"]
    asked = out.with_suffix(".json")
    asked.write_text((await ok("ca", "request-crl", root_ca["id"], *PLANT, data=data)).out)
    await ok(
        *("ca", "sign-offline-crl", root, asked, "--out", out, "--yes"),
        *passphrase,
        *options,
        data=root,
    )
    return root_ca["id"], out


async def fetched(fleet: Fleet, root_id: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        port = fleet.bootstrap["httpPort"]
        return await client.get(f"http://localhost:{port}/pki/{root_id}/crl/0.crl")


@pytest.mark.usefixtures("plant")
async def test_list_that_the_root_signed_is_published_and_tells_of_the_revoked_issuer(
    fleet: Fleet, data: Path, root: Path, passphrase: tuple[object, ...], tmp_path: Path
) -> None:
    await sign(data, root, passphrase, tmp_path / "one.pem")
    await ok("policy", "activate", "line", tmp_path / "one.pem", *PLANT, data=data)
    await ok("policy", "revoke-issuer", "line", *PLANT, data=data)
    id_, crl = await listed(data, root, passphrase, tmp_path / "root.crl")
    assert (await fetched(fleet, id_)).status_code == 404
    said = await shown("ca", "publish-crl", id_, crl, *PLANT, data=data)
    assert said["revoked"] == 1
    answer = await fetched(fleet, id_)
    assert answer.content == crl.read_bytes()
    issuer = x509.load_pem_x509_certificates((tmp_path / "one.pem").read_bytes())[0]
    (tmp_path / "crl.pem").write_text(
        x509.load_der_x509_crl(answer.content).public_bytes(Encoding.PEM).decode()
    )
    (tmp_path / "issuer.pem").write_text(to_pem([issuer]))
    verified = subprocess.run(
        [
            *("openssl", "verify", "-CAfile", root / "root.pem", "-crl_check_all"),
            *("-CRLfile", tmp_path / "crl.pem", tmp_path / "issuer.pem"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "certificate revoked" in verified.stderr


@pytest.mark.usefixtures("plant")
async def test_list_that_leaves_out_a_revoked_issuer_is_not_published(
    data: Path, root: Path, passphrase: tuple[object, ...], tmp_path: Path
) -> None:
    """One that was signed before the revocation."""
    await sign(data, root, passphrase, tmp_path / "one.pem")
    await ok("policy", "activate", "line", tmp_path / "one.pem", *PLANT, data=data)
    id_, crl = await listed(data, root, passphrase, tmp_path / "root.crl")
    await ok("policy", "revoke-issuer", "line", *PLANT, data=data)
    assert "leaves out" in await refused("ca", "publish-crl", id_, crl, *PLANT, data=data)


@pytest.mark.usefixtures("plant")
async def test_older_list_does_not_replace_a_newer_one(
    data: Path, root: Path, passphrase: tuple[object, ...], tmp_path: Path
) -> None:
    id_, older = await listed(data, root, passphrase, tmp_path / "older.crl")
    _, newer = await listed(data, root, passphrase, tmp_path / "newer.crl")
    await ok("ca", "publish-crl", id_, newer, *PLANT, data=data)
    assert "as high a number" in await refused("ca", "publish-crl", id_, older, *PLANT, data=data)


@pytest.mark.usefixtures("plant")
async def test_list_of_another_root_is_not_published(
    data: Path, root: Path, passphrase: tuple[object, ...], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    await ok("ca", "create-offline", other, *passphrase, data=tmp_path)
    id_, _ = await listed(data, root, passphrase, tmp_path / "mine.crl")
    asked = tmp_path / "other.json"
    own = offline_authority_id(x509.load_pem_x509_certificate((other / "root.pem").read_bytes()))
    asked.write_text(json.dumps({"authority": own, "number": "9999999999999", "revoked": []}))
    command = ("ca", "sign-offline-crl", other, asked, "--out", tmp_path / "other.crl", "--yes")
    await ok(*command, *passphrase, data=other)
    said = await refused("ca", "publish-crl", id_, tmp_path / "other.crl", *PLANT, data=data)
    assert "not of that CA" in said


@pytest.mark.usefixtures("plant")
async def test_root_signs_no_list_that_another_root_is_asked_for(
    data: Path, root: Path, passphrase: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "asked.json").write_text('{"authority": "x", "number": "1", "revoked": []}')
    said = await refused(
        *("ca", "sign-offline-crl", root, tmp_path / "asked.json", "--out", tmp_path / "crl"),
        *("--yes", *passphrase),
        data=root,
    )
    assert "for another root" in said


async def test_lists_of_a_root_whose_key_is_here_are_not_brought(
    fleet: Fleet, data: Path, tmp_path: Path
) -> None:
    [root_ca] = [a for a in await shown("ca", "list", data=data) if a["kind"] == "root"]
    (tmp_path / "crl").write_bytes((await fetched(fleet, root_ca["id"])).content)
    said = await refused("ca", "publish-crl", root_ca["id"], tmp_path / "crl", data=data)
    assert "key is here" in said


@pytest.mark.usefixtures("plant")
async def test_list_that_ends_soon_is_told(
    fleet: Fleet, data: Path, root: Path, passphrase: tuple[object, ...], tmp_path: Path
) -> None:
    id_, crl = await listed(data, root, passphrase, tmp_path / "root.crl", "--days", 20)
    await ok("ca", "publish-crl", id_, crl, *PLANT, data=data)
    await fleet.server.expiry.look()
    [soon] = fleet.server.expiry.soon
    assert (soon.what, soon.name) == ("revocation list", "plant")
