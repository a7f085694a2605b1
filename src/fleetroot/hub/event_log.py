"""Appends to the event log, one unit of work at a time.

Readers go on from the highest sequence number that they saw, so the order of the numbers must be
the order of commits, on a database too that runs units beside each other; and units that each count
on from the newest row would there only meet. So what comes while a unit is being committed waits,
and goes into the next one together.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from fleetroot.hub import events
from fleetroot.hub.model import Message, Principal
from fleetroot.storage import Store, Transaction

_MOST: Final = 256  # messages in one unit


class _Waiting(NamedTuple):
    sender: Principal
    message: Message
    at: datetime
    appended: asyncio.Future[None]


class EventLog:
    """The only writer of a node's events."""

    def __init__(self, store: Store) -> None:
        self._store = store
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

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            error: Exception | None = None
            try:
                await self._store.write(partial(_append, batch))
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


def _append(batch: list[_Waiting], tx: Transaction) -> None:
    for each in batch:
        events.append(tx, each.sender, each.message, each.at)
