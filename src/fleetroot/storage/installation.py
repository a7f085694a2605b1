"""What this installation decided once, by name."""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, delete, select

from fleetroot.storage.prepared import Command, Query, upsert_into
from fleetroot.storage.schema import installation
from fleetroot.storage.unit import Transaction

_GET: Final = Query(
    select(installation.c.value).where(installation.c.name == bindparam("key")), bytes
)
_REMOVE: Final = Command(delete(installation).where(installation.c.name == bindparam("key")))
_PUT: Final = Command(upsert_into(installation))


def get(tx: Transaction, name: str) -> bytes | None:
    """The value of that name."""
    return tx.first(_GET, key=name)


def put(tx: Transaction, name: str, value: bytes) -> None:
    """Sets the value of that name."""
    tx.run(_PUT, name=name, value=value)


def remove(tx: Transaction, name: str) -> None:
    """Removes the value of that name."""
    tx.run(_REMOVE, key=name)
