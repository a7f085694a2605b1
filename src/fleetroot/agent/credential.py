"""The device's operational certificate and its key: how they are asked for, and when again.

The key is made here and stays on the device: what leaves is a certificate signing request.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleetroot.agent.errors import UnusableAnswer
from fleetroot.clock import iso8601
from fleetroot.pki import (
    MAX_CERTIFICATES,
    KeyType,
    PrivateKey,
    generate_key,
    sha256_fingerprint,
    signature_hash,
)

SPREAD: Final = 0.05  # of the lifetime, to either side: how far apart a fleet renews


@dataclass(frozen=True, slots=True)
class Credential:
    """A key and the chain of its certificate, leaf first."""

    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        """The operational certificate."""
        return self.chain[0]

    @property
    def not_before(self) -> datetime:
        """When its time begins, in UTC."""
        return self.leaf.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """When its time ends, in UTC."""
        return self.leaf.not_valid_after_utc

    @property
    def lifetime(self) -> timedelta:
        """From its first moment to its last."""
        return self.not_after - self.not_before

    @property
    def serial_number(self) -> str:
        """Its serial number in hex, as operators see it."""
        return f"{self.leaf.serial_number:x}"

    @property
    def sha256(self) -> str:
        """Its SHA-256 fingerprint in hex."""
        return sha256_fingerprint(self.leaf).hex()

    def described(self) -> dict[str, str]:
        """Its dates and names, as folder, twin and command line show them."""
        return {
            "notBefore": iso8601(self.not_before),
            "notAfter": iso8601(self.not_after),
            "serialNumber": self.serial_number,
            "sha256": self.sha256,
        }

    def renew_at(self, fraction: float) -> datetime:
        """When `fraction` of the lifetime is over, moved by up to SPREAD of it to either side.

        The move is drawn from the fingerprint, which is as good as random among devices and the
        same after every restart of one.
        """
        drawn = int.from_bytes(sha256_fingerprint(self.leaf)[:8]) / 2**64
        return self.not_before + self.lifetime * (fraction + SPREAD * (2 * drawn - 1))


@dataclass(frozen=True, slots=True)
class CredentialRequest:
    """A new key and the request for its certificate (base64 DER)."""

    key: PrivateKey = field(repr=False)
    csr: str

    @classmethod
    def make(cls, key_type: KeyType, common_name: str) -> CredentialRequest:
        """Makes a key, and asks for a certificate in the name of the device."""
        key = generate_key(key_type)
        # A common name has up to 64 characters by RFC 5280 appendix A, a registration id up to 128.
        whole = len(common_name) <= 64
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=whole)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(name)
        csr = builder.sign(key, signature_hash(key))
        return cls(key, base64.b64encode(csr.public_bytes(Encoding.DER)).decode())

    def fulfilled(self, chain: Sequence[str]) -> Credential:
        """The credential that an answer makes of the request.

        Args:
            chain: base64 DER, leaf first.

        Raises:
            UnusableAnswer: it is no chain, or its leaf is for another key.
        """
        if not 1 <= len(chain) <= MAX_CERTIFICATES:
            raise UnusableAnswer(f"the server answered with {len(chain)} certificates")
        try:
            certificates = tuple(
                x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
                for text in chain
            )
            certified = certificates[0].public_key()
        except (binascii.Error, ValueError, TypeError) as error:
            raise UnusableAnswer("the server answered with no readable certificate") from error
        if certified != self.key.public_key():
            raise UnusableAnswer("the server answered with a certificate for another key")
        return Credential(self.key, certificates)
