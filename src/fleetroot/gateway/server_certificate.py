"""The server's certificate: what every TLS port shows, and the CA of its own that clients trust.

The CA signs server certificates for this server's names and nothing else (name-constrained), and is
never an anchor of a hub. Its key is sealed in the database; the certificate's key lives in memory
and is new at every start. A certificate of the operator's own is read from its files instead, and
again whenever they change.

A CA is for ever, because devices in the field trust it. It permits what is beneath its names and
all of the loopback network; where a new name needs another CA, the CAs before are kept, are
published beside it, and sign again as soon as their names suffice.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import pairwise
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from fleetroot.custody import KeyCustody, RecordName
from fleetroot.errors import InvalidArgument
from fleetroot.gateway.tls import ServerIdentity, make_context
from fleetroot.pki import (
    BACKDATE,
    KeyType,
    ServerCaProfile,
    ServerProfile,
    generate_key,
    server_ca_permits,
    server_names,
    to_der,
    to_pem,
)
from fleetroot.storage import Store, Transaction, installation

_CA_VALIDITY: Final = timedelta(days=20 * 365)
_VALIDITY: Final = timedelta(days=90)
_KEY_ROW: Final = "server-ca-key-"
_LOOPBACK: Final = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
_log = structlog.get_logger("fleetroot.server_certificate")


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What the ports show, and what clients are to trust (PEM).

    Attributes:
        issued_at: what the clock said then; None, like `renew_at` and `ca`, of the operator's own.
        ca: the server CA that signed it.
    """

    identity: ServerIdentity
    trust: str
    issued_at: datetime | None
    renew_at: datetime | None
    ca: x509.Certificate | None

    def lacks(self, hosts: Iterable[str]) -> bool:
        """Whether its CA may certify one of these hosts that it does not have. What needs another
        CA waits until the certificate is due.
        """
        ca = self.ca
        if ca is None:
            return False
        names = self.identity.certificate_chain[0].extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        return any(
            name not in names.value and server_ca_permits(ca, [str(name.value)])
            for name in server_names(hosts)
        )

    def is_due(self, now: datetime) -> bool:
        """Whether another is to be shown: most of its time is over, or the clock was ahead when it
        was issued and is right again, so that it is not valid yet.
        """
        if self.issued_at is None or self.renew_at is None:
            return False
        return now >= self.renew_at or now < self.issued_at - BACKDATE


@dataclass(frozen=True, slots=True)
class ServerCa:
    """One of the server's CAs; they are numbered from 1."""

    number: int
    certificate: x509.Certificate
    sealed_key: bytes

    @property
    def key_name(self) -> RecordName:
        """What the key is sealed as."""
        return _key_name(self.number)


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


def domain_of(hostname: str) -> str | None:
    """What host names of services end in where nothing else is said: the server's own name. An
    address has nothing beneath it; on the loopback network there is `localhost`.
    """
    try:
        address = ip_address(hostname)
    except ValueError:
        return hostname
    return "localhost" if address.is_loopback else None


class OperatorsCertificate:
    """A certificate of the operator's own, and the files that it is read from.

    Whoever renews it replaces two files, one after the other. What cannot be used is reported once
    and not taken, so that a half-done or wrong replacement never reaches a port.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Describes the files: the certificate with its chain behind it, and its key, not
        encrypted; both PEM. A root at the end of the chain is what clients are to trust, and is not
        shown to them.
        """
        self._certificate = certificate
        self._key = key
        self._seen: tuple[tuple[int, ...], ...] | None = None

    def read(self, now: datetime) -> ServerCertificate:
        """Reads the files.

        Raises:
            InvalidArgument: they cannot be read, or a server cannot serve with what they hold.
        """
        try:
            self._seen = self._stamps()
            return _operators(self._certificate.read_bytes(), self._key.read_bytes(), now)
        except (OSError, ValueError, TypeError, SSL.Error) as error:
            raise InvalidArgument(
                f"the server certificate {self._certificate} cannot be used with the key"
                f" {self._key}: {error}",
                reason=f"server certificate unusable: {error}",
            ) from error

    def read_if_changed(self, now: datetime) -> ServerCertificate | None:
        """Reads the files again if they are not those that were read last, good or bad.

        Raises:
            InvalidArgument: as `read`.
        """
        try:
            if self._stamps() == self._seen:
                return None
        except OSError:
            if self._seen is None:
                return None  # reported already
            self._seen = None
        return self.read(now)

    def _stamps(self) -> tuple[tuple[int, ...], ...]:
        found = [path.stat() for path in (self._certificate, self._key)]
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in found)


