"""Connections end with the proof that opened them, and cost no timer until then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from fleet import Certified
from fleetroot.hub.expirations import Expirations
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import Ending
from workbench import Wire, Workbench

DEVICE = "dev-1"
SOON = timedelta(milliseconds=50)


async def before_its_end(bench: Workbench, by: timedelta) -> Certified:
    held = await bench.provision(DEVICE)
    bench.clock.advance(held.leaf.not_valid_after_utc - bench.clock.now() - by)
    return held


async def ended(wire: Wire) -> list[Ending]:
    async with asyncio.timeout(10):
        while not wire.endings:
            await asyncio.sleep(0.005)
    return wire.endings


@contextmanager
def counted_timers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds of the timers that end sessions."""
    loop, found = asyncio.get_running_loop(), list[float]()
    call_later = loop.call_later

    def counting(delay: float, callback: object, *args: object, **how: object) -> object:
        if getattr(callback, "__qualname__", "").startswith("Expirations."):
            found.append(delay)
        return call_later(delay, callback, *args, **how)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_later", counting)
        yield found


async def test_connection_that_is_opened_shortly_before_ends_in_time(bench: Workbench) -> None:
    await bench.connect(DEVICE, await before_its_end(bench, SOON), wire := Wire())
    assert await ended(wire) == [Ending.CREDENTIAL_EXPIRED]


async def test_connection_that_was_opened_long_before_ends_in_time(bench: Workbench) -> None:
    held = await bench.provision(DEVICE)
    await bench.connect(DEVICE, held, wire := Wire())
    bench.clock.advance(held.leaf.not_valid_after_utc - bench.clock.now() - SOON)
    await bench.hubs.end_expired()
    assert wire.endings == []
    assert await ended(wire) == [Ending.CREDENTIAL_EXPIRED]


async def test_long_certificate_costs_no_timer(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await bench.provision(DEVICE)
    with counted_timers(monkeypatch) as timers:
        await bench.connect(DEVICE, held)
        await bench.hubs.end_expired()
    assert timers == []


async def test_every_end_is_seen_two_looks_before(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look may come late, or fail."""
    held = await bench.provision(DEVICE)
    await bench.connect(DEVICE, held)
    bench.clock.advance(held.leaf.not_valid_after_utc - bench.clock.now() - timedelta(minutes=2))
    with counted_timers(monkeypatch) as timers:
        await bench.hubs.end_expired()
    assert timers == [120.0]


async def test_session_that_is_over_leaves_no_timer(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await before_its_end(bench, timedelta(minutes=1))
    session = await bench.connect(DEVICE, held, wire := Wire())
    bench.hubs.disconnect(session)
    bench.clock.advance(timedelta(minutes=2))
    await bench.hubs.end_expired()
    assert wire.endings == []
    assert bench.hubs._expirations._timers == {}


async def test_connection_may_outlive_its_certificate_where_that_is_set(bench: Workbench) -> None:
    held = await bench.provision(DEVICE)
    session: LiveSession = await bench.connect(DEVICE, held, wire := Wire())
    kept = Expirations(bench.hubs.live, bench.clock, of_certificates=False)
    bench.clock.advance(timedelta(days=60))
    kept.entered(session)
    await kept.look()
    await asyncio.sleep(0.02)
    assert wire.endings == []
