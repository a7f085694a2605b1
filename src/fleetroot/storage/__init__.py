"""Storage: the schema, its migrations, prepared statements and the unit of work.

This room knows tables and transactions and nothing of what a row means; the room that owns a
table writes its statements (`registry/inventory.py`, `hub/identities.py`, …) with SQLAlchemy Core
and runs them here. It imports SQLAlchemy, Alembic and psycopg, and of ours only `errors`.

A unit of work is a synchronous function `f(tx) -> value`. Reading units see one snapshot. Writing
units are atomic each, and return only after the commit is durable. Nothing
awaits, signs or calls out inside one.
"""

from fleetroot.storage.postgresql import PostgresStore
from fleetroot.storage.prepared import AdHocQuery, Command, Query
from fleetroot.storage.sqlite import SqliteStore
from fleetroot.storage.unit import Store, Transaction

__all__ = ["AdHocQuery", "Command", "PostgresStore", "Query", "SqliteStore", "Store", "Transaction"]
