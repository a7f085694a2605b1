"""What one does to a device while another is at each place of what it does to it.

Whoever works on a device reads and writes a few times; before and after each of these is a place
where somebody else may come and go. Here somebody comes at the first place, then at the second, and
so on until there is no further one. And where two write at the same moment, their units are made to
share a commit, in either order. The files beside this one say what is promised at single places;
here is what must hold after all of them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest

from fleet import Certified, device_csr
from fleetroot.audit import SYSTEM
from fleetroot.errors import FleetrootError, Unauthorized
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import CredentialWish, Ending, Issued
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from invariants import assert_holds, contents
from workbench import Step, Wire, Workbench


class Actors:
    """Everybody who does something to the device, and what they were given."""

    def __init__(self, bench: Workbench, device_id: str, first: Certified) -> None:
        self.bench = bench
        self.device_id = device_id
        self.given = [first]
        self.sessions: list[LiveSession] = []
        self._requests = itertools.count()

    @classmethod
    async def of_device(cls, bench: Workbench, device_id: str, *, connected: bool) -> Self:
        """A device that was provisioned, and is connected or not."""
        actors = cls(bench, device_id, await bench.provision(device_id))
        if connected:
            await actors.connect()
        return actors

    async def provision(self) -> None:
        self.given.append(await self.bench.provision(self.device_id))

    async def connect(self) -> None:
        self.sessions.append(await self.bench.connect(self.device_id, self.given[0]))

    async def renew(self) -> None:
        """Over a connection that is there, with a notice that was not heard or without."""
        session = self.sessions[0]
        key, csr = device_csr(self.device_id)
        wire = Wire()
        session.connection = wire
        wish = CredentialWish(self.device_id, csr, None)
        await self.bench.renew(session, f"{next(self._requests)}", wish)
        for answer in wire.answers:
            if isinstance(answer, Issued):
                self.given.append(Certified(answer.chain.certificates, key))

    async def revoke(self) -> None:
        await self.bench.registry.revoke(self.bench.made.namespace, self.device_id, by=SYSTEM)

    async def disable(self) -> None:
        await self.bench.registry.set_enabled(
            self.bench.made.namespace, self.device_id, False, by=SYSTEM
        )

    async def revoke_for_good(self) -> None:
        await self.bench.registry.revoke(
            self.bench.made.namespace, self.device_id, disable=True, by=SYSTEM
        )

    async def disable_enrollment(self) -> None:
        await self._set_enrollment(enabled=False)

    async def enable_enrollment(self) -> None:
        await self._set_enrollment(enabled=True)

    async def _set_enrollment(self, *, enabled: bool) -> None:
        settings = EnrollmentSettings(policy_id=self.bench.made.policy.id, enabled=enabled)
        await self.bench.administration.put(
            self.bench.made.service,
            EnrollmentKind.GROUP,
            "default",
            settings,
            if_match="*",
            by=SYSTEM,
        )

    # --- afterwards

    async def check(self) -> None:
        """What holds whoever came first: certificates that count are those of the generation, and
        who is connected would be let in.
        """
        bench = self.bench
        await bench.outbox.drain()
        await bench.settled()
        assert_holds(await contents(bench.store), (each.chain[0] for each in self.given))
        standing = [session for session in self.sessions if session.ended is None]
        assert len(standing) <= 1
        live = bench.hubs.live.of(bench.made.namespace.id, self.device_id)
        assert [session for session in live if session.ended is None] == standing
        identity = await bench.identity(self.device_id)
        assert identity is not None
        for session in standing:
            assert session.epoch == identity.session_epoch

    async def is_let_in(self, certified: Certified) -> bool:
        try:
            await self.bench.connect(self.device_id, certified)
        except Unauthorized:
            return False
        return True

    async def lets_in(self) -> list[bool]:
        """For each certificate that was given."""
        return [await self.is_let_in(certified) for certified in self.given]


Act = Callable[[Actors], Awaitable[None]]


class Place:
    """The place of that number in what is done next; somebody's step is taken there."""

    def __init__(self, bench: Workbench, number: int, step: Step) -> None:
        self._store: Any = bench.store
        self._number = number
        self._step = step
        self._count = itertools.count()
        self.taken = False
        self._store._step = self._pass

    async def _pass(self, _: list[Step]) -> None:
        if not self.taken and next(self._count) == self._number:
            self.taken = True
            await self._step()


async def tried(acting: Awaitable[None]) -> None:
    """Does something that may be refused."""
    try:
        await acting
    except FleetrootError:
        return


async def at_every_place(
    bench: Workbench, act: Act, interfere: Act, check: Act, *, connected: bool
) -> int:
    """How many places there were; at each it is another device."""
    for number in itertools.count():
        actors = await Actors.of_device(bench, f"dev-{number}", connected=connected)
        place = Place(bench, number, lambda actors=actors: tried(interfere(actors)))
        await tried(act(actors))
        del bench.store._step  # type: ignore[attr-defined]
        await actors.check()
        if not place.taken:
            return number
        await check(actors)
        await actors.enable_enrollment()
    raise AssertionError


async def nobody_is_let_in(actors: Actors) -> None:
    assert not any(session.ended is None for session in actors.sessions)
    assert not any(await actors.lets_in())


async def only_what_came_after_is_let_in(actors: Actors) -> None:
    """A certificate from before the revocation is refused; one from after it counts."""
    first, *later = await actors.lets_in()
    assert not first
    device = await actors.bench.registry.device(actors.bench.made.namespace, actors.device_id)
    newest = (await actors.bench.inventory(actors.device_id))[0]
    assert newest.certificate == actors.given[-1].chain[0]
    assert later == [newest.generation == device.generation] * len(later)


