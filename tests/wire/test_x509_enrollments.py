"""The provisioning service API about enrollments whose devices attest by certificate."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fleet import Fleet
from fleetroot.clock import iso8601
from manufacturer import DAY, Ca, group, individual, pem, rsa_key, self_signed
from openssl_ca import OpensslCa

ENROLLMENT, GROUP = "/enrollments/dev-1", "/enrollmentGroups/factory"


async def put(fleet: Fleet, path: str, attestation: dict[str, Any], **how: Any) -> httpx.Response:
    return await fleet.http.put(path, json={"attestation": attestation}, **how)


def x509_of(**body: Any) -> dict[str, Any]:
    return {"type": "x509", "x509": body}


async def refused(fleet: Fleet, path: str, attestation: dict[str, Any], *words: str) -> None:
    """It must be refused with 400 in these words, and nothing be there."""
    answer = await put(fleet, path, attestation)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 400004), answer.text
    for word in words:
        assert word in answer.json()["message"]
    assert (await fleet.http.get(path)).status_code == 404


@pytest.mark.parametrize("path", [ENROLLMENT, GROUP])
async def test_certificates_are_shown_with_what_they_say(fleet: Fleet, path: str) -> None:
    ca, device = Ca.root(), self_signed("dev-1")
    attestation = group(ca, Ca.root("Next")) if path == GROUP else individual(device)
    written = (await put(fleet, path, attestation)).json()
    assert (await fleet.http.get(path)).json() == written
    certificate = ca.certificate if path == GROUP else device.leaf
    name = "signingCertificates" if path == GROUP else "clientCertificates"
    shown = written["attestation"]["x509"][name]
    assert shown["primary"]["info"] == {
        "subjectName": f"CN={'Root' if path == GROUP else 'dev-1'}, O=Manufacturer",
        "issuerName": f"CN={'Root' if path == GROUP else 'dev-1'}, O=Manufacturer",
        "sha1Thumbprint": certificate.fingerprint(hashes.SHA1()).hex().upper(),
        "sha256Thumbprint": certificate.fingerprint(hashes.SHA256()).hex().upper(),
        "notBeforeUtc": iso8601(certificate.not_valid_before_utc),
        "notAfterUtc": iso8601(certificate.not_valid_after_utc),
        "serialNumber": certificate.serial_number.to_bytes(
            (certificate.serial_number.bit_length() + 7) // 8, "big"
        )
        .hex()
        .upper(),
        "version": 3,
    }
    assert shown.keys() == ({"primary", "secondary"} if path == GROUP else {"primary"})


async def test_what_was_read_can_be_written_back(fleet: Fleet) -> None:
    read = (await put(fleet, GROUP, group(Ca.root()))).json()
    again = await fleet.http.put(GROUP, json=read, headers={"if-match": read["etag"]})
    assert again.status_code == 200
    assert again.json()["attestation"] == read["attestation"]


async def test_certificate_may_be_pem_or_base64_of_der_or_of_pem(fleet: Fleet) -> None:
    ca = Ca.root()
    shown = []
    for text in (
        ca.pem,
        base64.b64encode(ca.pem.encode()).decode(),
        base64.b64encode(ca.certificate.public_bytes(Encoding.DER)).decode(),
    ):
        attestation = x509_of(signingCertificates={"primary": {"certificate": text}})
        answer = await put(fleet, GROUP, attestation, headers={"if-match": "*"} if shown else {})
        shown.append(answer.json()["attestation"])
    assert shown[0] == shown[1] == shown[2]


async def test_date_of_a_certificate_is_looked_at_when_a_device_comes(fleet: Fleet) -> None:
    over = individual(self_signed("dev-1", end=-DAY / 2), self_signed("dev-1", start=DAY))
    assert (await put(fleet, ENROLLMENT, over)).status_code == 200
    assert (await put(fleet, GROUP, group(Ca.root(end=-DAY / 2)))).status_code == 200


@pytest.mark.parametrize(
    ("attestation", "word"),
    [
        (individual(self_signed("dev-1", key=rsa_key(1024))), "key that is too weak"),
        (group(Ca.root()), "clientCertificates"),
        (x509_of(), "clientCertificates"),
        (x509_of(clientCertificates={}), "is empty"),
        (x509_of(clientCertificates={"primary": {"certificate": "x"}}), "neither PEM nor base64"),
        (
            x509_of(clientCertificates={"primary": {"certificate": "eA=="}}),
            "neither PEM nor base64",
        ),
        (
            x509_of(
                clientCertificates={
                    "primary": {"certificate": pem(self_signed("a")) + pem(self_signed("b"))}
                }
            ),
            "more than one",
        ),
        (x509_of(caReferences={"primary": "factory"}), "clientCertificates"),
    ],
)
async def test_certificates_that_cannot_be_a_devices_are_refused(
    fleet: Fleet, attestation: dict[str, Any], word: str
) -> None:
    await refused(fleet, ENROLLMENT, attestation, word)


@pytest.mark.parametrize(
    ("attestation", "word"),
    [
        (group(Ca.root(key=rsa_key(1024))), "key that is too weak"),
        (group(Ca.root(ca=False, certificates=True)), "not a CA's"),
        (group(Ca.root(certificates=False)), "keyCertSign"),
        (individual(self_signed("dev-1")), "signingCertificates"),
        (x509_of(caReferences={"primary": "factory"}), "factory"),
        (x509_of(caReferences={}), "is empty"),
    ],
)
async def test_certificates_that_cannot_be_a_groups_are_refused(
    fleet: Fleet, attestation: dict[str, Any], word: str
) -> None:
    await refused(fleet, GROUP, attestation, word)


async def test_certificates_signed_with_sha1_are_refused(fleet: Fleet, tmp_path: Path) -> None:
    root = OpensslCa.root(tmp_path / "ca", digest="sha1")
    shown = {"primary": {"certificate": root.pem}}
    await refused(fleet, GROUP, x509_of(signingCertificates=shown), "primary", "algorithm")
    await refused(fleet, ENROLLMENT, x509_of(clientCertificates=shown), "primary", "algorithm")


async def test_ca_of_this_installation_is_no_groups(fleet: Fleet) -> None:
    """What it signed is revoked by the inventory, which nobody would ask here."""
    held = await fleet.provision("dev-9")
    for der in held.chain[1:]:
        shown = {"secondary": {"certificate": base64.b64encode(der).decode()}}
        await refused(
            fleet, GROUP, x509_of(signingCertificates=shown), "secondary", "this installation"
        )


async def test_reference_to_an_uploaded_ca_is_shown_by_its_name(fleet: Fleet) -> None:
    await fleet.http.put(
        "/fleetroot/provisioning-services/default/certificates/Factory",
        json={"certificate": Ca.root().pem},
    )
    answer = await put(fleet, GROUP, x509_of(caReferences={"primary": "factory"}))
    assert answer.json()["attestation"]["x509"] == {"caReferences": {"primary": "factory"}}
