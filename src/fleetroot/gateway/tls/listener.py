"""A TLS port: accepts, admits and counts connections, and stops in order."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from OpenSSL import SSL

from fleetroot.gateway.tls.connection import TlsConnection
from fleetroot.gateway.tls.limits import (
    IpNetwork,
    Refusal,
    RefusalReason,
    TlsLimits,
    is_within,
    source_of,
)
from fleetroot.gateway.tls.turns import Turns

# A fleet reconnects all at once after a network fault; the kernel cuts this to net.core.somaxconn.
_BACKLOG = 4096
# Seconds that the kernel lets sent bytes go unacknowledged before it drops a vanished peer.
_UNACKNOWLEDGED = 60
# One read from the kernel. All connections share the buffer, so its size costs nothing.
_READ_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class ListenerStats:
    """A count of a listener's connections.

    Attributes:
        connections: TCP connections now, in whatever state.
        handshakes: those of them whose handshake is not done.
        completed: handshakes done since the start.
        refused: connections that ended before their handshake was done, since the start.
    """

    connections: int
    handshakes: int
    completed: int
    refused: int


class TlsListener:
    """One TLS port and all of its connections. Belongs to the event loop that starts it."""

    loop: asyncio.AbstractEventLoop
    _turns: Turns

    def __init__(
        self,
        host: str,
        port: int,
        protocol_factory: Callable[[], asyncio.Protocol],
        context: SSL.Context,
        limits: TlsLimits | None = None,
        *,
        on_refused: Callable[[Refusal], None],
        is_barred: Callable[[str], bool] = lambda _source: False,
        trusted_proxies: tuple[IpNetwork, ...] = (),
        reuse_port: bool = False,
    ) -> None:
        """Describes the port; `start` opens it.

        Args:
            host: address or name to bind; `::` takes IPv4 too.
            port: 0 for any free port.
            protocol_factory: makes the application protocol of a connection whose handshake is
                done. Its transport is a `TlsTransport`.
            context: from `make_context`.
            limits: what a peer may ask; the defaults of `TlsLimits` when None.
            on_refused: told of every connection that ends before its handshake is done. A flood
                calls it as often as it connects.
            is_barred: whether a source (`source_of`) may not connect now.
            trusted_proxies: when not empty, every connection must come from one of these networks
                and start with a PROXY protocol v2 header, which says whose connection it is.
            reuse_port: let several processes share the port.
        """
        self.limits = limits or TlsLimits()
        self.context = context
        self.protocol_factory = protocol_factory
        self.read_buffer = memoryview(bytearray(_READ_SIZE))
        self.expects_proxy_header = bool(trusted_proxies)
        self._host = host
        self._port = port
        self._on_refused = on_refused
        self._is_barred = is_barred
        self._trusted_proxies = trusted_proxies
        self._reuse_port = reuse_port
        self._server: asyncio.Server | None = None
        self._connections: set[TlsConnection] = set()
        self._handshakes: dict[TlsConnection, str | None] = {}  # with the source that it counts for
        self._sources: Counter[str] = Counter()
        self._strangers: dict[TlsConnection, str] = {}  # nobody has vouched for, with their source
        self._strangers_of: Counter[str] = Counter()
        self._completed = 0
        self._refused = 0
        self._all_gone = asyncio.Event()
        self._all_gone.set()

    @property
    def port(self) -> int:
        """The port that is open, or 0 before `start` when any was asked for."""
        return self._port

    def stats(self) -> ListenerStats:
        """The counts now."""
        return ListenerStats(
            connections=len(self._connections),
            handshakes=len(self._handshakes),
            completed=self._completed,
            refused=self._refused,
        )

    async def start(self) -> None:
        """Opens the port.

        Raises:
            OSError: the address cannot be bound.
        """
        self.loop = asyncio.get_running_loop()
        self._turns = Turns(self.loop, self.limits.handshake_wait)
        listening = await bind(self._host, self._port, reuse_port=self._reuse_port)
        self._port = listening.getsockname()[1]
        self._server = await self.loop.create_server(
            lambda: TlsConnection(self), sock=listening, backlog=_BACKLOG
        )

    def reload(self, context: SSL.Context) -> None:
        """Uses a new context from the next handshake on; connections keep what they have."""
        self.context = context

    def stop_accepting(self) -> None:
        """Closes the port and drops unfinished handshakes. Open connections go on."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._handshakes):
            connection.close()

    async def stop(self, grace: float) -> None:
        """Closes the port, then every connection: in order within `grace` seconds, then at once.

        Applications hear `connection_lost`. Those that want to end a session in their own words
        are told to before, between `stop_accepting` and this.
        """
        self.stop_accepting()
        for connection in list(self._connections):
            connection.close()
        try:
            async with asyncio.timeout(grace):
                await self._all_gone.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            await self._all_gone.wait()

    # What a connection asks and tells (`owner.Owner`)

    def admit(self, connection: TlsConnection) -> RefusalReason | None:
        self._connections.add(connection)
        self._all_gone.clear()
        if len(self._connections) > self.limits.connections:
            return RefusalReason.TOO_MANY_CONNECTIONS
        if len(self._handshakes) >= self.limits.handshakes:
            return RefusalReason.TOO_MANY_HANDSHAKES
        if self._trusted_proxies and not _is_in(connection, self._trusted_proxies):
            return RefusalReason.UNTRUSTED_PROXY
        self._handshakes[connection] = None
        return None

    def admit_source(self, connection: TlsConnection) -> RefusalReason | None:
        if _is_in(connection, self.limits.uncapped_sources):
            return None
        source = source_of(connection.peer[0]) if connection.peer else "?"
        if self._is_barred(source):
            return RefusalReason.TOO_MANY_FAILURES
        limits = self.limits
        if (
            self._sources[source] >= limits.handshakes_per_source
            or self._strangers_of[source] >= limits.strangers_per_source
        ):
            return RefusalReason.TOO_MANY_FROM_SOURCE
        self._sources[source] += 1
        self._handshakes[connection] = source
        self._strangers_of[source] += 1
        self._strangers[connection] = source
        return None

    def wait_for_turn(self, connection: TlsConnection, *, begins: bool) -> RefusalReason | None:
        return None if self._turns.add(connection, begins=begins) else RefusalReason.BUSY

    def handshake_done(self, connection: TlsConnection) -> None:
        self._completed += 1
        self._forget_handshake(connection)

    def vouched(self, connection: TlsConnection) -> None:
        source = self._strangers.pop(connection, None)
        if source is not None:
            _decrement(self._strangers_of, source)

    def refused(self, connection: TlsConnection, refusal: Refusal) -> None:
        self._refused += 1
        self._forget_handshake(connection)
        self._on_refused(refusal)

    def gone(self, connection: TlsConnection) -> None:
        self._connections.discard(connection)
        self.vouched(connection)
        if not self._connections:
            self._all_gone.set()

    def _forget_handshake(self, connection: TlsConnection) -> None:
        source = self._handshakes.pop(connection, None)
        if source is not None:
            _decrement(self._sources, source)


async def bind(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """A TCP socket bound to the first address that `host` resolves to.

    Its options are inherited by accepted connections, at no cost per connection.

    Raises:
        OSError: the name does not resolve or the address cannot be bound.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, address = found[0][0], found[0][4]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # uvloop sets it by itself; with asyncio's own loop an answer waited 40 ms for an ACK.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # RFC 5482; Linux
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED * 1000)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        bound.setblocking(False)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"{error.strerror}: {host} port {port}") from error
    return bound


def _is_in(connection: TlsConnection, networks: tuple[IpNetwork, ...]) -> bool:
    return connection.peer is not None and is_within(connection.peer[0], networks)


def _decrement(counter: Counter[str], source: str) -> None:
    counter[source] -= 1
    if not counter[source]:
        del counter[source]
