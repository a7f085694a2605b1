"""What is asked in one turn of the event loop, answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


_MOST: Final = 64  # at once, so that no step holds up the loop for long


class _Asked(NamedTuple, Generic[Q, A]):
    question: Q
    answer: asyncio.Future[A]


class Together(Generic[Q, A]):
    """Collects the questions of a turn and hands them to `answer_all`, which gives the answers in
    their order; an exception among them is raised to the one who asked. Those who asked together go
    on together, too.
    """

    def __init__(
        self, answer_all: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]]
    ) -> None:
        self._answer_all = answer_all
        self._asked: list[_Asked[Q, A]] = []
        self._answering: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q) -> A:
        """The answer.

        Raises:
            Exception: what was answered instead; or what `answer_all` raised, to all who asked.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked[Q, A](question, loop.create_future())
        self._asked.append(asked)
        if len(self._asked) == 1:
            loop.call_soon(self._begin)
        return await asked.answer

    def _begin(self) -> None:
        asked, self._asked = self._asked[:_MOST], self._asked[_MOST:]
        if self._asked:
            asyncio.get_running_loop().call_soon(self._begin)
        task = asyncio.get_running_loop().create_task(self._answer(asked))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, asked: Sequence[_Asked[Q, A]]) -> None:
        answers: Sequence[A | Exception]
        try:
            answers = await self._answer_all([each.question for each in asked])
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            answers = [error] * len(asked)
        for each, answer in zip(asked, answers, strict=True):
            if each.answer.done():  # whoever asked is gone; what it asked for is done all the same
                continue
            if isinstance(answer, Exception):
                each.answer.set_exception(answer)
            else:
                each.answer.set_result(answer)


def each(step: Callable[..., A], *columns: Sequence[Any]) -> list[A | Exception]:
    """What `step` gives for every row of the columns. Where it raises, the exception stands
    instead; where one is in the row already, that one does.
    """
    answers: list[A | Exception] = []
    for row in zip(*columns, strict=True):
        for value in row:
            if isinstance(value, Exception):
                answers.append(value)
                break
        else:
            try:
                answers.append(step(*row))
            except Exception as error:  # noqa: BLE001 - of this row, and no other's
                answers.append(error)
    return answers
