"""A root whose key is never on the server: `fleetroot ca create-offline` and `sign-offline`."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from test_authority_commands import ok, refused, shown, status

from fleet import Fleet

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
