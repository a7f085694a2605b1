"""Opens a server's database, whichever it is: at the schema of this program, and this server's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleetroot.storage import migrate
from fleetroot.storage.one_server import Claim
from fleetroot.storage.postgresql import PostgresStore
from fleetroot.storage.postgresql_connection import Address
from fleetroot.storage.sqlite import SqliteStore
from fleetroot.storage.unit import Store

FILE: Final = "fleetroot.db"


@dataclass(frozen=True, slots=True)
class Database:
    """An open database, and how it is shown: without a password."""

    store: Store
    shown: str


def open_sqlite(folder: Path) -> Database:
    """The database file in `folder`, which is locked.

    Raises:
        Unavailable: it cannot be used.
    """
    engine = migrate.sqlite_engine(folder / FILE)
    try:
        migrate.upgrade(engine)
    finally:
        engine.dispose()
    return Database(SqliteStore(folder / FILE), f"SQLite, {folder / FILE}")


def open_postgresql(url: str) -> Database:
    """The database of a libpq URL.

    Raises:
        InvalidArgument: it is no URL of PostgreSQL.
        Unavailable: it cannot be used, or another server uses it.
    """
    address = Address.parse(url)
    claim = Claim(address)  # before anything else: a server may be running on the old schema
    try:
        migrate.upgrade(migrate.postgresql_engine(address))
        claim.sign()
        store = PostgresStore(address, claim.name)
    finally:
        claim.close()
    return Database(store, f"PostgreSQL, {address}")
