"""A client whose TCP connection is in a test's hands, each way."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from unittest.mock import Mock

from OpenSSL import SSL

from fleetroot.gateway.tls.connection import TlsConnection

from .memory_client import client_ssl


class Peer:
    """A connection of a listener, with a TCP transport that is made up, and its client."""

    def __init__(self, listener: object, version: ssl.TLSVersion | None = None) -> None:
        self.raw = Mock(spec=asyncio.Transport, is_closing=Mock(return_value=False))
        self.raw.get_extra_info.return_value = ("127.0.0.1", 4000)
        self.raw.get_write_buffer_size.return_value = 0
        self.connection = TlsConnection(listener)
        self.raw.abort.side_effect = lambda: asyncio.get_running_loop().call_soon(
            self.connection.connection_lost, None
        )
        self.connection.connection_made(self.raw)
        self.ssl = SSL.Connection(client_ssl(version=version))
        self.ssl.set_connect_state()

    def send_flight(self) -> None:
        """Its next flight arrives."""
        with suppress(SSL.WantReadError):
            self.ssl.do_handshake()
        self.send()

    def send(self) -> None:
        """What its OpenSSL has to say arrives."""
        flight = self.ssl.bio_read(1 << 16)
        self.connection.get_buffer(0)[: len(flight)] = flight
        self.connection.buffer_updated(len(flight))

    def receive(self) -> list[bytes]:
        """Takes what was written since the last time."""
        written = [bytes(call.args[0]) for call in self.raw.write.call_args_list]
        self.raw.write.reset_mock()
        for each in written:
            self.ssl.bio_write(each)
        return written

    async def shake_hands(self) -> None:
        """Until the listener has its last flight."""
        self.send_flight()
        await asyncio.sleep(0)
        self.receive()
        self.send_flight()
        await asyncio.sleep(0)

    @property
    def is_answered(self) -> bool:
        return self.raw.write.called
