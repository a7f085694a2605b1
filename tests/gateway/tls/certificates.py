"""Certificates for tests: a small hierarchy, made once, and whatever odd leaf a test wants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleetroot.gateway.tls import ServerIdentity

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Credential:
    """A certificate, its key, and the issuers that are shown with it."""

    certificate: x509.Certificate
    key: Key
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        return tuple(each.public_bytes(Encoding.DER) for each in (self.certificate, *self.issuers))

    def write(self, folder: Path) -> tuple[Path, Path]:
        """PEM files: the chain and the key."""
        chain, key = folder / "chain.pem", folder / "key.pem"
        certificates = (self.certificate, *self.issuers)
        chain.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))
        pkcs8 = PrivateFormat.PKCS8
        key.write_bytes(self.key.private_bytes(Encoding.PEM, pkcs8, NoEncryption()))
        return chain, key

    def identity(self) -> ServerIdentity:
        return ServerIdentity((self.certificate, *self.issuers), self.key)


def issue(
    name: str,
    issuer: Credential | None = None,
    *,
    key: Key | None = None,
    is_ca: bool = False,
    expired: bool = False,
    hosts: tuple[str, ...] = (),
) -> Credential:
    """A certificate signed by `issuer`, or by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    ends = datetime.now(UTC) + timedelta(days=-1 if expired else 30)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=60))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signer = issuer.key if issuer else key
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    if hosts:
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in hosts]
        names.append(x509.IPAddress(ip_address("127.0.0.1")))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    above = (issuer.certificate, *issuer.issuers) if issuer and issuer.issuers else ()
    if issuer and not issuer.issuers and issuer.certificate.issuer != issuer.certificate.subject:
        above = (issuer.certificate,)
    return Credential(certificate, key, above)


@cache
def server_ca() -> Credential:
    return issue("server CA", is_ca=True)


@cache
def server() -> Credential:
    return issue("localhost", server_ca(), hosts=("localhost", "hub.example"))


@cache
def device() -> Credential:
    """A device's P-384 leaf under an issuing CA, which is shown, under a root, which is not."""
    root = issue("device root", is_ca=True, key=ec.generate_private_key(ec.SECP384R1()))
    issuing = issue("issuing", root, is_ca=True, key=ec.generate_private_key(ec.SECP384R1()))
    return issue("device-1", issuing, key=ec.generate_private_key(ec.SECP384R1()))
