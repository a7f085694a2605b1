"""Certificates with which nobody provisions, each by the reason that the operator is told."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from onboardings import WIRES, over_every_wire, register
from websockets.exceptions import InvalidMessage

from fleet import Certified, Closed, Fleet
from manufacturer import (
    DAY,
    Ca,
    certificate,
    ders,
    group,
    individual,
    rsa_key,
    self_signed,
)
from openssl_ca import OpensslCa, openssl

SERVER_AUTH = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
OTHER_MAIL = x509.NameConstraints([x509.RFC822Name("example.com")], None)
OTHER_HOSTS = x509.NameConstraints([x509.DNSName("example.com")], None)
MAIL = x509.SubjectAlternativeName([x509.RFC822Name("dev-1@other.example")])
HOST = x509.SubjectAlternativeName([x509.DNSName("dev-1.other.example")])
A_DIRECTORY = x509.NameConstraints([x509.DirectoryName(x509.Name([]))], None)


async def enroll(fleet: Fleet, path: str, attestation: dict[str, Any]) -> None:
    answer = await fleet.http.put(f"/{path}", json={"attestation": attestation})
    assert answer.status_code == 200, answer.text


async def details(fleet: Fleet, registration_id: str = "dev-1") -> list[str]:
    """Why it was refused, in the operator's words."""
    answer = await fleet.http.get(f"/fleetroot/registrations/{registration_id}/explanation")
    return [
        f"{each['reason']}: {last['detail']}" if last["detail"] else each["reason"]
        for each in answer.json()["refusals"]
        for last in each["last"]
    ]


async def refused(fleet: Fleet, wire: str, device: Certified, reason: str) -> None:
    """Registers; it must be refused for that reason, and leave nothing."""
    before = fleet.traces()
    outcome = await register(fleet, wire, "dev-1", device)
    assert (outcome.status, outcome.body["errorCode"]) == (401, 401002)
    assert outcome.body["message"] == "Unauthorized"  # and no word of why
    assert fleet.traces() == before
    assert reason in "; ".join(await details(fleet))


def without(device: Certified, place: int) -> Certified:
    return replace(device, chain=(*device.chain[:place], *device.chain[place + 1 :]))


def named_by_a_stranger(root: Ca) -> Certified:
    """A chain that spells the issuer's name and has another key's signature."""
    return Ca.root("Root").device("dev-1")


def self_signed_in_a_chain(root: Ca) -> Certified:
    device = self_signed("dev-1")
    return replace(device, chain=(*device.chain, *ders(root.certificate)))


def by_a_device(root: Ca) -> Certified:
    """A device of the group that signs as if it were a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    device = Ca(certificate("dev-2", key, root), key, (root,))
    return device.device("dev-1")


BROKEN: dict[str, tuple[Callable[[Ca], Certified], str]] = {
    "of a stranger's CA": (lambda root: Ca.root("Other").device("dev-1"), "untrusted"),
    "of a CA of the same name": (named_by_a_stranger, "untrusted"),
    "self-signed": (lambda root: self_signed("dev-1", ca=False), "client_auth_missing"),
    "self-signed, with the group's CA behind it": (self_signed_in_a_chain, "leaf_is_ca"),
    "missing link": (lambda root: without(root.below().below("B").device("dev-1"), 2), "untrusted"),
    "missing issuer": (
        lambda root: without(root.below().below("B").device("dev-1"), 1),
        "untrusted",
    ),
    "expired leaf": (lambda root: root.device("dev-1", end=-DAY / 2), "expired"),
    "leaf of tomorrow": (lambda root: root.device("dev-1", start=DAY), "not_yet_valid"),
    "expired intermediate": (lambda root: root.below(end=-DAY / 2).device("dev-1"), "expired"),
    "intermediate that is no CA": (by_a_device, "not_a_ca"),
    "intermediate without keyCertSign": (
        lambda root: root.below(certificates=False).device("dev-1"),
        "key_cert_sign_missing",
    ),
    "path length": (
        lambda root: root.below(path_length=0).below("Beneath").device("dev-1"),
        "path_length",
    ),
    "name constraint on mail": (
        lambda root: root.below(extra=[(OTHER_MAIL, True)]).device("dev-1", extra=[(MAIL, False)]),
        "name_constraint",
    ),
    "name constraint on hosts": (
        lambda root: root.below(extra=[(OTHER_HOSTS, True)]).device("dev-1", extra=[(HOST, False)]),
        "name_constraint",
    ),
    "name constraint that nobody keeps": (
        lambda root: root.below(extra=[(A_DIRECTORY, True)]).device("dev-1"),
        "name_constraint",
    ),
    "weak RSA key": (lambda root: root.device("dev-1", key=rsa_key(1024)), "weak_key"),
    "weak RSA key of an intermediate": (
        lambda root: root.below(key=rsa_key(1024)).device("dev-1"),
        "weak_key",
    ),
    "for servers": (lambda root: root.device("dev-1", purposes=SERVER_AUTH), "client_auth_missing"),
    "critical extension that nobody knows": (
        lambda root: root.device("dev-1", extra=[(UNKNOWN, True)]),
        "unknown_critical_extension",
    ),
    "a CA's own certificate": (
        lambda root: root.device("dev-1", ca=True),
        "leaf_is_ca",
    ),
    "six intermediates": (lambda root: deep(root, 6).device("dev-1"), "too_many_certificates"),
    "of another device": (lambda root: root.device("dev-2"), "another registration id"),
}


def deep(root: Ca, length: int) -> Ca:
    for number in range(length):
        root = root.below(f"CA {number}")
    return root


@pytest.mark.parametrize("name", BROKEN)
async def test_chain_that_breaks_a_rule_is_refused_over_every_wire(fleet: Fleet, name: str) -> None:
    broken, reason = BROKEN[name]
    root = Ca.root()
    await enroll(fleet, "enrollmentGroups/factory", group(root))
    device = broken(root)
    for wire in WIRES:
        await refused(fleet, wire, device, reason)
    # And the same CA's good device is not.
    assert (await register(fleet, "mqtt", "dev-1", root.device("dev-1"))).status == 200


@over_every_wire
async def test_intermediates_in_any_order_are_accepted(fleet: Fleet, wire: str) -> None:
    last = Ca.line(4)
    await enroll(fleet, "enrollmentGroups/factory", group(last.top))
    device = last.device("dev-1", send_root=True)
    leaf, *above = device.chain
    shuffled = replace(device, chain=(leaf, *reversed(above)))
    assert (await register(fleet, wire, "dev-1", shuffled)).status == 200


@over_every_wire
async def test_hundred_certificates_do_not_get_through_the_handshake(
    fleet: Fleet, wire: str
) -> None:
    root = Ca.root()
    await enroll(fleet, "enrollmentGroups/factory", group(root))
    device = deep(root, 99).device("dev-1")
    assert len(device.chain) == 100
    with pytest.raises((Closed, httpx.HTTPError, OSError, EOFError, InvalidMessage)):
        await register(fleet, wire, "dev-1", device)
    assert fleet.rows("registrations") == []
    assert (await register(fleet, wire, "dev-1", root.device("dev-1"))).status == 200


# --- by `openssl`, which signs with what the library refuses to sign with


def openssl_device(ca: OpensslCa, digest: str, *, self_signed: bool = False) -> Certified:
    """A device's RSA key with its certificate, by that digest."""
    key, made = ca.folder / "device.key", ca.folder / "device.pem"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
    subject = ("-new", "-key", key, "-subj", "/CN=dev-1", "-config", "/dev/null")
    if self_signed:
        openssl("req", "-x509", *subject, f"-{digest}", "-days", 30, "-out", made)
    else:
        leaf = {
            "basicConstraints": "",
            "keyUsage": "digitalSignature",
            "subjectKeyIdentifier": "hash",
        }
        made.write_text(ca.sign(openssl("req", *subject), digest=digest, **leaf))
    private = load_pem_private_key(key.read_bytes(), None)
    return Certified(ders(x509.load_pem_x509_certificate(made.read_bytes())), private)  # type: ignore[arg-type]


