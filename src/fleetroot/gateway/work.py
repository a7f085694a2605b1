"""What a connection has asked for and is not answered yet: run in order or side by side, counted.

Reading stops while a device has too much open, and goes on when half of it is done, so that a fast
device waits and no memory grows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


class Work:
    """The work of one connection. Use it from one event loop.

    Attributes:
        is_full: whether so much is open that no more should be taken.
    """

    __slots__ = (
        "_changed",
        "_failed",
        "_limit",
        "_open",
        "_ordering",
        "_steps",
        "_tasks",
        "is_full",
    )

    def __init__(
        self, limit: int, *, changed: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Describes the work.

        Args:
            limit: how much may be open before it is full.
            changed: called when `is_full` changes.
            failed: called with what a piece of work raised.
        """
        self._limit = limit
        self._changed = changed
        self._failed = failed
        self._open = 0
        self._steps: deque[Callable[[], Awaitable[None]]] = deque()
        self._ordering = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_full = False

    def in_order(self, step: Callable[[], Awaitable[None]]) -> None:
        """Runs `step` after every step that was given before it."""
        self._count(1)
        self._steps.append(step)
        if not self._ordering:
            self._ordering = True
            self._start(self._run_steps())

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` beside everything else."""
        self._count(1)
        self._start(self._run(work))

    async def settle(self) -> None:
        """Waits until nothing is being done any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_steps(self) -> None:
        # The first step has waited for a turn of the loop, as its task's beginning.
        await self._run(self._steps.popleft()())
        while self._steps:
            # A step may never wait for anything: let other connections have their turn.
            await asyncio.sleep(0)
            await self._run(self._steps.popleft()())
        self._ordering = False

    async def _run(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the owner decides what it is
            self._failed(error)
        finally:
            self._count(-1)

    def _count(self, by: int) -> None:
        self._open += by
        full = self._open >= self._limit or (self.is_full and self._open > self._limit // 2)
        if full != self.is_full:
            self.is_full = full
            self._changed()
