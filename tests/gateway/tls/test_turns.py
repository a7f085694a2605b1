"""Handshakes take turns: between any two steps, whoever has an open connection is served. What a
peer waits for its turn is not held against it, and nobody waits for longer than it is likely to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from unittest.mock import Mock

import pytest

from fleetroot.gateway.tls import RefusalReason, TlsLimits
from fleetroot.gateway.tls.turns import Turns

from .peer import Peer
from .service import Serve, Service


class Hands:
    """A loop whose clock is in a test's hands."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, Callable[..., None], tuple[object, ...], Mock]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[..., None], *of: object) -> Mock:
        timer = Mock(cancelled=False)
        timer.cancel.side_effect = lambda: setattr(timer, "cancelled", True)
        self._timers.append((self.now + delay, call, of, timer))
        return timer

    def move(self, seconds: float) -> None:
        """So much time passes, in which no handshake has a turn."""
        self.now += seconds
        due = [each for each in self._timers if each[0] <= self.now]
        self._timers = [each for each in self._timers if each[0] > self.now]
        for _, call, of, timer in due:
            if not timer.cancelled:
                call(*of)


async def held(serve: Serve) -> tuple[Service, Hands]:
    """A listener whose handshakes have the time that the test says."""
    service, hands = (
        await serve(TlsLimits(first_flight=5, handshake=15, handshake_wait=10)),
        Hands(),
    )
    service.listener.loop = hands
    return service, hands


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


async def test_who_goes_on_does_not_wait_behind_those_who_begin(serve: Serve):
    service = await serve()
    first, *herd = [Peer(service.listener) for _ in range(5)]
    first.send_flight()
    await asyncio.sleep(0)
    first.receive()
    for peer in herd:
        peer.send_flight()
    first.send_flight()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sum(peer.is_answered for peer in herd) == 1
    assert not service.connections.empty()


async def test_those_who_begin_do_not_wait_behind_those_who_go_on(serve: Serve):
    service = await serve()
    going_on = [Peer(service.listener) for _ in range(4)]
    for peer in going_on:
        peer.send_flight()
    for _ in going_on:
        await asyncio.sleep(0)
    late = Peer(service.listener)
    for peer in going_on:
        peer.receive()
        peer.send_flight()
    late.send_flight()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert late.is_answered


async def test_clock_of_a_handshake_stands_while_its_flight_waits_for_its_turn(serve: Serve):
    service, hands = await held(serve)
    peer = Peer(service.listener)
    hands.move(1)
    peer.send_flight()
    hands.move(9)
    await asyncio.sleep(0)
    assert peer.is_answered
    hands.move(13.9)
    assert service.refusals.empty()
    hands.move(0.2)
    assert (await service.refusal()).reason is RefusalReason.HANDSHAKE_TIMEOUT


async def test_clock_goes_on_for_a_piece_of_a_flight(serve: Serve):
    service, hands = await held(serve)
    peer = Peer(service.listener)
    peer.connection.get_buffer(0)[:3] = b"\x16\x03\x01"
    peer.connection.buffer_updated(3)
    hands.move(6)
    await asyncio.sleep(0)
    assert (await service.refusal()).reason is RefusalReason.FIRST_FLIGHT_TIMEOUT


async def test_who_waited_for_too_long_is_told_to_come_again(serve: Serve):
    service, hands = await held(serve)
    peer = Peer(service.listener)
    peer.send_flight()
    hands.move(11)
    await asyncio.sleep(0)
    assert (await service.refusal()).reason is RefusalReason.BUSY
    assert not peer.is_answered


@pytest.mark.parametrize("end", ["eof", "reset"])
async def test_nothing_is_worked_for_a_peer_that_left_while_it_waited(serve: Serve, end: str):
    service, hands = await held(serve)
    peer = Peer(service.listener)
    peer.send_flight()
    hands.move(2)
    if end == "eof":
        assert not peer.connection.eof_received()
    peer.connection.connection_lost(None)
    await asyncio.sleep(0)
    assert not peer.is_answered
    assert (await service.refusal()).reason is RefusalReason.KEPT_WAITING


class Beginner:
    """A connection whose first step takes so many seconds."""

    def __init__(self, hands: Hands, seconds: float) -> None:
        self._hands = hands
        self._seconds = seconds

    def take_turn(self) -> bool:
        self._hands.now += self._seconds
        return True


def line(step: float) -> int:
    """How many may wait where 10 s are allowed, when others took so many seconds each to begin."""
    hands = Hands()
    soon: list[tuple[Callable[[bool], None], bool]] = []
    loop = Mock(time=hands.time, call_soon=lambda call, of: soon.append((call, of)))
    turns = Turns(loop, 10.0)
    for _ in range(500):
        turns.add(Beginner(hands, step), begins=True)
    for _ in range(490):
        call, of = soon.pop()
        call(of)
    waiting = 10
    while waiting < 2000 and turns.add(Beginner(hands, step), begins=True):
        waiting += 1
    return waiting


def test_no_more_wait_than_have_their_turn_in_time():
    assert line(0.001) == 2000
    assert line(0.02) == pytest.approx(500, rel=0.01)


def test_a_few_may_wait_at_whatever_pace():
    assert line(60.0) == 32
