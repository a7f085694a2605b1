"""What is asked in one turn of the loop is answered together, and each is told its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fleetroot.provisioning.together import Together, each


class Halves:
    """Answers with the half of every number, and keeps what was asked at once."""

    def __init__(self) -> None:
        self.asked: list[Sequence[int]] = []
        self.numbers = Together(self._halve)

    async def _halve(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.asked.append(numbers)
        return each(_half, numbers)


def _half(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


async def test_the_questions_of_a_turn_are_handed_over_at_once() -> None:
    halves = Halves()
    assert await asyncio.gather(*map(halves.numbers.ask, [2, 4, 6])) == [1, 2, 3]
    assert halves.asked == [[2, 4, 6]]


async def test_an_exception_is_raised_to_the_one_who_asked() -> None:
    halves = Halves()
    given = await asyncio.gather(*map(halves.numbers.ask, [2, 3, 4]), return_exceptions=True)
    assert (given[0], str(given[1]), given[2]) == (1, "3 is odd", 2)


async def test_what_breaks_for_all_is_raised_to_all() -> None:
    async def broken(_: Sequence[int]) -> Sequence[int]:
        raise OSError("gone")

    numbers = Together(broken)
    given = await asyncio.gather(*map(numbers.ask, [1, 2]), return_exceptions=True)
    assert [str(error) for error in given] == ["gone", "gone"]


async def test_more_than_sixty_four_are_handed_over_in_parts() -> None:
    halves = Halves()
    numbers = range(0, 300, 2)
    assert await asyncio.gather(*map(halves.numbers.ask, numbers)) == [n // 2 for n in numbers]
    assert [len(part) for part in halves.asked] == [64, 64, 22]


async def test_one_who_has_gone_leaves_the_others_their_answers() -> None:
    halves = Halves()
    asking = [asyncio.create_task(halves.numbers.ask(number)) for number in (2, 4)]
    await asyncio.sleep(0)
    asking[0].cancel()
    assert await asking[1] == 2
    with pytest.raises(asyncio.CancelledError):
        await asking[0]


def test_a_row_that_failed_once_takes_no_further_step() -> None:
    first = each(_half, [2, 3])
    taken = each(lambda number, half: (number, half), [2, 3], first)
    assert taken == [(2, 1), first[1]]