async def all_that_was_given_is_let_in(actors: Actors) -> None:
    assert all(await actors.lets_in())


async def enabled_again_all_is_let_in(actors: Actors) -> None:
    await nobody_is_let_in(actors)
    await actors.bench.registry.set_enabled(
        actors.bench.made.namespace, actors.device_id, True, by=SYSTEM
    )
    await all_that_was_given_is_let_in(actors)


async def exactly_one_is_connected(actors: Actors) -> None:
    assert [session.ended for session in actors.sessions].count(None) == 1
    assert all(s.ended in (None, Ending.REPLACED) for s in actors.sessions)


@pytest.mark.parametrize(
    ("act", "interfere", "check", "places"),
    [
        # A registration reads, and writes once; it is done again when it met somebody.
        (Actors.provision, Actors.revoke, only_what_came_after_is_let_in, 4),
        (Actors.provision, Actors.disable, enabled_again_all_is_let_in, 4),
        (Actors.provision, Actors.revoke_for_good, nobody_is_let_in, 4),
        (Actors.provision, Actors.disable_enrollment, all_that_was_given_is_let_in, 4),
        (Actors.provision, Actors.provision, all_that_was_given_is_let_in, 4),
        # A connect is judged and begins in one unit of work.
        (Actors.connect, Actors.revoke, nobody_is_let_in, 2),
        (Actors.connect, Actors.disable, nobody_is_let_in, 2),
        (Actors.connect, Actors.connect, exactly_one_is_connected, 2),
        (Actors.connect, Actors.provision, all_that_was_given_is_let_in, 2),
        # The other way round.
        (Actors.revoke, Actors.provision, only_what_came_after_is_let_in, 2),
        (Actors.revoke, Actors.connect, nobody_is_let_in, 2),
        (Actors.disable, Actors.provision, enabled_again_all_is_let_in, 2),
        (Actors.disable, Actors.connect, nobody_is_let_in, 2),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_device_is_whole_wherever_they_meet(
    bench: Workbench,
    act: Act,
    interfere: Act,
    check: Act,
    places: int,
) -> None:
    assert await at_every_place(bench, act, interfere, check, connected=False) >= places


@pytest.mark.parametrize(
    ("act", "interfere", "check", "places"),
    [
        # A renewal reads, opens a request, reads the device, and writes the certificate.
        (Actors.renew, Actors.revoke, nobody_is_let_in, 8),
        (Actors.renew, Actors.disable, enabled_again_all_is_let_in, 8),
        (Actors.renew, Actors.renew, all_that_was_given_is_let_in, 8),
        (Actors.renew, Actors.connect, all_that_was_given_is_let_in, 8),
        (Actors.renew, Actors.provision, all_that_was_given_is_let_in, 8),
        (Actors.revoke, Actors.renew, nobody_is_let_in, 2),
        (Actors.disable, Actors.renew, enabled_again_all_is_let_in, 2),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_connected_device_is_whole_wherever_they_meet(
    bench: Workbench,
    act: Act,
    interfere: Act,
    check: Act,
    places: int,
) -> None:
    assert await at_every_place(bench, act, interfere, check, connected=True) >= places


# --- in one commit


async def in_one_commit(actors: Actors, *acting: Act) -> None:
    """Does several things whose next units of work are handed over together, in that order."""
    gates = [asyncio.Event() for _ in acting]
    reached = []

    def wait_at(gate: asyncio.Event) -> Step:
        async def wait() -> None:
            reached.append(gate)
            await gate.wait()

        return wait

    tasks = []
    for gate, act in zip(gates, acting, strict=True):
        actors.bench.store.before_write.append(wait_at(gate))
        tasks.append(asyncio.create_task(tried(act(actors))))
        while gate not in reached:
            await asyncio.sleep(0)
    for gate in gates:
        gate.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])
@pytest.mark.parametrize(
    ("change", "act", "check"),
    [
        (Actors.revoke, Actors.provision, only_what_came_after_is_let_in),
        (Actors.revoke, Actors.connect, nobody_is_let_in),
        (Actors.disable, Actors.provision, enabled_again_all_is_let_in),
        (Actors.disable, Actors.connect, nobody_is_let_in),
        (Actors.connect, Actors.connect, exactly_one_is_connected),
        (Actors.provision, Actors.provision, all_that_was_given_is_let_in),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_device_is_whole_when_they_share_a_commit(
    bench: Workbench,
    change: Act,
    act: Act,
    check: Act,
    order: int,
) -> None:
    actors = await Actors.of_device(bench, "dev-1", connected=False)
    await in_one_commit(actors, *(change, act)[::order])
    await actors.check()
    await check(actors)


@pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])
@pytest.mark.parametrize("moment", ["as it is opened", "as it is recorded"])
async def test_revocation_that_shares_a_commit_with_a_renewal_counts(
    bench: Workbench, order: int, moment: str
) -> None:
    actors = await Actors.of_device(bench, "dev-1", connected=True)
    store: Any = bench.store
    write = store.write

    async def pass_by(unit: Any) -> Any:
        """The opening of the request does not stop at the gate."""
        if moment == "as it is recorded" and "_request" in unit.__qualname__:
            return await store.store.write(unit)
        return await write(unit)

    store.write = pass_by
    await in_one_commit(actors, *(Actors.renew, Actors.revoke)[::order])
    await actors.check()
    await nobody_is_let_in(actors)
