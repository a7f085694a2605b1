"""Faults between a server and its database, at the write of a test's choice.

A server has one store, and every write of it passes here. The one that is chosen fails, or is the
last thing that the server ever does: it is dead from then on, as after SIGKILL; nothing more is
written, and nobody is told anything. What it had committed is on the database for the next server.

Before what is left of a dead server in this process is taken down, it is buried: who asks its store
then gets an error at once, where a server that stops waits for its last words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Any, TypeVar

from fleetroot.errors import Unavailable
from fleetroot.storage import Transaction

T = TypeVar("T")


class Fault(StrEnum):
    """What happens to the write."""

    FAILS = "the database fails before the commit"
    IS_LOST = "the database commits, and its answer is lost"
    DIES_BEFORE = "the server dies before the commit"
    DIES_AFTER = "the server dies after the commit"

    @property
    def kills(self) -> bool:
        return self in (Fault.DIES_BEFORE, Fault.DIES_AFTER)

    @property
    def commits(self) -> bool:
        """Whether the write is done all the same."""
        return self in (Fault.IS_LOST, Fault.DIES_AFTER)


class Faults:
    """Takes over a server's store: the write of some number has a fault."""

    def __init__(self, store: Any) -> None:
        self._read, self._write = store.read, store.write
        store.read, store.write, store.submit = self.read, self.write, self.submit
        self.happened = asyncio.Event()
        self._fault: Fault | None = None
        self._left = 0
        self._buried = False
        self._submitted: set[asyncio.Task[Any]] = set()

    def inject(self, fault: Fault, write: int) -> None:
        """Lets the fault happen to the write of that number from now on; 0 is the next."""
        self._fault, self._left = fault, write
        self.happened.clear()

    @property
    def killed(self) -> bool:
        """Whether the server is dead."""
        return self.happened.is_set() and self._fault is not None and self._fault.kills

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        await self._live()
        return await self._read(unit)

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        await self._live()
        due = self._fault is not None and self._left == 0 and not self.happened.is_set()
        self._left -= 1
        if not due:
            value = await self._write(unit)
            await self._live()  # it may have died meanwhile
            return value
        if self._fault is not None and self._fault.commits:
            await self._write(unit)
        self.happened.set()
        await self._live()
        raise Unavailable("the database cannot answer now", retry_after=1)

    def submit(self, unit: Callable[[Transaction], object]) -> None:
        task = asyncio.create_task(self._submit(unit))
        self._submitted.add(task)
        task.add_done_callback(self._submitted.discard)

    async def _submit(self, unit: Callable[[Transaction], object]) -> None:
        with suppress(Unavailable):  # nobody waits for it
            await self.write(unit)

    async def settle(self) -> None:
        """Waits until what was submitted is written."""
        while self._submitted and not self.killed:
            happens = asyncio.create_task(self.happened.wait())
            await asyncio.wait({*self._submitted, happens}, return_when="FIRST_COMPLETED")
            happens.cancel()

    def bury(self) -> None:
        """Lets go of a server, dead or not."""
        self._buried = self.killed
        if not self._buried:
            self._fault = None

    async def _live(self) -> None:
        """The dead do not go on."""
        if self._buried:
            raise Unavailable("the server is dead")
        if self.killed:
            await asyncio.Event().wait()