def _operators(certificate: bytes, key: bytes, now: datetime) -> ServerCertificate:
    """Raises:
    ValueError, TypeError, SSL.Error: it cannot be used; the text says why.
    """
    chain = tuple(x509.load_pem_x509_certificates(certificate))
    private_key = load_pem_private_key(key, None)
    if not isinstance(
        private_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    ):
        raise TypeError("the key must be EC, RSA or Ed25519")
    ends_in_root = bool(chain) and chain[-1].issuer == chain[-1].subject
    shown = chain[:-1] if ends_in_root and len(chain) > 1 else chain
    identity = ServerIdentity(shown, private_key)
    for one in chain:
        if not one.not_valid_before_utc <= now < one.not_valid_after_utc:
            raise ValueError(
                f"{one.subject.rfc4514_string()} is valid from {one.not_valid_before_utc} to"
                f" {one.not_valid_after_utc} only"
            )
    for one, above in pairwise(chain):
        try:
            one.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature):
            raise ValueError(
                f"{one.subject.rfc4514_string()} is not signed by what stands behind it"
            ) from None
    make_context(identity, request_client_certificate=False)  # what OpenSSL thinks of it
    if not ends_in_root:
        _log.warning(
            "the operator's certificate comes without its root: server-ca.pem is no use to clients"
            " that do not have the root from elsewhere",
            last=chain[-1].subject.rfc4514_string(),
            signed_by=chain[-1].issuer.rfc4514_string(),
        )
    return ServerCertificate(identity, to_pem(chain[-1:]), None, None, None)


async def issue(
    store: Store, custody: KeyCustody, hosts: list[str], now: datetime
) -> ServerCertificate:
    """A new certificate of the oldest server CA that may certify all of `hosts`; a CA is made if
    there is none. Clients are to trust every CA there ever was, the newest first.
    """
    cas = await store.read(server_cas)
    ca = next((ca for ca in cas if _may_certify(ca.certificate, hosts, now)), None)
    if ca is None:
        if cas:
            _warn_of_another(cas, hosts)
        ca = await _make_ca(store, custody, len(cas) + 1, hosts, now)
        cas.append(ca)
    key = generate_key(KeyType.EC_P256)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101
    # The dates are for clients, which have clocks of their own: one of ours that stands before the
    # CA's first day (a board that has not asked for the time yet) keeps nobody out.
    since = max(now, ca.certificate.not_valid_before_utc)
    certificate = ServerProfile(issuer=ca.certificate, validity=_VALIDITY, hosts=hosts).issue(
        custody.load(ca.key_name, ca.sealed_key), key.public_key(), since
    )
    lifetime = certificate.not_valid_after_utc - since
    return ServerCertificate(
        ServerIdentity((certificate,), key),
        to_pem([each.certificate for each in reversed(cas)]),
        now,
        since + lifetime * 2 / 3,
        ca.certificate,
    )


def server_cas(tx: Transaction) -> list[ServerCa]:
    """Every CA of this server, the oldest first: the one that most clients trust."""
    found: list[ServerCa] = []
    while True:
        number = len(found) + 1
        certificate = installation.get(tx, _certificate_row(number))
        sealed_key = installation.get(tx, _key_row(number))
        if certificate is None or sealed_key is None:
            return found
        found.append(ServerCa(number, x509.load_der_x509_certificate(certificate), sealed_key))


def sealed_name(row: str) -> RecordName | None:
    """What a row of `installation` is sealed under, if it is a server CA's key."""
    number = row.removeprefix(_KEY_ROW)
    return _key_name(int(number)) if number != row and number.isdecimal() else None


def _may_certify(ca: x509.Certificate, hosts: list[str], now: datetime) -> bool:
    return server_ca_permits(ca, hosts) and ca.not_valid_after_utc > now + _VALIDITY


async def _make_ca(
    store: Store, custody: KeyCustody, number: int, hosts: list[str], now: datetime
) -> ServerCa:
    key_name = _key_name(number)
    sealed = custody.generate(KeyType.EC_P256, key_name).sealed
    name = f"Fleetroot server CA {os.urandom(4).hex()}"
    made = ServerCaProfile(
        subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        validity=_CA_VALIDITY,
        hosts=[*hosts, "localhost"],
        networks=_LOOPBACK,
    ).self_sign(custody.load(key_name, sealed), now)

    def unit(tx: Transaction) -> None:
        installation.put(tx, _certificate_row(number), to_der(made))
        installation.put(tx, _key_row(number), sealed)

    await store.write(unit)
    return ServerCa(number, made, sealed)


def _warn_of_another(cas: list[ServerCa], hosts: list[str]) -> None:
    new = [
        str(name.value)
        for name in server_names(hosts)
        if not any(server_ca_permits(ca.certificate, [str(name.value)]) for ca in cas)
    ]
    _log.warning(
        "NEW SERVER CA: clients that trust an earlier server-ca.pem refuse this server until they"
        " have the new one; it holds the earlier CAs as well, and going back to the earlier names"
        " goes back to the earlier CA",
        new_hosts=new,
        hosts=hosts,
    )


def _certificate_row(number: int) -> str:
    return f"server-ca-certificate-{number}"


def _key_row(number: int) -> str:
    return f"{_KEY_ROW}{number}"


def _key_name(number: int) -> RecordName:
    return RecordName(kind="server-ca-key", namespace="", id="server-ca", version=number)
