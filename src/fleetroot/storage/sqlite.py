"""The unit of work on SQLite: one writer thread, many units to one durable commit.

The event loop collects units while the writer is busy and hands them over as one batch. The writer
opens `BEGIN IMMEDIATE`, runs one unit after the other, commits (WAL, `synchronous=FULL`: one fsync
for all of them), and only then are the callers told. If a unit raises, all are undone and run
again, each inside a savepoint of its own. Handing over whole batches, rather than letting the
thread take units one by one, keeps a commit shared when the loop is busy with signatures: 0.87
against 1.22 ms of CPU a unit in the experiment of `docs/decisions/0001-shared-commits.md`.

Reads run on the calling thread, on connections of their own: a snapshot read costs less than
handing it to another thread would. Searches, which may look at many rows, run on a thread of their
own, one after the other.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from fleetroot.errors import TimedOut, Unavailable
from fleetroot.storage.json_values import SQLITE_FUNCTIONS
from fleetroot.storage.prepared import Bound, Command, Query
from fleetroot.storage.threads import Threads
from fleetroot.storage.unit import ConstraintViolated, Transaction

R = TypeVar("R")
T = TypeVar("T")

_DIALECT: Final = sqlite_dialect()
_MAX_BATCH: Final = 512
_BUSY_SECONDS: Final = 5.0  # how long another process may hold the write lock
_MAPPED_BYTES: Final = (1 << 31) - (
    1 << 16
)  # of the file, from its beginning; SQLite allows no more
_STEPS: Final = 10_000  # of SQLite's machine, some 0.1 ms, between two looks at the time
# What SQLite refuses about one statement and its values; the transaction around it stands.
_OF_ONE_UNIT: Final = (sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
_log = structlog.get_logger("fleetroot.storage")


class _Unit(NamedTuple):
    run: Callable[[Transaction], Any]
    future: asyncio.Future[Any]


class _Search(NamedTuple):
    run: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    seconds: float


class _Outcome(NamedTuple):
    future: asyncio.Future[Any]
    value: Any
    error: BaseException | None


class SqliteTransaction:
    """A transaction on one SQLite connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def first(self, query: Query[R], /, **parameters: Any) -> R | None:
        bound = query.on(_DIALECT)
        row = self._execute(bound, parameters).fetchone()
        return None if row is None else query.row(*bound.convert(row))

    def all(self, query: Query[R], /, **parameters: Any) -> list[R]:
        bound = query.on(_DIALECT)
        rows = self._execute(bound, parameters).fetchall()
        return [query.row(*bound.convert(row)) for row in rows]

    def run(self, command: Command, /, **parameters: Any) -> int:
        return self._execute(command.on(_DIALECT), parameters).rowcount

    def run_many(self, command: Command, rows: Iterable[Mapping[str, Any]], /) -> int:
        bound = command.on(_DIALECT)
        try:
            return self._connection.executemany(bound.sql, map(bound.bind, rows)).rowcount
        except sqlite3.IntegrityError as error:
            raise ConstraintViolated(str(error)) from error

    def _execute(self, bound: Bound, parameters: Mapping[str, Any]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(bound.sql, bound.bind(parameters))
        except sqlite3.IntegrityError as error:
            raise ConstraintViolated(str(error)) from error


class SqliteStore:
    """A database file in WAL mode. Use from one event loop at a time.

    Raises:
        Unavailable: the file cannot be opened, or is no database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._waiting: list[_Unit] = []
        self._handed_over = False
        self._closed = False
        self._handing_over = threading.Lock()  # `close` may come from another thread
        self._batches: queue.SimpleQueue[list[_Unit] | None] = queue.SimpleQueue()
        try:
            _make_durable(path)
            self._writer_connection = self._connect()
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the database {path} cannot be used: {error}") from error
        self._writer = threading.Thread(target=self._write_batches, name="fleetroot-writer")
        self._writer.start()
        self._searchers = Threads("searcher", 1, lambda: _Searcher(self._connect))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            isolation_level=None,  # transactions are begun and ended here, never implicitly
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
            cached_statements=512,
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA cache_size=-65536")  # KiB
        # Reading a page of a large store costs no call of the system (docs/decisions/0013).
        connection.execute(f"PRAGMA mmap_size={_MAPPED_BYTES}")
        # What a savepoint would undo is otherwise written to a file: 26 writes a registration.
        connection.execute("PRAGMA temp_store=MEMORY")
        return connection

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        if self._closed:
            raise Unavailable("the store is closed")
        reader: sqlite3.Connection | None = getattr(self._local, "reader", None)
        try:
            if reader is None:
                reader = self._local.reader = self._connect()
                reader.execute("PRAGMA query_only=ON")
                self._readers.append(reader)
            reader.execute("BEGIN")
            try:
                return unit(SqliteTransaction(reader))
            finally:
                reader.execute("COMMIT")
        except sqlite3.Error as error:
            raise _unavailable(error) from error

    async def search(self, unit: Callable[[Transaction], T], seconds: float) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._searchers.put(_Search(unit, future, seconds)):
            raise Unavailable("the store is closed")
        return await future

    def write(self, unit: Callable[[Transaction], T]) -> asyncio.Future[T]:
        return self._accept(unit)

    def submit(self, unit: Callable[[Transaction], object]) -> None:
        self._accept(unit).add_done_callback(_log_failure)

    def _accept(self, unit: Callable[[Transaction], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._handing_over:
            if self._closed:
                future.set_exception(Unavailable("the store is closed"))
                return future
            self._waiting.append(_Unit(unit, future))
            if not self._handed_over:
                self._handed_over = True
                # Not now: what else this turn of the loop submits shares the commit.
                loop.call_soon(self._hand_over)
        return future

    def _hand_over(self) -> None:
        with self._handing_over:
            self._handed_over = self._put_batch()

    def _put_batch(self) -> bool:
        batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
        if batch:
            self._batches.put(batch)
        return bool(batch)

    def _settle(self, outcomes: list[_Outcome]) -> None:
        for future, value, error in outcomes:
            if future.done():  # the caller was cancelled; what it asked for is committed
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        self._hand_over()

    def _write_batches(self) -> None:
        while (batch := self._batches.get()) is not None:
            loop = batch[0].future.get_loop()
            outcomes = self._write(batch)
            try:
                loop.call_soon_threadsafe(self._settle, outcomes)
            except RuntimeError:  # the loop is gone, and with it everyone who waited
                continue

    def _write(self, batch: list[_Unit]) -> list[_Outcome]:
        """Runs a batch in one transaction. Never raises."""
        connection = self._writer_connection
        try:
            outcomes = self._run_all(connection, batch)
            self._commit(connection)
        except BaseException as error:  # noqa: BLE001 - each caller is told, the thread lives on
            self._roll_back(connection)
            failure = _unavailable(error) if isinstance(error, sqlite3.Error) else error
            return [_Outcome(unit.future, None, failure) for unit in batch]
        return outcomes

    def _run_all(self, connection: sqlite3.Connection, batch: list[_Unit]) -> list[_Outcome]:
        """Begins a transaction and runs the units in it."""
        transaction = SqliteTransaction(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            return [_Outcome(unit.future, unit.run(transaction), None) for unit in batch]
        except BaseException as error:
            if _ends_all(error):
                raise
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            if len(batch) == 1:
                return [_failed(batch[0], error)]
        # Savepoints for units that hardly ever raise would be two statements more for each.
        return [self._run_in_savepoint(connection, transaction, unit) for unit in batch]

    @staticmethod
    def _run_in_savepoint(
        connection: sqlite3.Connection, transaction: Transaction, unit: _Unit
    ) -> _Outcome:
        connection.execute("SAVEPOINT unit")
        try:
            outcome = _Outcome(unit.future, unit.run(transaction), None)
        except BaseException as error:
            if _ends_all(error):
                raise
            connection.execute("ROLLBACK TO unit")
            outcome = _failed(unit, error)
        connection.execute("RELEASE unit")
        return outcome

    def _commit(self, connection: sqlite3.Connection) -> None:
        """Where a test can make the disk fail."""
        connection.execute("COMMIT")

    @staticmethod
    def _roll_back(connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                _log.error("rollback failed", error=str(error))

    def snapshot(self, path: Path) -> None:
        """Writes the database as it is now into a new file, without what was deleted. Others read
        and write meanwhile; not for the event loop.

        Raises:
            Unavailable: the file cannot be written, or the database not be read.
        """
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            connection = self._connect()
            try:
                connection.execute("VACUUM INTO ?", (str(path),))
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            path.unlink(missing_ok=True)
            raise Unavailable(f"no snapshot can be taken: {error}") from error

    def close(self) -> None:
        with self._handing_over:
            if self._closed:
                return
            self._closed = True
            while self._put_batch():
                pass
            self._batches.put(None)
        self._writer.join()
        self._searchers.close()
        for reader in self._readers:
            reader.close()
        self._writer_connection.close()


class _Searcher:
    """The thread of searches, and its connection."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._until = 0.0

    def work(self, job: _Search) -> None:
        """Runs a search and tells its caller."""
        if job.future.cancelled():
            return
        value: Any = None
        error: BaseException | None = None
        self._until = time.monotonic() + job.seconds
        try:
            value = self._run(job.run)
        except sqlite3.Error as raised:
            interrupted = raised.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT
            error = TimedOut("the search takes too long") if interrupted else _unavailable(raised)
        except BaseException as raised:  # noqa: BLE001 - the caller is told, the thread lives on
            error = raised
        with suppress(RuntimeError):  # the loop is gone, and with it everyone who waited
            job.future.get_loop().call_soon_threadsafe(_tell, job.future, value, error)

    def _run(self, unit: Callable[[Transaction], T]) -> T:
        if self._connection is None:
            self._connection = self._connect()
            self._connection.execute("PRAGMA query_only=ON")
            self._connection.set_progress_handler(self._is_over, _STEPS)
            for name, function in SQLITE_FUNCTIONS.items():
                self._connection.create_function(name, 1, function, deterministic=True)
        self._connection.execute("BEGIN")
        try:
            return unit(SqliteTransaction(self._connection))
        finally:
            self._until = float("inf")  # a transaction is ended however late it is
            self._connection.execute("COMMIT")

    def _is_over(self) -> bool:
        return time.monotonic() > self._until

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()


def _tell(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():  # the caller was cancelled
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def _make_durable(path: Path) -> None:
    """Syncs what a process that was killed may have written and not synced: SQLite will find it,
    and whoever is told of it then must be able to count on it.
    """
    wal = path.with_name(f"{path.name}-wal")
    for each in (wal, path.parent):
        if each.exists():
            descriptor = os.open(each, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _ends_all(error: BaseException) -> bool:
    """Disk full, I/O error: SQLite may have ended the whole transaction."""
    return isinstance(error, sqlite3.Error) and not isinstance(error, _OF_ONE_UNIT)


def _failed(unit: _Unit, error: BaseException) -> _Outcome:
    if isinstance(error, StopIteration):  # a future refuses to carry it
        error = RuntimeError("a unit of work raised StopIteration")
    return _Outcome(unit.future, None, error)


def _unavailable(error: BaseException) -> Unavailable:
    _log.error("database", error=str(error))
    return Unavailable("the database cannot answer now", retry_after=5, reason=f"database: {error}")


def _log_failure(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.error("a write that nobody waits for failed", error=str(error))
