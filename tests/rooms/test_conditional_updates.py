"""What a unit of work may change only if something is still so, while another changes just that.

The two are interleaved on two connections: one stops after some statements, the other runs until
it is done or waits for the first, and then the first goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import pytest

import database
from fleet import device_csr
from fleetroot.audit import SYSTEM
from fleetroot.errors import CredentialRequestActive, EtagMismatch, FleetrootError
from fleetroot.hub.model import Accepted, Channel, CredentialWish, Issued
from fleetroot.provisioning.administration import EnrollmentWithKeys
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from fleetroot.storage import Command, PostgresStore, Query, Transaction
from workbench import Wire, Workbench

pytestmark = pytest.mark.postgresql(reason="SQLite runs one writing unit after the other")
SECONDS = 10
DEVICE = "dev-1"
WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


class Stopping:
    """A transaction that stops after a number of statements."""

    def __init__(self, tx: Transaction, after: int, stop: Callable[[], None]) -> None:
        self._tx = tx
        self._left = after
        self._stop = stop

    def _done(self, result: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self._stop()
        return result

    def first(self, query: Query[Any], /, **parameters: Any) -> Any:
        return self._done(self._tx.first(query, **parameters))

    def all(self, query: Query[Any], /, **parameters: Any) -> Any:
        return self._done(self._tx.all(query, **parameters))

    def run(self, command: Command, /, **parameters: Any) -> int:
        return int(self._done(self._tx.run(command, **parameters)))

    def run_many(self, command: Command, rows: Iterable[Mapping[str, Any]], /) -> int:
        return int(self._done(self._tx.run_many(command, rows)))


class Interleaving:
    """Makes the bench's next write stop after some of its statements, once."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._reached = threading.Event()
        self._go_on = threading.Event()
        store = bench.store.store
        assert isinstance(store, PostgresStore)
        self._store = store
        self._after = 1

    def _write(self, unit: Callable[[Transaction], Any]) -> Awaitable[Any]:
        del self._store.write  # type: ignore[method-assign]
        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = True
            self._reached.set()
            assert self._go_on.wait(SECONDS)

        def stopping(tx: Transaction) -> Any:
            return unit(tx if stopped else Stopping(tx, self._after, stop))

        return self._store.write(stopping)

    async def run(
        self, first: Awaitable[Any], second: Callable[[], Awaitable[Any]], *, after: int = 1
    ) -> list[Any]:
        """Starts `first`, whose next write stops `after` so many statements; then `second` until it
        is done or waits for a lock; then both to their ends. Their values, or what they raised.
        """
        self._after = after
        self._store.write = self._write  # type: ignore[method-assign, assignment]
        one = asyncio.ensure_future(first)
        try:
            assert await asyncio.to_thread(self._reached.wait, SECONDS)
            two = asyncio.ensure_future(second())
            async with asyncio.timeout(SECONDS):
                while not two.done() and not await asyncio.to_thread(self._somebody_waits):
                    await asyncio.sleep(0.01)
        finally:
            self._go_on.set()
        return await asyncio.gather(one, two, return_exceptions=True)

    def _somebody_waits(self) -> bool:
        [(count,)] = database.rows(self._bench.folder, WAITING)
        return bool(count)


@pytest.fixture
def interleaved(bench: Workbench) -> Interleaving:
    return Interleaving(bench)


async def revoke(bench: Workbench) -> object:
    return await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)


async def disable(bench: Workbench) -> object:
    return await bench.registry.set_enabled(bench.made.namespace, DEVICE, False, by=SYSTEM)


async def assert_nothing_counts_that_should_not(bench: Workbench, change: object) -> None:
    """Every certificate that is not revoked is of the generation that the device has now."""
    device = await bench.registry.device(bench.made.namespace, DEVICE)
    good = [c for c in await bench.inventory(DEVICE) if c.revoked_at is None]
    assert all(certificate.generation == device.generation for certificate in good)
    assert device.enabled is (change is not disable)


CHANGES = pytest.mark.parametrize("change", [revoke, disable])
AFTER = pytest.mark.parametrize("after", [1, 2, 3])


@CHANGES
@AFTER
async def test_change_while_a_certificate_is_being_recorded(
    bench: Workbench,
    interleaved: Interleaving,
    change: Callable[[Workbench], Awaitable[object]],
    after: int,
) -> None:
    await bench.provision(DEVICE)
    _, csr = device_csr(DEVICE)
    results = await interleaved.run(bench.register(DEVICE, csr), lambda: change(bench), after=after)
    assert not isinstance(results[1], BaseException)
    await assert_nothing_counts_that_should_not(bench, change)


