"""OCSP requests, in DER."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetroot.pki import OcspRefused, parse_request
from fleetroot.pki.ocsp import OcspError, Responder, Standing
from fuzz.der import mutate

__all__ = ["MAX_BYTES", "check", "mutate", "seeds"]

MAX_BYTES = 1024
START = datetime(2030, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=1)
_SHA256 = hashes.SHA256()


def certificate(
    subject: str, serial: int, extensions: tuple[x509.ExtensionType, ...]
) -> x509.Certificate:
    """By the CA, the same each time."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
        .public_key(key(subject).public_key())
        .serial_number(serial)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=14))
    )
    for value in extensions:
        builder = builder.add_extension(value, critical=False)
    return builder.sign(key("ca"), _SHA256, ecdsa_deterministic=True)


def key(label: str) -> ec.EllipticCurvePrivateKey:
    """A key that is the same each time."""
    return ec.derive_private_key(int.from_bytes(label.encode()) + 1, ec.SECP256R1())


CA = certificate("ca", 1, (x509.BasicConstraints(True, None),))
LEAF = certificate("device-1", 2, ())
RESPONDER = Responder(
    certificate(
        "responder",
        3,
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), x509.OCSPNoCheck()),
    ),
    key("responder"),
)


def check(data: bytes) -> None:
    """A request is refused with an error of RFC 6960, or it is what the library reads in it, and
    the answer to it is about just that certificate and has just that nonce.
    """
    try:
        request = parse_request(data)
    except OcspRefused as refused:
        assert refused.error in OcspError
        return
    theirs = ocsp.load_der_ocsp_request(data)
    answer = RESPONDER.answer(request, Standing.GOOD, NOW, timedelta(days=1))
    ours = ocsp.load_der_ocsp_response(answer.der)
    for asked, answered in (
        (theirs.serial_number, ours.serial_number),
        (theirs.issuer_name_hash, ours.issuer_name_hash),
        (theirs.issuer_key_hash, ours.issuer_key_hash),
        (theirs.hash_algorithm.name, ours.hash_algorithm.name),
        (nonce_of(theirs.extensions), nonce_of(ours.extensions)),
    ):
        assert asked == answered
    assert request.serial == theirs.serial_number
    assert request.certificate_id in data


def nonce_of(extensions: x509.Extensions) -> bytes | None:
    """The nonce, if there is one."""
    for each in extensions:
        if isinstance(each.value, x509.OCSPNonce):
            return each.value.nonce
    return None


def seeds() -> dict[str, bytes]:
    """With every hash, with and without a nonce, and with an extension that is unknown."""
    asked = {}
    for algorithm in (hashes.SHA1(), hashes.SHA256(), hashes.SHA384()):
        builder = ocsp.OCSPRequestBuilder().add_certificate(LEAF, CA, algorithm)
        asked[algorithm.name] = builder
        asked[f"{algorithm.name}-nonce"] = builder.add_extension(x509.OCSPNonce(b"n" * 16), False)
    plain = ocsp.OCSPRequestBuilder().add_certificate(LEAF, CA, _SHA256)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.5.1"), b"\5\0")
    asked["unknown"] = plain.add_extension(unknown, critical=False)
    asked["critical"] = plain.add_extension(unknown, critical=True)
    return {name: each.build().public_bytes(Encoding.DER) for name, each in asked.items()}
