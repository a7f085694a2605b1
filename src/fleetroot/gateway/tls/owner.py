"""What a connection asks and tells its listener."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from OpenSSL import SSL

from fleetroot.gateway.tls.limits import Refusal, RefusalReason, TlsLimits

if TYPE_CHECKING:
    from fleetroot.gateway.tls.connection import TlsConnection


class Owner(Protocol):
    """The listener, as its connections know it.

    Attributes:
        loop: the event loop that all of them run on.
        limits: what a peer may ask.
        context: for handshakes that begin now.
        protocol_factory: makes the application of a connection whose handshake is done.
        read_buffer: where the event loop puts ciphertext, for all connections in turn.
        expects_proxy_header: connections start with a PROXY header.
    """

    loop: asyncio.AbstractEventLoop
    limits: TlsLimits
    context: SSL.Context
    protocol_factory: Callable[[], asyncio.Protocol]
    read_buffer: memoryview
    expects_proxy_header: bool

    def admit(self, connection: TlsConnection) -> RefusalReason | None:
        """A TCP connection was accepted; None admits it to the handshake."""

    def admit_source(self, connection: TlsConnection) -> RefusalReason | None:
        """The source of an admitted connection (`peer`) is known; None lets it go on."""

    def wait_for_turn(self, connection: TlsConnection, *, begins: bool) -> RefusalReason | None:
        """Calls the connection's `take_turn` when it is its turn; None lets it wait for that."""

    def handshake_done(self, connection: TlsConnection) -> None:
        """An admitted connection has finished its handshake."""

    def vouched(self, connection: TlsConnection) -> None:
        """The application knows who the peer of an open connection is."""

    def refused(self, connection: TlsConnection, refusal: Refusal) -> None:
        """A connection will not finish its handshake."""

    def gone(self, connection: TlsConnection) -> None:
        """The TCP connection has ended."""
