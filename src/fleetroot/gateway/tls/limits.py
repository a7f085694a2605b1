"""How much a TLS peer may ask of a listener, and why one was turned away."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

IpNetwork = IPv4Network | IPv6Network
# Host and port.
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class TlsLimits:
    """The limits of one listener.

    Attributes:
        first_flight: seconds from accept until the whole ClientHello is here.
        handshake: seconds from accept until the handshake is done. In neither of the two the time
            counts that a peer's flight waited for its turn.
        handshake_wait: seconds that a ClientHello may wait for its turn; one that would wait for
            longer, by the pace of the last turns, is not let wait.
        handshake_bytes: most bytes taken from a peer before the handshake is done. OpenSSL works
            on certificates before we can refuse them: a hundred of them cost 100 ms of CPU.
        handshake_steps: most reads that complete a TLS record before the handshake is done, each
            of which runs OpenSSL once. A handshake takes 2 to 8.
        handshakes: most unfinished handshakes on the listener.
        handshakes_per_source: most unfinished handshakes of one source: an IPv4 address, or the
            /64 of an IPv6 address.
        strangers_per_source: most connections of one source whose application has not vouched for
            them (see `TlsTransport`), finished handshake or not.
        uncapped_sources: networks to which no cap of one source applies.
        connections: most connections on the listener, finished handshake or not.
        write_buffer: bytes waiting to be sent above which the application is told to pause.
        write_buffer_cap: bytes already waiting to be sent at which a further write aborts the
            connection: its application does not pause, or its peer makes us answer unread.
        linger: seconds without progress after which a closing connection is cut.
    """

    first_flight: float = 5.0
    handshake: float = 15.0
    handshake_wait: float = 10.0
    handshake_bytes: int = 32 * 1024
    handshake_steps: int = 32
    handshakes: int = 2048
    handshakes_per_source: int = 64
    strangers_per_source: int = 1024
    uncapped_sources: tuple[IpNetwork, ...] = ()
    connections: int = 100_000
    write_buffer: int = 64 * 1024
    write_buffer_cap: int = 1024 * 1024
    linger: float = 1.0


class RefusalReason(StrEnum):
    """Why a connection ended before its handshake was done."""

    FIRST_FLIGHT_TIMEOUT = "first-flight-timeout"
    HANDSHAKE_TIMEOUT = "handshake-timeout"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    TOO_MANY_HANDSHAKES = "too-many-handshakes"
    TOO_MANY_FROM_SOURCE = "too-many-from-source"
    TOO_MANY_FAILURES = "too-many-failures"
    TOO_LARGE = "too-large"
    TOO_MANY_STEPS = "too-many-steps"
    NOT_TLS = "not-tls"
    TLS_ERROR = "tls-error"
    PROXY_HEADER = "proxy-header"
    UNTRUSTED_PROXY = "untrusted-proxy"
    PEER_CLOSED = "peer-closed"
    BUSY = "busy"
    KEPT_WAITING = "kept-waiting"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A connection that ended before its handshake was done.

    Attributes:
        reason: a stable word for logs and metrics.
        peer: where it came from, as far as that was known by then.
        detail: more for the operator, such as OpenSSL's words; empty when there is no more.
    """

    reason: RefusalReason
    peer: Address | None
    detail: str = ""


def is_within(host: str, networks: tuple[IpNetwork, ...]) -> bool:
    """Whether the address `host`, maybe with a scope, is of one of the networks."""
    if not networks:
        return False
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def source_of(host: str) -> str:
    """What caps of one source count by: an IPv4 address, or the /64 of an IPv6 address, all of
    which one host commands. `host` is an address, maybe with a scope; anything else is itself.
    """
    if ":" not in host:
        return host
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))
