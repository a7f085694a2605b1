"""A manufacturer of devices: a root, an intermediate below it, and what its devices come with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class _Ca(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Manufacturer:
    """CAs on P-256, as most are."""

    def __init__(self) -> None:
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        self.root = _certificate("Root", keys[0], None, is_ca=True)
        self.intermediate = _certificate(
            "Intermediate", keys[1], _Ca(self.root, keys[0]), is_ca=True
        )
        self._signer = _Ca(self.intermediate, keys[1])

    def device(self, name: str, key: ec.EllipticCurvePrivateKey) -> tuple[x509.Certificate, ...]:
        """A device's certificate and the intermediate's."""
        return _certificate(name, key, self._signer), self.intermediate


def self_signed(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A device's certificate of its own."""
    return _certificate(name, key, None)


def _certificate(
    common_name: str, key: ec.EllipticCurvePrivateKey, issuer: _Ca | None, *, is_ca: bool = False
) -> x509.Certificate:
    now = datetime.now(UTC)
    by = key if issuer is None else issuer.key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(True, False, False, False, False, is_ca, is_ca, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
    )
    if not is_ca:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(by, SHA256())
