"""Handshakes take turns: between any two steps, whoever has an open connection is served."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from unittest.mock import Mock

from OpenSSL import SSL

from fleetroot.gateway.tls.connection import TlsConnection

from .memory_client import client_ssl
from .service import Serve


class Peer:
    """A connection of the listener whose TCP transport is in this test's hands."""

    def __init__(self, listener: object) -> None:
        self.raw = Mock(spec=asyncio.Transport, is_closing=Mock(return_value=False))
        self.raw.get_extra_info.return_value = ("127.0.0.1", 4000)
        self.raw.get_write_buffer_size.return_value = 0
        self.connection = TlsConnection(listener)
        self.raw.abort.side_effect = lambda: asyncio.get_running_loop().call_soon(
            self.connection.connection_lost, None
        )
        self.connection.connection_made(self.raw)
        self.ssl = SSL.Connection(client_ssl())
        self.ssl.set_connect_state()

    def send_flight(self) -> None:
        """Its next flight arrives."""
        with suppress(SSL.WantReadError):
            self.ssl.do_handshake()
        flight = self.ssl.bio_read(1 << 16)
        self.connection.get_buffer(0)[: len(flight)] = flight
        self.connection.buffer_updated(len(flight))

    @property
    def is_answered(self) -> bool:
        return self.raw.write.called


async def test_one_handshake_step_is_made_in_a_turn_of_the_loop(serve: Serve):
    listener = (await serve()).listener
    peers = [Peer(listener) for _ in range(3)]
    for peer in peers:
        peer.send_flight()
    answered = []
    for _ in range(4):
        answered.append(sum(peer.is_answered for peer in peers))
        await asyncio.sleep(0)
    assert answered == [0, 1, 2, 3]


async def test_last_flight_counts_though_the_end_of_the_stream_comes_before_its_turn(serve: Serve):
    service = await serve()
    peer = Peer(service.listener)
    peer.send_flight()
    await asyncio.sleep(0)
    for call in peer.raw.write.call_args_list:
        peer.ssl.bio_write(bytes(call.args[0]))
    peer.send_flight()
    assert service.connections.empty()
    peer.connection.eof_received()
    assert not service.connections.empty()
    assert service.refusals.empty()


async def test_connection_that_is_lost_before_its_turn_is_over(serve: Serve):
    service = await serve()
    peer = Peer(service.listener)
    peer.send_flight()
    peer.connection.connection_lost(None)
    await asyncio.sleep(0)
    assert not peer.is_answered
    assert (await service.refusal()).reason == "peer-closed"
