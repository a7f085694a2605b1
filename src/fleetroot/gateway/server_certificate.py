"""The server's certificate: what every TLS port shows, and the CA of its own that clients trust.

The CA signs server certificates for this server's names and nothing else (name-constrained), and is
never an anchor of a hub. Its key is sealed in the database; the certificate's key lives in memory
and is new at every start. A certificate of the operator's own is read from its files instead.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from fleetroot.custody import KeyCustody, RecordName
from fleetroot.errors import InvalidArgument
from fleetroot.gateway.tls import ServerIdentity
from fleetroot.pki import (
    KeyType,
    ServerCaProfile,
    ServerProfile,
    generate_key,
    server_ca_permits,
    to_der,
    to_pem,
)
from fleetroot.storage import Store, Transaction, installation

_CA_VALIDITY: Final = timedelta(days=20 * 365)
_VALIDITY: Final = timedelta(days=90)
_CA_CERTIFICATE: Final = "server-ca-certificate"
_CA_KEY: Final = "server-ca-key"
_CA_KEY_NAME: Final = RecordName(kind="server-ca-key", namespace="", id="server-ca", version=1)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What the ports show, and what clients are to trust (PEM)."""

    identity: ServerIdentity
    trust: str
    renew_at: datetime | None  # None: it is the operator's to renew


def host_names(hostname: str, bind: str, *services: str) -> list[str]:
    """The names and addresses by which clients may dial this server: its own, and those of its
    hubs and provisioning services.
    """
    hosts = [hostname, *services, "localhost"]
    try:
        address = ip_address(bind)
    except ValueError:
        hosts.append(bind)
    else:
        hosts += ["127.0.0.1", "::1"] if address.is_unspecified else [bind]
    return list(dict.fromkeys(hosts))


def read_operators(certificate: Path, key: Path) -> ServerCertificate:
    """A certificate (PEM, its chain behind it) and key (PEM, not encrypted) of the operator's.

    Raises:
        InvalidArgument: a file cannot be read, or is not what it should be.
    """
    try:
        chain = tuple(x509.load_pem_x509_certificates(certificate.read_bytes()))
        private_key = load_pem_private_key(key.read_bytes(), None)
        if not isinstance(
            private_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
        ):
            raise InvalidArgument("the server key must be EC, RSA or Ed25519")
        identity = ServerIdentity(chain, private_key)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidArgument(
            f"the server certificate or its key cannot be used: {error}"
        ) from error
    return ServerCertificate(identity, to_pem(chain[-1:]), None)


async def issue(
    store: Store, custody: KeyCustody, hosts: list[str], now: datetime
) -> ServerCertificate:
    """A new certificate of the server CA, which is made if there is none, or if the one there is
    may not certify all of `hosts`.
    """
    ca, sealed_key = await _server_ca(store, custody, hosts, now)
    key = generate_key(KeyType.EC_P256)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101
    certificate = ServerProfile(issuer=ca, validity=_VALIDITY, hosts=hosts).issue(
        custody.load(_CA_KEY_NAME, sealed_key), key.public_key(), now
    )
    lifetime = certificate.not_valid_after_utc - now
    return ServerCertificate(
        ServerIdentity((certificate,), key), to_pem([ca]), now + lifetime * 2 / 3
    )


async def _server_ca(
    store: Store, custody: KeyCustody, hosts: list[str], now: datetime
) -> tuple[x509.Certificate, bytes]:
    there, sealed_key = await store.read(
        lambda tx: (installation.get(tx, _CA_CERTIFICATE), installation.get(tx, _CA_KEY))
    )
    if there is not None and sealed_key is not None:
        ca = x509.load_der_x509_certificate(there)
        if server_ca_permits(ca, hosts) and ca.not_valid_after_utc > now + _VALIDITY:
            return ca, sealed_key
    sealed = custody.generate(KeyType.EC_P256, _CA_KEY_NAME)
    name = f"Fleetroot server CA {os.urandom(4).hex()}"
    made = ServerCaProfile(
        subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        validity=_CA_VALIDITY,
        hosts=hosts,
    ).self_sign(custody.load(_CA_KEY_NAME, sealed.sealed), now)

    def unit(tx: Transaction) -> None:
        installation.put(tx, _CA_CERTIFICATE, to_der(made))
        installation.put(tx, _CA_KEY, sealed.sealed)

    await store.write(unit)
    return made, sealed.sealed
