"""Certificate signing requests that provisioning refuses, leaving nothing behind."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleet import Fleet, device_csr


@pytest.fixture
async def untouched(fleet: Fleet) -> AsyncIterator[Fleet]:
    """A fleet on which the test must leave no trace."""
    before = fleet.traces()
    yield fleet
    assert fleet.traces() == before


def csr_of(key: CertificateIssuerPrivateKeyTypes, *names: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    hash_ = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA384()
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hash_)
    return request.public_bytes(Encoding.DER)


def encoded(der: bytes) -> str:
    return base64.b64encode(der).decode()


def good() -> bytes:
    return base64.b64decode(device_csr("dev-1")[1])


def with_broken_signature() -> str:
    der = bytearray(good())
    der[-3] ^= 1
    return encoded(bytes(der))


def in_pem() -> str:
    return x509.load_der_x509_csr(good()).public_bytes(Encoding.PEM).decode()


BAD_CSRS: dict[str, Callable[[], Any]] = {
    "not base64": lambda: "!!!",
    "base64 with line breaks": lambda: base64.encodebytes(good()).decode(),
    "base64 without padding": lambda: encoded(good() + b"\0" * (-len(good()) % 3 + 1)).rstrip("="),
    "PEM": in_pem,
    "not PKCS#10": lambda: encoded(b"no certificate signing request"),
    "bytes behind it": lambda: encoded(good() + b"\0"),
    "too long": lambda: "A" * 8196,
    "empty": lambda: "",
    "a number": lambda: 5,
    "an array": lambda: [device_csr("dev-1")[1]],
    "broken signature": with_broken_signature,
    "CN of another device": lambda: device_csr("dev-2")[1],
    "CN in another case": lambda: device_csr("DEV-1")[1],
    "no CN": lambda: encoded(csr_of(ec.generate_private_key(ec.SECP384R1()))),
    "two CNs": lambda: encoded(csr_of(ec.generate_private_key(ec.SECP384R1()), "dev-1", "dev-1")),
    "P-224": lambda: encoded(csr_of(ec.generate_private_key(ec.SECP224R1()), "dev-1")),
    "secp256k1": lambda: encoded(csr_of(ec.generate_private_key(ec.SECP256K1()), "dev-1")),
    "RSA-2048": lambda: encoded(csr_of(rsa.generate_private_key(65537, 2048), "dev-1")),
    "Ed25519": lambda: encoded(csr_of(ed25519.Ed25519PrivateKey.generate(), "dev-1")),
}


@pytest.mark.parametrize("make", BAD_CSRS.values(), ids=BAD_CSRS)
async def test_bad_csr_is_an_invalid_argument_that_names_the_field(
    untouched: Fleet, make: Callable[[], Any]
) -> None:
    answer = await untouched.register("dev-1", {"csr": make()})
    assert (answer.status, answer.error_code) == (400, 400004)
    assert answer.body["message"].startswith("csr: ")


async def test_bad_csr_of_the_preview_of_2021_is_named_by_its_field(untouched: Fleet) -> None:
    answer = await untouched.register(
        "dev-1", {"clientCertificateCsr": 5}, version="2021-11-01-preview"
    )
    assert (answer.status, answer.error_code) == (400, 400004)
    assert answer.body["message"].startswith("clientCertificateCsr: ")


async def test_csr_without_a_policy_is_refused(fleet: Fleet) -> None:
    primary, _ = await fleet.enroll("dev-1")
    before = fleet.traces()
    token = fleet.provisioning_token("dev-1", primary)
    answer = await fleet.register("dev-1", {"csr": device_csr("dev-1")[1]}, token=token)
    assert (answer.status, answer.error_code) == (400, 400004)
    assert fleet.traces() == before


async def test_bad_csr_leaves_a_registered_device_as_it_was(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    before = fleet.traces()
    answer = await fleet.register("dev-1", {"csr": device_csr("dev-2")[1]})
    assert answer.status == 400
    assert fleet.traces() == before
    async with await fleet.connect("dev-1", certified):
        pass
