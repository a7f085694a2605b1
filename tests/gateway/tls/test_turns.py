"""Handshakes take turns: between any two steps, whoever has an open connection is served."""

from __future__ import annotations

import asyncio

import pytest

from .peer import Peer
from .service import Serve


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
    peer.receive()
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


@pytest.mark.parametrize("sizes", [[10], [10, 10], [2000, 3000], [6000, 4000, 10]])
async def test_what_comes_with_the_last_flight_is_delivered(serve: Serve, sizes: list[int]):
    service = await serve()
    peer = Peer(service.listener)
    peer.send_flight()
    await asyncio.sleep(0)
    peer.receive()
    peer.ssl.do_handshake()
    for size in sizes:
        peer.ssl.send(bytes(size))
    peer.send()
    await asyncio.sleep(0)
    assert len((await service.connection()).received) == sum(sizes)
