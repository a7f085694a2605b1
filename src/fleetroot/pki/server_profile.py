"""The profiles of the server's own certificates: their CA, and the certificate of the listeners.

This CA is no part of the device chain and never a hub's anchor. It is constrained to the names of
this server and to server authentication, so that a client that trusts it gives nothing away.

Source: RFC 5280 §4.2.1.10 (name constraints), RFC 9525 (names of servers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetroot.pki.certificate import new_serial
from fleetroot.pki.issuer import (
    Issuer,
    extension,
    own_validity,
    self_sign,
    subject_key_identifier,
)
from fleetroot.pki.keys import PrivateKey, PublicKey
from fleetroot.pki.lint import CertificateKind
from fleetroot.pki.profile import CA_KEY_USAGE, NOT_A_CA, check_profile, key_usage

_SERVER_AUTH: Final = extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))

# Not a host name: verifiers that still look for one in the subject find none there.
_SERVER_SUBJECT: Final = x509.Name(
    [x509.NameAttribute(NameOID.COMMON_NAME, "Fleetroot server certificate")]
)
_DNS_NAME: Final = re.compile(
    r"(?!.{254})[A-Za-z0-9_](?:[A-Za-z0-9_\-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_\-]{0,62})*",
    re.ASCII,
)
_EVERY_ADDRESS: Final = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


def server_names(hosts: Iterable[str]) -> tuple[x509.DNSName | x509.IPAddress, ...]:
    """The names that a server certificate carries for `hosts`, each once, in their order.

    An any-address (`0.0.0.0`, `::`) is left out: it is where a server listens, not what a client
    dials.

    Raises:
        ValueError: a host is neither an address nor a DNS name in ASCII, is a wildcard, or none
            is left.
    """
    names: list[x509.DNSName | x509.IPAddress] = []
    for host in hosts:
        try:
            address = ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            if not _DNS_NAME.fullmatch(host):
                raise ValueError(f"not a host name or address: {host!r}") from None
            name: x509.DNSName | x509.IPAddress = x509.DNSName(host.lower())
        else:
            if address.is_unspecified:
                continue
            name = x509.IPAddress(address)
        if name not in names:
            names.append(name)
    if not names:
        raise ValueError("a server certificate needs a host name or an address that can be dialled")
    return tuple(names)


@dataclass(frozen=True, slots=True)
class ServerCaProfile:
    """The CA of the server's certificates: self-signed, for these hosts only.

    Attributes:
        hosts: names, which permit what is beneath them too, and addresses.
        networks: every address of these is permitted as well.

    Raises:
        ValueError: the validity is not positive, the subject is empty, or as `server_names`.
    """

    subject: x509.Name
    validity: timedelta
    hosts: Sequence[str]
    networks: Sequence[IPv4Network | IPv6Network] = ()
    _constraints: x509.NameConstraints = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_profile(self.subject, self.validity)
        constraints = _constraints(server_names(self.hosts), self.networks)
        object.__setattr__(self, "_constraints", constraints)

    def self_sign(self, key: PrivateKey, now: datetime) -> x509.Certificate:
        """The CA's certificate of `key`, valid from a little before `now`."""
        return self_sign(
            key,
            kind=CertificateKind.SERVER_CA,
            subject=self.subject,
            validity=own_validity(now, self.validity),
            extensions=[
                extension(x509.BasicConstraints(ca=True, path_length=0), critical=True),
                CA_KEY_USAGE,
                _SERVER_AUTH,
                extension(self._constraints, critical=True),
            ],
        )


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """The certificate that the listeners show.

    Attributes:
        issuer: the server CA's certificate.
        hosts: every name and address by which clients dial this server.

    Raises:
        ValueError: as `server_names`, or the server CA does not permit a host.
    """

    issuer: x509.Certificate
    validity: timedelta
    hosts: Sequence[str]
    _issuer: Issuer = field(init=False, repr=False, compare=False)
    _names: x509.SubjectAlternativeName = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_profile(self.issuer.subject, self.validity)
        if not server_ca_permits(self.issuer, self.hosts):
            raise ValueError("the server CA does not permit these hosts")
        object.__setattr__(self, "_issuer", Issuer(self.issuer))
        object.__setattr__(self, "_names", x509.SubjectAlternativeName(server_names(self.hosts)))

    def issue(
        self, issuer_key: PrivateKey, public_key: PublicKey, now: datetime
    ) -> x509.Certificate:
        """The server certificate of `public_key`.

        Raises:
            IssuerExpired: the server CA is not valid now.
            ValueError: the key is not the server CA's.
        """
        # RSA key exchange of TLS 1.2 enciphers with the key itself (RFC 5246 §7.4.2).
        usage = key_usage(
            digital_signature=True, key_encipherment=isinstance(public_key, rsa.RSAPublicKey)
        )
        return self._issuer.sign(
            issuer_key,
            kind=CertificateKind.SERVER,
            subject=_SERVER_SUBJECT,
            public_key=public_key,
            serial=new_serial(),
            validity=self._issuer.validity(now, self.validity),
            extensions=[
                NOT_A_CA,
                extension(usage, critical=True),
                _SERVER_AUTH,
                extension(self._names),
                extension(self._issuer.authority_key_identifier),
                subject_key_identifier(public_key),
            ],
        )


def server_ca_permits(server_ca: x509.Certificate, hosts: Iterable[str]) -> bool:
    """Whether the name constraints of a server CA let it certify all of `hosts`.

    A CA without name constraints permits none: it is not one of ours.

    Raises:
        ValueError: as `server_names`.
    """
    try:
        constraints = server_ca.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return False
    permitted = constraints.permitted_subtrees or []
    return all(any(_covers(tree, name) for tree in permitted) for name in server_names(hosts))


def _within(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    return inner.version == outer.version and inner.network_address in outer


def _covers(tree: x509.GeneralName, name: x509.DNSName | x509.IPAddress) -> bool:
    if isinstance(name, x509.DNSName):
        return isinstance(tree, x509.DNSName) and (
            name.value == tree.value or name.value.endswith(f".{tree.value}")
        )
    return (
        isinstance(tree, x509.IPAddress)
        and isinstance(tree.value, IPv4Network | IPv6Network)
        and name.value in tree.value
    )


def _constraints(
    names: Sequence[x509.DNSName | x509.IPAddress],
    networks: Sequence[IPv4Network | IPv6Network],
) -> x509.NameConstraints:
    """Permits these names and networks and, of either form, nothing else.

    A permitted subtree constrains names of its own form only. A form of which nothing is permitted
    must be excluded as a whole, or everything of it would pass.
    """
    permitted: list[x509.GeneralName] = []
    excluded: list[x509.GeneralName] = []
    hosts = [name for name in names if isinstance(name, x509.DNSName)]
    subnets = list(networks)
    for name in names:
        if isinstance(name, x509.IPAddress):
            subnet = ip_network(str(name.value))
            if not any(_within(subnet, network) for network in subnets):
                subnets.append(subnet)
    if hosts:
        permitted += hosts
    else:
        excluded.append(x509.DNSName(""))
    if subnets:
        permitted += [x509.IPAddress(subnet) for subnet in subnets]
    else:
        excluded += [x509.IPAddress(network) for network in _EVERY_ADDRESS]
    return x509.NameConstraints(permitted or None, excluded or None)
