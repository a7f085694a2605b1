"""What an application protocol gets to hold: an asyncio transport of decrypted bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetroot.gateway.tls.connection import TlsConnection


class TlsTransport(asyncio.Transport):
    """The application's side of a `TlsConnection`, with asyncio's own rules.

    `get_extra_info` knows, besides what the TCP transport knows and while the connection is open:
    `tls` (a `TlsInfo`), `peer_chain` (of it, alone and cheaper), and `sslcontext` (the pyOpenSSL
    context; there is no `ssl_object`). Behind a balancer, `peername` and `sockname` are as its
    PROXY header gave them, without a `socket`, which would say otherwise. And `vouch`, to be called
    once the application knows who the peer is: from then on the connection does not count as one
    of a stranger (`TlsLimits.strangers_per_source`).
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: TlsConnection) -> None:
        # Not `super().__init__()`: it would make a dict per connection that nothing reads.
        self._connection = connection

    def get_extra_info(self, name: str, default: object = None) -> Any:
        return self._connection.extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._connection.application

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError("TlsTransport carries an asyncio.Protocol")
        self._connection.application = protocol

    def is_reading(self) -> bool:
        return self._connection.is_reading()

    def pause_reading(self) -> None:
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        self._connection.resume_reading()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self._connection.write(data)

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._connection.raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._connection.raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._connection.raw.get_write_buffer_limits()

    def is_closing(self) -> bool:
        return self._connection.is_closing()

    def close(self) -> None:
        """Sends what was written, then close_notify; `connection_lost` follows on the next turn."""
        self._connection.close()

    def abort(self) -> None:
        """Drops the connection at once, with whatever is still waiting to be sent."""
        self._connection.abort()
