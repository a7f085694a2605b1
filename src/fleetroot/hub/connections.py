"""The last connections of each device, for who asks what became of it.

A device has a fixed number of places, and its session's epoch says which one is taken: what it does
over and over pushes out nobody's record but its own, and nothing has to be removed. Nobody waits
for a record: it is written a little later with others, and a crash loses the last of them.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql.expression import Executable

from fleetroot.hub.model import Principal
from fleetroot.storage import Command, Store, Transaction
from fleetroot.storage.schema import connections, identities

KEPT: Final = 16  # of each device on each hub
_UNTIL_WRITTEN: Final = 0.5  # seconds
_MOST: Final = 512  # in one unit

_KEY: Final = ("hub_id", "device_key", "slot")


def _put(dialect: str) -> Executable:
    """Takes a place, if there is still such a device."""
    insert = postgresql_insert if dialect == "postgresql" else sqlite_insert
    names = [c.name for c in connections.columns]
    row = (
        select(*(bindparam(c.name, type_=c.type).label(c.name) for c in connections.columns))
        .where(identities.c.hub_id == bindparam("hub_id"))
        .where(identities.c.device_key == bindparam("device_key"))
    )
    made = insert(connections).from_select(names, row)
    changed = {name: made.excluded[name] for name in names if name not in _KEY}
    return made.on_conflict_do_update(index_elements=_KEY, set_=changed)


_PUT: Final = Command(_put)


class Connections:
    """Writes who connected, some of them together."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[dict[str, object]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, principal: Principal, epoch: int, at: datetime, peer: str, trace_id: str) -> None:
        """Will write that a device's session has begun."""
        self._waiting.append(
            {
                "hub_id": principal.hub.id,
                "device_key": principal.device_key,
                "slot": epoch % KEPT,
                "epoch": epoch,
                "connected_at": at,
                "peer": peer,
                "trace_id": trace_id,
                "certificate_sha256": principal.certificate_sha256,
            }
        )
        if len(self._waiting) >= _MOST:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_UNTIL_WRITTEN, self.flush)

    def flush(self) -> None:
        """Hands over what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._store.submit(partial(_write, self._waiting))
            self._waiting = []


def _write(rows: list[dict[str, object]], tx: Transaction) -> None:
    tx.run_many(_PUT, rows)
