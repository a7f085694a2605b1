"""TLS for every port that devices use: pyOpenSSL over memory BIOs, on asyncio.

The handshake proves that the client holds the key of the certificate it shows, and nothing more:
an unknown, expired or self-signed certificate completes it. The room that the device speaks to
decides whether the certificate is good for what the device asks, with `TlsInfo.peer_chain`.
"""

from fleetroot.gateway.tls.context import ServerIdentity, make_context
from fleetroot.gateway.tls.http import HttpLimits, HttpServer
from fleetroot.gateway.tls.limits import Refusal, RefusalReason, TlsLimits, is_within, source_of
from fleetroot.gateway.tls.listener import ListenerStats, TlsListener
from fleetroot.gateway.tls.peer import TlsInfo
from fleetroot.gateway.tls.transport import TlsTransport

__all__ = [
    "HttpLimits",
    "HttpServer",
    "ListenerStats",
    "Refusal",
    "RefusalReason",
    "ServerIdentity",
    "TlsInfo",
    "TlsLimits",
    "TlsListener",
    "TlsTransport",
    "is_within",
    "make_context",
    "source_of",
]
