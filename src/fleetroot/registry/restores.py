"""When this installation was restored from a backup, and what may have been issued in between.

A certificate that the same CAs issued after the backup was taken is not in the inventory any more.
Its serial number begins with the time at which it was issued (`pki.new_leaf_serial`), which tells
it from one that somebody made with a stolen key. Neither is let in; only the second is an alarm. A
thief who knows of the restore can write such a time, and is then not told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from fleetroot.pki import issued_at
from fleetroot.storage import Transaction, installation

_ROW: Final = "restores"


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore epoch: what was issued after `taken_at` and before `restored_at` is not known."""

    taken_at: datetime
    restored_at: datetime


def every(tx: Transaction) -> list[Restore]:
    """Every restore, the first one first."""
    row = installation.get(tx, _ROW)
    return [
        Restore(datetime.fromisoformat(one["takenAt"]), datetime.fromisoformat(one["restoredAt"]))
        for one in orjson.loads(row or b"[]")
    ]


def record(tx: Transaction, restore: Restore) -> None:
    """Adds a restore."""
    rows = [
        {"takenAt": one.taken_at.isoformat(), "restoredAt": one.restored_at.isoformat()}
        for one in [*every(tx), restore]
    ]
    installation.put(tx, _ROW, orjson.dumps(rows))


def lost(tx: Transaction, serial: int) -> bool:
    """Whether a certificate of this serial number may be one that a restore lost."""
    at = issued_at(serial)
    return at is not None and any(one.taken_at <= at <= one.restored_at for one in every(tx))
