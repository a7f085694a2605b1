"""The floors: the cryptography that a job cannot do without, and nothing else."""

from __future__ import annotations

import base64
import ssl
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from bench.measure import cpu_seconds
from fleetroot.gateway.tls import ServerIdentity, make_context

Curve: TypeAlias = ec.SECP256R1 | ec.SECP384R1
CURVES: Final[dict[str, Curve]] = {"P-384": ec.SECP384R1(), "P-256": ec.SECP256R1()}
HASHES: Final[dict[str, hashes.SHA256 | hashes.SHA384]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
}
HOST: Final = "localhost"
_RECORD: Final = 16 * 1024


def make_csr(common_name: str, key: ec.EllipticCurvePrivateKey) -> str:
    """A CSR, base64 of DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name))
    csr = builder.sign(key, HASHES[key.curve.name])
    return base64.b64encode(csr.public_bytes(Encoding.DER)).decode()


def to_pem(key: ec.EllipticCurvePrivateKey, *certificates: x509.Certificate) -> bytes:
    """A key and the certificates that go with it."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem + b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def client_context(trust: str, pem: bytes | None = None) -> ssl.SSLContext:
    """What a device dials with: the CAs (PEM) that it trusts, and its key and certificate."""
    context = ssl.create_default_context(cadata=trust)
    if pem is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


class ServerPki:
    """A CA and a server certificate for `HOST`, with the key types of Fleetroot's own."""

    def __init__(self) -> None:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        self.key = ec.generate_private_key(ec.SECP256R1())
        ca = _certify("bench server CA", ca_key.public_key(), "bench server CA", ca_key, ca=True)
        self.certificate = _certify(HOST, self.key.public_key(), "bench server CA", ca_key)
        self.trust = ca.public_bytes(Encoding.PEM).decode()


class CryptoFloor:
    """Verifying one CSR and signing once, with the library and curve of the server's own work.

    The CSR has the device's curve, the signature the issuing CA's.
    """

    def __init__(self, device: Curve, authority: Curve) -> None:
        self._request = base64.b64decode(make_csr("floor", ec.generate_private_key(device)))
        self._key = ec.generate_private_key(authority)
        self._algorithm = ec.ECDSA(HASHES[authority.name])
        self._to_be_signed = b"\0" * 700

    def once(self) -> None:
        """One certificate's worth."""
        assert x509.load_der_x509_csr(self._request).is_signature_valid
        self._key.sign(self._to_be_signed, self._algorithm)

    def seconds(self, times: int) -> float:
        """Its CPU, in seconds for one certificate."""
        return cpu_seconds(self.once, times)


def operational_pem(device: Curve) -> bytes:
    """What a device shows its hub: a key, and a leaf of a P-384 CA."""
    authority = ec.generate_private_key(ec.SECP384R1())
    key = ec.generate_private_key(device)
    return to_pem(key, _certify("device", key.public_key(), "bench issuing CA", authority))


class HandshakeFloor:
    """One bare handshake with TLS 1.3 over memory BIOs, with the settings, library and key types of
    the server's own; the client is the load generator's. Only the server's steps count.
    """

    def __init__(self, client: bytes | None) -> None:
        """`client`: the key and certificates (PEM) that the client shows; None: it shows none."""
        pki = ServerPki()
        self._server = make_context(
            ServerIdentity((pki.certificate,), pki.key), request_client_certificate=True
        )
        self._client = client_context(pki.trust, client)

    def once(self) -> float:
        """The CPU of the server's side, in seconds."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self._client.wrap_bio(to_client, to_server, server_hostname=HOST)
        used, done = 0.0, False
        server: SSL.Connection | None = None
        while not done:
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
            sent = to_server.read()
            start = time.process_time()
            if server is None:
                server = SSL.Connection(self._server)
                server.set_accept_state()
            server.bio_write(sent)
            try:
                server.do_handshake()
                done = True
            except SSL.WantReadError:
                pass
            answer = server.bio_read(_RECORD)
            used += time.process_time() - start
            to_client.write(answer)
        start = time.process_time()
        del server  # its end is part of what every connection costs
        return used + time.process_time() - start

    def seconds(self, times: int) -> float:
        """The CPU of the server's side, in seconds for one handshake."""
        return sum(self.once() for _ in range(times)) / times


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certify(
    subject: str,
    public_key: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(subject.replace(" ", "-"))])
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(names, critical=False)
        .sign(issuer_key, HASHES[issuer_key.curve.name])
    )
