"""The host names of hubs and provisioning services, and the certificate that has them.

A new one is put under this server's domain. It is taken only if clients that trust this server now
will trust what it shows for the new name, too: a certificate of ours can have what its CA permits,
one of the operator's has what it has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from cryptography import x509

from fleetroot.errors import InvalidArgument
from fleetroot.gateway.server_certificate import ServerCertificate
from fleetroot.pki import server_ca_permits

_MAX_HOST_NAME: Final = 253


class ServedNames:
    """Implements `fleetroot.registry.host_names.HostNames`."""

    def __init__(
        self,
        domain: str | None,
        shown: Callable[[], ServerCertificate],
        show: Callable[[], Awaitable[None]],
    ) -> None:
        """Args:
        domain: what new host names end in; None if there is nothing that they could.
        shown: the certificate that the ports show now.
        show: lets them show one with every service's name.
        """
        self._domain = domain
        self._shown = shown
        self._show = show

    def of(self, label: str) -> str:
        """See `HostNames.of`."""
        if self._domain is None:
            raise InvalidArgument(
                "this server is known by an address only: set services_domain, under which hubs and"
                " provisioning services get their host names",
                reason="no domain for host names",
            )
        return f"{label}.{self._domain}".lower()

    def check(self, host_name: str) -> None:
        """See `HostNames.check`."""
        certificate = self._shown()
        try:
            if len(host_name) > _MAX_HOST_NAME:
                raise ValueError("the host name is too long")
            taken = (
                _has(certificate.identity.certificate_chain[0], host_name)
                if certificate.ca is None
                else server_ca_permits(certificate.ca, [host_name])
            )
        except ValueError as error:
            raise InvalidArgument(f"hostName: {error}") from error
        if taken:
            return
        if certificate.ca is None:
            raise InvalidArgument(
                f"the server certificate that was given to this server does not have {host_name}",
                reason="host name not in the operator's certificate",
            )
        raise InvalidArgument(
            f"clients that trust this server's CA would refuse {host_name}: it permits names under"
            " the server's own alone",
            reason="host name outside the server CA",
        )

    async def show(self) -> None:
        """See `HostNames.show`."""
        if self._shown().ca is not None:
            await self._show()


def _has(certificate: x509.Certificate, host_name: str) -> bool:
    """Whether a certificate has the name, itself or by a wildcard (RFC 9525 §6.3)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    parent = host_name.partition(".")[2]
    spelt = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return host_name in spelt or f"*.{parent}" in spelt
