"""The database that a test run is about: `pytest --database=sqlite` (as it is without) or
`--database=postgresql`.

A test's data folder has a database of its own, made once from a migrated one, which takes less time
than to migrate it: `tests/storage` does that for its own sake. On SQLite it is a file in the
folder. On PostgreSQL it is one of a throwaway cluster, which a test process starts when it first
needs one and stops at its end.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import threading
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from alembic.script import ScriptDirectory
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine

from fleetroot.storage import PostgresStore, SqliteStore, migrate, postgresql
from fleetroot.storage.databases import FILE
from fleetroot.storage.postgresql_connection import Address
from fleetroot.storage.schema import metadata
from postgresql_cluster import Cluster, cluster

_TEMPLATE = "migrated"
_chosen = "sqlite"
_stack = ExitStack()
_urls: dict[Path, str] = {}
_emptied: list[str] = []  # databases whose tests are over, without a row


def choose(name: str) -> None:
    """Says which database the tests of this process are about."""
    global _chosen  # noqa: PLW0603 - one for the process, as pytest's options are
    _chosen = name


def is_postgresql() -> bool:
    """Whether the tests are about PostgreSQL."""
    return _chosen == "postgresql"


def url_of(folder: Path, *, empty: bool = False) -> str | None:
    """The URL of the folder's database on PostgreSQL; None on SQLite. Made where there is none,
    with the schema in it unless it is to be `empty`.
    """
    if not is_postgresql():
        if not empty and not (folder / FILE).exists():
            (folder / FILE).write_bytes(_migrated_file())
        return None
    folder = folder.resolve()
    if folder not in _urls:
        _urls[folder] = create(None) if empty else _emptied.pop() if _emptied else create()
    return _urls[folder]


def store_of(folder: Path) -> SqliteStore | PostgresStore:
    """A store on the folder's database."""
    found = url_of(folder)
    return SqliteStore(folder / FILE) if found is None else PostgresStore(Address.parse(found))


def engine_of(folder: Path) -> Engine:
    """For migrations of the folder's database, and to look into it."""
    found = url_of(folder)
    if found is None:
        return migrate.sqlite_engine(folder / FILE)
    return migrate.postgresql_engine(Address.parse(found))


def copy(folder: Path, to: Path) -> Path:
    """A data folder that no server runs on, and its database, for a test to start on."""
    shutil.copytree(folder, to)
    if is_postgresql():
        _urls[to.resolve()] = create(name_of(_urls[folder.resolve()]))
    return to


