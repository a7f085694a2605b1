"""A certificate in the words in which provisioning services tell of one.

Source: Azure DPS REST API, "X509CertificateInfo".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What a certificate says.

    Attributes:
        subject, issuer: RFC 4514, the most specific part first, with a blank behind each comma.
        sha1, sha256: over its DER, in upper-case hexadecimal; SHA-1 names it and proves nothing.
        serial: in upper-case hexadecimal, whole octets.
        version: 1 or 3.
    """

    subject: str
    issuer: str
    sha1: str
    sha256: str
    not_before: datetime
    not_after: datetime
    serial: str
    version: int


def certificate_info(certificate: x509.Certificate) -> CertificateInfo:
    """Describes a certificate of `load_chain` or `read_certificate_text`."""
    serial = format(certificate.serial_number, "X")
    return CertificateInfo(
        subject=_text(certificate.subject),
        issuer=_text(certificate.issuer),
        sha1=certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303
        sha256=certificate.fingerprint(hashes.SHA256()).hex().upper(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        serial=serial.rjust(len(serial) + len(serial) % 2, "0"),
        version=certificate.version.value + 1,
    )


def _text(name: x509.Name) -> str:
    return ", ".join(part.rfc4514_string() for part in reversed(name.rdns))
