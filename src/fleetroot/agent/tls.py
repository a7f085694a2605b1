"""TLS on the device: whom it trusts, what it shows, and why a connection was refused.

A server is dialled by its address and checked by its name, which are not always the same. The leaf
is shown alone: the hub has its issuing CA, and a chain would only cost it time (RFC 8446 §4.4.2
lets a certificate be left out that the peer is known to have).
"""

from __future__ import annotations

import socket as sockets
import ssl
from dataclasses import dataclass
from typing import Any, Final

from fleetroot.agent.errors import FolderUnusable

# RFC 8446 §6.2: the alerts that a server sends because of the client's certificate. The library
# names them with a prefix that depends on its version.
_CERTIFICATE_ALERTS: Final = (
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
    "ALERT_CERTIFICATE_REQUIRED",
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's MQTT port.

    Attributes:
        name: what its certificate must be for, and what SNI says.
        address: what is dialled; a name or an address.
    """

    name: str
    address: str
    port: int

    def __str__(self) -> str:
        at = f"{self.address}:{self.port}"
        return at if self.address == self.name else f"{self.name} ({at})"


class ObservedSocket(ssl.SSLSocket):
    """A TLS socket that remembers why reading failed: the MQTT library only says that it did."""

    failure: ssl.SSLError | None = None

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.failure = error
            raise


class DeviceContext(ssl.SSLContext):
    """What a device trusts and shows, for connections to one name.

    Attributes:
        socket: the newest connection's, once it was begun.
    """

    sslsocket_class = ObservedSocket
    name: str
    socket: ObservedSocket | None = None

    def wrap_socket(self, sock: sockets.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        """As the library's; whatever name the caller dialled, the server must be `name`."""
        options["server_hostname"] = self.name
        made = super().wrap_socket(sock, *args, **options)
        assert isinstance(made, ObservedSocket)  # noqa: S101 - sslsocket_class
        self.socket = made
        return made


def make_context(name: str, ca: str | None) -> DeviceContext:
    """A context that checks the server against `ca` (PEM), or the system's CAs without one.

    Raises:
        FolderUnusable: `ca` holds no certificate.
    """
    context = DeviceContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the chain and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.name = name
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise FolderUnusable("the server CA is not a certificate in PEM") from error
    return context


def is_certificate_alert(error: ssl.SSLError) -> bool:
    """Whether the server sent an alert about the certificate that it was shown."""
    return (error.reason or "").upper().endswith(_CERTIFICATE_ALERTS)