@CHANGES
@AFTER
async def test_certificate_while_a_change_is_being_made(
    bench: Workbench,
    interleaved: Interleaving,
    change: Callable[[Workbench], Awaitable[object]],
    after: int,
) -> None:
    await bench.provision(DEVICE)
    _, csr = device_csr(DEVICE)
    results = await interleaved.run(change(bench), lambda: bench.register(DEVICE, csr), after=after)
    assert not isinstance(results[0], BaseException)
    await assert_nothing_counts_that_should_not(bench, change)


async def test_first_registrations_of_one_device_make_one_device(
    bench: Workbench, interleaved: Interleaving
) -> None:
    csrs = [device_csr(DEVICE)[1] for _ in range(2)]
    results = await interleaved.run(
        bench.register(DEVICE, csrs[0]), lambda: bench.register(DEVICE, csrs[1])
    )
    assert not [each for each in results if isinstance(each, BaseException)]
    assert len(await bench.registry.devices(bench.made.namespace)) == 1
    generations = {each.generation for each in await bench.inventory(DEVICE)}
    assert len(await bench.inventory(DEVICE)) == 2
    assert len(generations) == 1


async def test_connections_of_one_device_have_epochs_of_their_own(
    bench: Workbench, interleaved: Interleaving
) -> None:
    certified = await bench.provision(DEVICE)
    results = await interleaved.run(
        bench.connect(DEVICE, certified), lambda: bench.connect(DEVICE, certified)
    )
    sessions = [each for each in results if not isinstance(each, BaseException)]
    [survivor] = [session for session in sessions if session.ended is None]
    identity = await bench.identity(DEVICE)
    assert identity is not None
    assert survivor.epoch == identity.session_epoch
    assert len({session.epoch for session in sessions}) == len(sessions)


async def test_session_that_is_being_replaced_changes_nothing(
    bench: Workbench, interleaved: Interleaving
) -> None:
    """The fence: what it reports is there before its successor began, or it is refused."""
    certified = await bench.provision(DEVICE)
    old = await bench.connect(DEVICE, certified)
    results = await interleaved.run(
        bench.hubs.report(old, b'{"by":"old"}'), lambda: bench.connect(DEVICE, certified)
    )
    new = results[1]
    assert new.ended is None
    reported = (await bench.hubs.twin(new)).reported
    assert reported == ('{"by":"old"}' if results[0] == 2 else "{}")


async def test_revocation_while_a_session_begins_lets_nobody_stay(
    bench: Workbench, interleaved: Interleaving
) -> None:
    certified = await bench.provision(DEVICE)
    results = await interleaved.run(bench.connect(DEVICE, certified), lambda: revoke(bench))
    await bench.outbox.drain()
    assert isinstance(results[0], FleetrootError) or results[0].ended is not None
    assert len([session for session in bench.hubs.live if session.ended is None]) == 0


async def test_of_two_writers_with_one_etag_one_is_told_of_the_other(
    bench: Workbench, interleaved: Interleaving
) -> None:
    group = bench.made.group
    assert group is not None

    def put() -> Awaitable[EnrollmentWithKeys]:
        return bench.administration.put(
            bench.made.service,
            EnrollmentKind.GROUP,
            "default",
            EnrollmentSettings(policy_id=bench.made.policy.id),
            if_match=group.enrollment.etag,
            by=SYSTEM,
        )

    results = await interleaved.run(put(), put)
    assert sorted(type(each).__name__ for each in results) == [
        EnrollmentWithKeys.__name__,
        EtagMismatch.__name__,
    ]


async def test_of_two_certificate_requests_at_once_one_is_taken(
    bench: Workbench, interleaved: Interleaving
) -> None:
    certified = await bench.provision(DEVICE)
    wire = Wire()
    session = await bench.connect(DEVICE, certified, wire)
    session.subscriptions[Channel.CREDENTIALS] = 1
    wishes = [CredentialWish(DEVICE, device_csr(DEVICE)[1], None) for _ in range(2)]
    await interleaved.run(
        bench.renew(session, "one", wishes[0]),
        lambda: bench.renew(session, "two", wishes[1]),
    )
    kinds = [type(answer) for answer in wire.answers]
    if CredentialRequestActive in kinds:
        assert sorted(kind.__name__ for kind in kinds) == sorted(
            kind.__name__ for kind in (Accepted, Issued, CredentialRequestActive)
        )
    else:  # one after the other, after all: each was answered to its end before the next
        assert kinds == [Accepted, Issued] * 2
    issued = [answer for answer in wire.answers if isinstance(answer, Issued)]
    assert len(await bench.inventory(DEVICE)) == 1 + len(issued)
