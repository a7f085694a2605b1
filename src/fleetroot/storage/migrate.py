"""Brings a database to the schema of this program.

Alembic owns the versions; this module only tells it where the database is. A database that is
newer than the program is refused, because an older program would not know what it destroys; so is
one that is damaged. A migration that is cut short leaves nothing behind, so that the next start
does it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, func, select
from sqlalchemy.exc import DatabaseError

from fleetroot.errors import Unavailable
from fleetroot.storage.postgresql_connection import Address

_LOCK: Final = 0x666C_6565_7472_6F6D  # of PostgreSQL, for one migration at a time


def sqlite_engine(path: Path) -> Engine:
    """An engine for migrations and inspection; the serving path uses `SqliteStore`."""
    engine = create_engine(f"sqlite:///{path}")
    # Python's driver would commit before every DDL statement; SQLite itself need not.
    event.listen(engine, "connect", _leave_transactions_alone)
    event.listen(engine, "begin", _begin)
    return engine


def _leave_transactions_alone(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def postgresql_engine(address: Address) -> Engine:
    """Like `sqlite_engine`, of a PostgreSQL server."""
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(address.conninfo),
        poolclass=NullPool,
    )


def configuration() -> Config:
    """Alembic's configuration, with no file of its own."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Migrates up to `revision`.

    Raises:
        Unavailable: the database was written by a newer program, or cannot be used.
    """
    _run(engine, lambda config: command.upgrade(config, revision))


def downgrade(engine: Engine, revision: str) -> None:
    """Migrates down to `revision`; `base` removes every table."""
    _run(engine, lambda config: command.downgrade(config, revision))


def current(engine: Engine) -> str | None:
    """The revision the database is at; None for an empty one."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _run(engine: Engine, step: Callable[[Config], None]) -> None:
    """One transaction, one at a time: SQLite's has the database's write lock from its start."""
    config = configuration()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with _usable(engine), engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        at = MigrationContext.configure(connection).get_current_revision()
        if at is not None and at not in known:
            raise Unavailable(f"the database is at schema {at}, which this program does not know")
        config.attributes["connection"] = connection
        step(config)


@contextmanager
def _usable(engine: Engine) -> Iterator[None]:
    """Raises:
    Unavailable: the database does not do what it is asked.
    """
    try:
        yield
    except DatabaseError as error:
        name = engine.url.database or "of PostgreSQL"
        raise Unavailable(f"the database {name} cannot be used: {error.orig}") from error
