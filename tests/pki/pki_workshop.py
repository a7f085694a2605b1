"""Makes certificates and requests of every shape, right and wrong, for the tests of this room."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2030, 6, 15, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)

CLIENT_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVER_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")

DEFAULT: Any = object()


@cache
def key(label: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key of its own for every label."""
    return ec.generate_private_key(ec.SECP256R1())


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def usage(*, sign: bool = False, certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(sign, False, False, False, False, certificates, certificates, False, False)


def certificate(
    subject: str,
    issuer: str,
    *,
    public_key: Any = None,
    issuer_key: Any = None,
    ca: bool | None = False,
    path_length: int | None = None,
    key_usage: x509.KeyUsage | None = DEFAULT,
    purposes: x509.ExtendedKeyUsage | None = DEFAULT,
    identifiers: bool = True,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    not_before: datetime = NOW - DAY,
    not_after: datetime = NOW + YEAR,
    hash_algorithm: Any = DEFAULT,
) -> x509.Certificate:
    """A certificate that is in order but for what the arguments spoil.

    Keys are named after subject and issuer unless they are given.
    """
    issuer_key = issuer_key or key(issuer)
    public_key = public_key or key(subject).public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if key_usage is DEFAULT:
        key_usage = usage(sign=True, certificates=bool(ca))
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=True)
    if purposes is DEFAULT:
        purposes = None if ca else CLIENT_AUTH
    if purposes is not None:
        builder = builder.add_extension(purposes, critical=False)
    if identifiers:
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        ski = x509.SubjectKeyIdentifier.from_public_key(public_key)
        builder = builder.add_extension(aki, critical=False).add_extension(ski, critical=False)
    for value, critical in extra:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(
        issuer_key, hashes.SHA256() if hash_algorithm is DEFAULT else hash_algorithm
    )


def root(subject: str = "root", **spoil: Any) -> x509.Certificate:
    return certificate(subject, subject, ca=True, **spoil)


def ca(subject: str = "issuing", issuer: str = "root", **spoil: Any) -> x509.Certificate:
    return certificate(subject, issuer, ca=True, **spoil)


def leaf(subject: str = "device-1", issuer: str = "issuing", **spoil: Any) -> x509.Certificate:
    return certificate(subject, issuer, **spoil)


def request(
    common_name: str = "device-1",
    *,
    private_key: Any = None,
    hash_algorithm: Any = DEFAULT,
    subject: x509.Name | None = None,
) -> bytes:
    """A PKCS#10 request in DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        name(common_name) if subject is None else subject
    )
    return builder.sign(
        private_key or key(common_name),
        hashes.SHA256() if hash_algorithm is DEFAULT else hash_algorithm,
    ).public_bytes(Encoding.DER)


class OpenSSL:
    """The openssl command line, a second opinion on what this room makes and reads."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())

    def close(self) -> None:
        shutil.rmtree(self.folder)

    def run(self, command: str) -> bytes:
        done = subprocess.run(
            ["openssl", *command.split()],
            cwd=self.folder,
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout

    def write(self, file_name: str, *certificates: x509.Certificate) -> str:
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
        (self.folder / file_name).write_bytes(pem)
        return file_name