def files(folder: Path) -> bytes:
    """The bytes of the database's files, as a thief of the disk has them."""
    if not is_postgresql():
        return b"".join(file.read_bytes() for file in sorted(folder.glob(f"{FILE}*")))
    with psycopg.connect(_urls[folder.resolve()], autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        query = "SELECT oid FROM pg_database WHERE datname = current_database()"
        [(oid,)] = connection.execute(query).fetchall()
    data = _cluster().folder / "data"
    found = [*(data / "base" / str(oid)).iterdir(), *(data / "pg_wal").glob("0*")]
    return b"".join(file.read_bytes() for file in found)


async def settled(store: SqliteStore | PostgresStore) -> None:
    """Waits until every write that was submitted before is over. On PostgreSQL, until all of the
    store's writers are free at once.
    """
    if isinstance(store, SqliteStore):
        await store.write(lambda _: None)
        return
    free = threading.Barrier(postgresql._WRITERS)
    meetings = (store.write(lambda _: free.wait(10)) for _ in range(postgresql._WRITERS))
    await asyncio.gather(*meetings)


def full() -> Exception:
    """What the driver raises when the disk is full."""
    if is_postgresql():
        return psycopg.errors.DiskFull("could not extend file")
    return sqlite3.OperationalError("database or disk is full")


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """What a query finds in the folder's database, as it is committed now."""
    if not is_postgresql():
        with closing(sqlite3.connect(folder / FILE)) as connection:
            return connection.execute(sql).fetchall()
    with psycopg.connect(_urls[folder.resolve()]) as other:
        return other.execute(sql.encode()).fetchall()


def execute(folder: Path, sql: str) -> None:
    """Changes the folder's database past the program."""
    if not is_postgresql():
        with closing(sqlite3.connect(folder / FILE)) as connection, connection:
            connection.execute(sql)
        return
    with psycopg.connect(_urls[folder.resolve()]) as other:
        other.execute(sql.encode())


_crashed: dict[Path, dict[str, list[tuple[Any, ...]]]] = {}


def contents(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the folder's database."""
    names = rows(
        folder,
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        if is_postgresql()
        else "SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite%'",
    )
    return {name: sorted(rows(folder, f"SELECT * FROM {name}"), key=str) for (name,) in names}


def crash(folder: Path, to: Path) -> Path:
    """Keeps in `to` what would be found of the folder's database if the machine lost its power now:
    on SQLite what the disk has; on PostgreSQL, which shows a commit to nobody before its log is on
    the disk, what another connection sees. Returns what `found_after` takes.
    """
    to.mkdir()
    if is_postgresql():
        _crashed[to / FILE] = contents(folder)
        return to / FILE
    for file in folder.glob(f"{FILE}*"):
        if not file.name.endswith("-shm"):  # memory that processes share, not on the disk
            shutil.copy(file, to)
    return to / FILE


def found_after(crashed: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, after a crash."""
    return _crashed.pop(crashed) if is_postgresql() else contents(crashed.parent)


def drop_below(folder: Path) -> None:
    """Takes the PostgreSQL databases away from a test's folders; the next test has one of them."""
    for one in [each for each in _urls if each.is_relative_to(folder.resolve())]:
        of = _urls.pop(one)
        if _empty(of):
            _emptied.append(of)
        else:
            drop(of)


def close() -> None:
    """Stops the cluster, if there is one."""
    _stack.close()


# --- the cluster


@cache
def _cluster() -> Cluster:
    made = _stack.enter_context(cluster())
    with psycopg.connect(made.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {_TEMPLATE}".encode())
    migrate.upgrade(migrate.postgresql_engine(Address.parse(made.url(_TEMPLATE))))
    return made


@cache
def _numbers() -> Any:
    return iter(range(10**9))


def create(template: str | None = _TEMPLATE) -> str:
    """Makes a database; its URL."""
    name = f"test_{next(_numbers())}"
    _administer(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    return _cluster().url(name)


def drop(of: str) -> None:
    """Removes a database, whoever is connected to it."""
    _administer(f"DROP DATABASE {name_of(of)} WITH (FORCE)")


def _empty(of: str) -> bool:
    """Takes every row out of a database, which is ten times as fast as to make another; False if it
    is not at the schema of this program.
    """
    name = name_of(of)
    _administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    with psycopg.connect(of) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        if {table for (table,) in found} != {*metadata.tables, "alembic_version"}:
            return False
        connection.execute("SET session_replication_role = replica")  # references do not matter
        for table in {*metadata.tables} - {"configuration"}:  # its row is of the migration
            connection.execute(f"DELETE FROM {table}".encode())
        connection.execute(
            "SELECT setval(format('%I', sequencename)::regclass, 1, false) FROM pg_sequences"
        )
        head = ScriptDirectory.from_config(migrate.configuration()).get_current_head()
        return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(head,)]


def name_of(of: str) -> str:
    """The name of the database of a URL."""
    return str(conninfo_to_dict(of)["dbname"])


def _administer(sql: str) -> None:
    with psycopg.connect(_cluster().url("postgres"), autocommit=True) as connection:
        connection.execute(sql.encode())


@cache
def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        migrate.upgrade(migrate.sqlite_engine(path))
        with closing(sqlite3.connect(path)) as connection:
            return connection.serialize()
