"""A manufacturer's CAs, and the certificates that its devices come with, right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet import Certified

DAY = timedelta(days=1)
CLIENT_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """One for all tests: they are slow to make."""
    return rsa.generate_private_key(65537, bits)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Manufacturer"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def certificate(
    common_name: str,
    key: PrivateKey,
    issuer: Ca | None,
    *,
    ca: bool = False,
    path_length: int | None = None,
    certificates: bool | None = None,
    purposes: x509.ExtendedKeyUsage | None = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    digest: Any = None,
    start: timedelta = -DAY,
    end: timedelta = 365 * DAY,
    now: datetime | None = None,
) -> x509.Certificate:
    """A certificate, self-signed without an issuer. `certificates` is keyUsage keyCertSign; `start`
    and `end` are counted from now.
    """
    now = now or datetime.now(UTC)
    by = issuer.key if issuer else key
    signs = ca if certificates is None else certificates
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(issuer.certificate.subject if issuer else _name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, signs, signs, False, False),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
    )
    if purposes is not None:
        builder = builder.add_extension(purposes, critical=False)
    for value, critical in extra:
        builder = builder.add_extension(value, critical)
    return builder.sign(by, digest or hashes.SHA256())


@dataclass(frozen=True)
class Ca:
    """A CA, and the CAs above it, the nearest first."""

    certificate: x509.Certificate
    key: PrivateKey
    above: tuple[Self, ...] = ()

    @classmethod
    def root(cls, name: str = "Root", **spoil: Any) -> Self:
        key = spoil.pop("key", None) or ec.generate_private_key(ec.SECP256R1())
        return cls(certificate(name, key, None, **{"ca": True} | spoil), key)

    @classmethod
    def line(cls, length: int, **spoil: Any) -> Self:
        """The last of that many CAs, each beneath the one before."""
        found = cls.root(**spoil)
        for number in range(1, length):
            found = found.below(f"CA {number}")
        return found

    def below(self, name: str = "Issuing", **spoil: Any) -> Self:
        key = spoil.pop("key", None) or ec.generate_private_key(ec.SECP256R1())
        made = certificate(name, key, self, **{"ca": True} | spoil)
        return type(self)(made, key, (self, *self.above))

    @property
    def pem(self) -> str:
        return pem(self.certificate)

    @property
    def top(self) -> Ca:
        return self.above[-1] if self.above else self

    def crl(self, *serials: int, now: datetime) -> bytes:
        """A list of these, DER."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(now + DAY)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for serial in serials:
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(one.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def device(
        self,
        common_name: str,
        *,
        send_root: bool = False,
        key: PrivateKey | None = None,
        **spoil: Any,
    ) -> Certified:
        """A device's certificate with the CAs above it, the root left out."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        leaf = certificate(common_name, key, self, **{"purposes": CLIENT_AUTH} | spoil)
        above = [each.certificate for each in (self, *self.above)]
        return Certified(ders(leaf, *(above if send_root else above[:-1])), key)


def self_signed(common_name: str, *, key: PrivateKey | None = None, **spoil: Any) -> Certified:
    """What `openssl req -x509` makes for a device: a certificate of its own, and a CA's at that."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    return Certified(ders(certificate(common_name, key, None, **{"ca": True} | spoil)), key)


def pem(of: x509.Certificate | Certified) -> str:
    leaf = of.leaf if isinstance(of, Certified) else of
    return leaf.public_bytes(Encoding.PEM).decode()


def ders(*certificates: x509.Certificate) -> tuple[bytes, ...]:
    return tuple(each.public_bytes(Encoding.DER) for each in certificates)


def individual(primary: Certified, secondary: Certified | None = None) -> dict[str, Any]:
    """The attestation of an individual enrollment, as it is sent."""
    pair = {"primary": primary, "secondary": secondary}
    shown = {which: {"certificate": pem(each)} for which, each in pair.items() if each}
    return {"type": "x509", "x509": {"clientCertificates": shown}}


def group(primary: Ca, secondary: Ca | None = None) -> dict[str, Any]:
    """The attestation of an enrollment group, as it is sent."""
    pair = {"primary": primary, "secondary": secondary}
    shown = {which: {"certificate": each.pem} for which, each in pair.items() if each}
    return {"type": "x509", "x509": {"signingCertificates": shown}}
