"""Appends to the event log, one unit of work at a time.

Readers go on from the highest sequence number that they saw, so the order of the numbers must be
the order of commits, on a database too that runs units beside each other; and units that each count
on from the newest row would there only meet. So what comes while a unit is being committed waits,
and goes into the next one together. What was announced of devices is moved here by the same hand,
before what they send later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from fleetroot.errors import Unavailable
from fleetroot.hub import events, hubs
from fleetroot.hub.model import Message, Principal
from fleetroot.registry import announcements
from fleetroot.storage import Store, Transaction

_MOST: Final = 256  # messages in one unit, and announcements
_BETWEEN_LOOKS: Final = 0.25  # seconds, for announcements


class _Waiting(NamedTuple):
    sender: Principal
    message: Message
    at: datetime
    appended: asyncio.Future[None]


class EventLog:
    """The only writer of a node's events."""

    def __init__(self, store: Store, on_append: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._on_append = on_append
        self._announced = False  # whether there may be announcements that wait
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None

    async def append(self, sender: Principal, message: Message, now: datetime) -> None:
        """Adds a message; when this returns it is durable.

        Raises:
            Unavailable: the database cannot answer now.
        """
        appended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(sender, message, now, appended))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await appended

    def announced(self) -> None:
        """To be called by who announced something that is to be logged before what a device sends
        from now on. All else is found a little later.
        """
        self._announced = True

    async def run(self) -> None:
        """Moves what is announced until cancelled."""
        while True:
            await asyncio.sleep(_BETWEEN_LOOKS)
            with suppress(Unavailable):  # then it is moved when the database is there again
                await self.move()

    async def move(self) -> None:
        """Moves what is announced into the log.

        Raises:
            Unavailable: the database cannot answer now.
        """
        if await self._store.read(announcements.wait):
            self._announced = True
            if self._writing is None:  # or it goes into the next unit
                self._writing = asyncio.create_task(self._write())
                await asyncio.wait([self._writing])

    async def _write(self) -> None:
        while self._waiting or self._announced:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            look, self._announced = self._announced, False
            error: Exception | None = None
            try:
                if await self._store.write(partial(_append, batch, look)):
                    self._announced = True
                self._on_append()
            except Exception as raised:  # noqa: BLE001 - each sender is told
                error = raised
            for each in batch:
                if each.appended.done():  # cancelled: nobody waits
                    continue
                if error is None:
                    each.appended.set_result(None)
                else:
                    each.appended.set_exception(error)
        self._writing = None


def _append(batch: list[_Waiting], look: bool, tx: Transaction) -> bool:
    """Whether there may be more announcements than were moved."""
    more = look and _move(tx)
    for each in batch:
        events.append(tx, each.sender, each.message, each.at)
    return more


def _move(tx: Transaction) -> bool:
    taken = announcements.take(tx, _MOST)
    for each in taken:
        if each.hub_id is not None:
            events.append_announced(tx, each.hub_id, each)
            continue
        for hub_id in hubs.concerned(tx, each.namespace_id or "", each.device_key):
            events.append_announced(tx, hub_id, each)
    return len(taken) == _MOST
