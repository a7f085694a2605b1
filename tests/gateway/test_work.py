"""The work of a connection: its order, its bound, and what becomes of failures."""

from __future__ import annotations

import asyncio

from fleetroot.gateway.work import Work


class Owner:
    def __init__(self, limit: int) -> None:
        self.full: list[bool] = []
        self.errors: list[Exception] = []
        self.work = Work(
            limit,
            changed=lambda: self.full.append(self.work.is_full),
            failed=self.errors.append,
        )


async def test_steps_run_one_after_the_other_in_their_order() -> None:
    owner, seen = Owner(100), []

    async def step(name: str) -> None:
        seen.append(f"{name} begins")
        await asyncio.sleep(0)
        seen.append(f"{name} ends")

    owner.work.in_order(lambda: step("one"))
    owner.work.in_order(lambda: step("two"))
    await owner.work.settle()
    assert seen == ["one begins", "one ends", "two begins", "two ends"]


async def test_work_beside_does_not_wait_for_steps() -> None:
    owner, gate, seen = Owner(100), asyncio.Event(), []

    async def wait() -> None:
        await gate.wait()
        seen.append("step")

    async def note() -> None:
        seen.append("beside")
        gate.set()

    owner.work.in_order(wait)
    owner.work.beside(note())
    await owner.work.settle()
    assert seen == ["beside", "step"]


async def test_it_is_full_at_its_limit_and_has_room_again_at_half() -> None:
    owner, gates = Owner(4), [asyncio.Event() for _ in range(4)]
    for gate in gates:
        owner.work.beside(gate.wait())  # type: ignore[arg-type]
    assert owner.full == [True]
    gates[0].set()
    await asyncio.sleep(0.01)
    assert owner.full == [True]
    gates[1].set()
    await asyncio.sleep(0.01)
    assert owner.full == [True, False]
    for gate in gates:
        gate.set()
    await owner.work.settle()


async def test_failure_is_told_and_the_next_step_runs() -> None:
    owner, seen = Owner(100), []

    async def fail() -> None:
        raise ValueError("no")

    async def go_on() -> None:
        seen.append("went on")

    owner.work.in_order(fail)
    owner.work.in_order(go_on)
    await owner.work.settle()
    assert [str(error) for error in owner.errors] == ["no"]
    assert seen == ["went on"]


async def test_steps_that_never_wait_let_others_have_their_turn() -> None:
    owner, turns = Owner(1000), 0

    async def busy() -> None:
        return

    for _ in range(100):
        owner.work.in_order(busy)
    while owner.work._steps:
        turns += 1
        await asyncio.sleep(0)
    assert turns > 50