@over_every_wire
async def test_chain_of_openssl_is_refused_by_sha1_and_accepted_by_sha256(
    fleet: Fleet, wire: str, tmp_path: Path
) -> None:
    root = OpensslCa.root(tmp_path / "ca")
    signing = {"signingCertificates": {"primary": {"certificate": root.pem}}}
    await enroll(fleet, "enrollmentGroups/factory", {"type": "x509", "x509": signing})
    await refused(fleet, wire, openssl_device(root, "sha1"), "weak_signature")
    good = openssl_device(root, "sha256")
    assert (await register(fleet, wire, "dev-1", good)).status == 200


async def test_self_signed_certificate_of_openssl_is_accepted(fleet: Fleet, tmp_path: Path) -> None:
    root = OpensslCa.root(tmp_path / "ca")
    device = openssl_device(root, "sha256", self_signed=True)
    await enroll(fleet, "enrollments/dev-1", individual(device))
    assert (await register(fleet, "mqtt", "dev-1", device)).status == 200


# --- revoked by their CA


@pytest.mark.parametrize("place", ["device", "intermediate"])
async def test_certificate_on_its_cas_list_is_refused(
    fleet: Fleet, tmp_path: Path, place: str
) -> None:
    root = OpensslCa.root(tmp_path / "ca")
    issuing = root.below("Issuing")
    signing = {"signingCertificates": {"primary": {"certificate": issuing.pem}}}
    await enroll(fleet, "enrollmentGroups/factory", {"type": "x509", "x509": signing})
    device = openssl_device(issuing, "sha256")
    await enroll(fleet, "enrollments/dev-2", individual(device))
    assert (await register(fleet, "mqtt", "dev-1", device)).status == 200
    leaf = (issuing.folder / "device.pem").read_text()
    by, revoked = (issuing, leaf) if place == "device" else (root, issuing.pem)
    answer = await fleet.http.post(
        "/fleetroot/crls/third-party",
        json={
            "crl": base64.b64encode(by.crl(revoked)).decode(),
            "caCertificate": base64.b64encode(by.pem.encode()).decode(),
        },
    )
    assert answer.status_code == 200, answer.text
    await refused(fleet, "mqtt", device, "revocation list")


async def test_enrolled_certificate_on_its_cas_list_is_refused(
    fleet: Fleet, tmp_path: Path
) -> None:
    root = OpensslCa.root(tmp_path / "ca")
    device = openssl_device(root, "sha256")
    await enroll(fleet, "enrollments/dev-1", individual(device))
    leaf = (root.folder / "device.pem").read_text()
    await fleet.http.post(
        "/fleetroot/crls/third-party",
        json={
            "crl": base64.b64encode(root.crl(leaf)).decode(),
            "caCertificate": base64.b64encode(root.pem.encode()).decode(),
        },
    )
    await refused(fleet, "mqtt", device, "revocation list")
