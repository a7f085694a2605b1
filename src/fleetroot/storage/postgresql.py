"""The unit of work on PostgreSQL: a few threads with a connection each, a transaction a unit.

Writing units are SERIALIZABLE, because they were written for a database that runs one after the
other; one that met another is rolled back and run again, a bounded number of times. Reading units
see one snapshot. A connection that is lost before COMMIT costs a second run on a new one; lost
during COMMIT it leaves the outcome unknown, which is never reported as done: the caller is told to
come back, and what was committed is found then. `docs/decisions/0005-postgresql.md` has the why.

The event loop never waits for the network: units run on the threads, and futures are resolved on
the loop that asked.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
import structlog
from psycopg import errors, pq
from psycopg.errors import Diagnostic
from sqlalchemy.dialects.postgresql.psycopg import dialect as psycopg_dialect

from fleetroot.errors import InvalidArgument, TimedOut, Unavailable
from fleetroot.storage.one_server import join
from fleetroot.storage.postgresql_connection import Address, Connection, connect
from fleetroot.storage.prepared import Bound, Command, Query
from fleetroot.storage.threads import Threads
from fleetroot.storage.unit import ConstraintViolated, Transaction

R = TypeVar("R")
T = TypeVar("T")

# Positional, as `Bound` needs it.
_DIALECT: Final = psycopg_dialect(paramstyle="format")  # type: ignore[no-untyped-call]
_READERS: Final = 4
_WRITERS: Final = 8
_SEARCHERS: Final = 2
_ATTEMPTS: Final = 40  # of a unit that meets others: about two seconds
_QUEUE_SECONDS: Final = 10.0  # that a unit waits for a thread
_FIRST_BACKOFF: Final = 0.1  # seconds between attempts to connect, doubled up to the last
_LAST_BACKOFF: Final = 5.0
_BEGIN_READ: Final = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITE: Final = b"BEGIN ISOLATION LEVEL SERIALIZABLE"
_MET_OTHERS: Final = (errors.SerializationFailure, errors.DeadlockDetected)
# What is wrong with a statement is a mistake of the program, and no outage.
_MISTAKES: Final = (psycopg.ProgrammingError, psycopg.InterfaceError, psycopg.NotSupportedError)
_log = structlog.get_logger("fleetroot.storage")


class _Job(NamedTuple):
    run: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    since: float
    writes: bool
    seconds: float | None = None  # for a statement; None: as the connection has it


class _OutcomeUnknown(Exception):
    """The connection was lost between COMMIT and its answer."""


class PostgresTransaction:
    """A transaction on one PostgreSQL connection."""

    __slots__ = ("_connection", "_cursor")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor(binary=True)

    def first(self, query: Query[R], /, **parameters: Any) -> R | None:
        bound = query.on(_DIALECT)
        self._execute(bound, parameters, keep=query.is_kept)
        row = self._cursor.fetchone()
        return None if row is None else query.row(*bound.convert(row))

    def all(self, query: Query[R], /, **parameters: Any) -> list[R]:
        bound = query.on(_DIALECT)
        self._execute(bound, parameters, keep=query.is_kept)
        return [query.row(*bound.convert(row)) for row in self._cursor.fetchall()]

    def run(self, command: Command, /, **parameters: Any) -> int:
        self._execute(command.on(_DIALECT), parameters)
        return self._cursor.rowcount

    def run_many(self, command: Command, rows: Iterable[Mapping[str, Any]], /) -> int:
        bound = command.on(_DIALECT)
        try:
            self._cursor.executemany(bound.sql.encode(), list(map(bound.bind, rows)))
        except psycopg.IntegrityError as error:
            raise ConstraintViolated(str(error)) from error
        return self._cursor.rowcount

    def _execute(self, bound: Bound, parameters: Mapping[str, Any], *, keep: bool = True) -> None:
        try:
            self._cursor.execute(bound.sql.encode(), bound.bind(parameters), prepare=keep)
        except psycopg.IntegrityError as error:
            raise ConstraintViolated(str(error)) from error


class PostgresStore:
    """A database of a PostgreSQL server. `server` is the name of the claim under which it is used;
    without one nobody is kept out.

    Raises:
        Unavailable: the database cannot be used.
    """

    def __init__(self, address: Address, server: bytes | None = None) -> None:
        self._address = address
        self._server = server
        self._backoff = _Backoff()
        self._made: list[Connection] = []
        self._made.append(self.connect())
        self._readers = Threads("reader", _READERS, lambda: _Worker(self))
        self._writers = Threads("writer", _WRITERS, lambda: _Worker(self))
        self._searchers = Threads("searcher", _SEARCHERS, lambda: _Worker(self))

    @property
    def is_backing_off(self) -> bool:
        """Whether it is too early to try again to connect."""
        return self._backoff.is_on

    def connect(self) -> Connection:
        """A connection of this server's; the first was made when the store was.

        Raises:
            Unavailable: there is none to be had now.
        """
        with suppress(IndexError):
            return self._made.pop()
        try:
            connection = connect(self._address)
            if self._server is not None:
                join(connection, self._server)
        except Unavailable:
            self._backoff.failed()
            raise
        self._backoff.succeeded()
        return connection

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        return await self._accept(unit, writes=False)

    async def search(self, unit: Callable[[Transaction], T], seconds: float) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._searchers.put(_Job(unit, future, time.monotonic(), False, seconds)):
            raise Unavailable("the store is closed")
        return await future

    def write(self, unit: Callable[[Transaction], T]) -> asyncio.Future[T]:
        return self._accept(unit, writes=True)

    def submit(self, unit: Callable[[Transaction], object]) -> None:
        self._accept(unit, writes=True).add_done_callback(_log_failure)

    def _accept(self, unit: Callable[[Transaction], T], *, writes: bool) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        threads = self._writers if writes else self._readers
        if not threads.put(_Job(unit, future, time.monotonic(), writes)):
            future.set_exception(Unavailable("the store is closed"))
        return future

    def _commit(self, connection: Connection) -> None:
        """Where a test can make the network fail."""
        _command(connection, b"COMMIT")

    def close(self) -> None:
        self._readers.close()
        self._searchers.close()
        self._writers.close()
        for unused in self._made:
            unused.close()


class _Worker:
    """A thread's work, and its connection."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._connection: Connection | None = None
        self._warned = False

    def work(self, job: _Job) -> None:
        """Runs a unit and tells its caller."""
        if not job.writes and job.future.cancelled():
            return
        value = error = None
        try:
            value = self._run(job)
        except BaseException as raised:  # noqa: BLE001 - the caller is told, the thread lives on
            error = _as_told(raised)
        with suppress(RuntimeError):  # the loop is gone, and with it everyone who waited
            job.future.get_loop().call_soon_threadsafe(_settle, job.future, value, error)

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()

    def _run(self, job: _Job) -> Any:
        """Runs a unit in a transaction, again where that may help.

        Raises:
            Unavailable: that did not help, or the database is away.
        """
        if time.monotonic() - job.since > _QUEUE_SECONDS:
            raise Unavailable("the database is busy", retry_after=5)
        lost = doubted = False
        for attempt in range(_ATTEMPTS):
            connection = self._connected()
            try:
                return self._run_once(connection, job)
            except _MET_OTHERS:
                _pause(attempt)
            except errors.QueryCanceled as error:
                if job.seconds is None:
                    raise
                raise TimedOut("the search takes too long") from error
            except ConstraintViolated as error:
                # A row that a concurrent unit has just made: seen, when the unit runs again.
                if doubted or not isinstance(error.__cause__, errors.UniqueViolation):
                    raise
                doubted = True
            except psycopg.Error:
                # A connection that broke while it was idle is noticed at the next unit.
                if not connection.closed or lost:
                    raise
                lost = True
        raise Unavailable(
            "the database is busy", retry_after=1, reason="a unit of work met others too often"
        )

    def _run_once(self, connection: Connection, job: _Job) -> Any:
        try:
            _command(connection, _BEGIN_WRITE if job.writes else _BEGIN_READ)
            if job.seconds is not None:
                _command(connection, b"SET LOCAL statement_timeout = %d" % (job.seconds * 1000))
            value = job.run(PostgresTransaction(connection))
            if not job.writes:
                _command(connection, b"COMMIT")
                return value
        except BaseException as error:
            _roll_back(connection)
            if isinstance(error, errors.ReadOnlySqlTransaction):
                connection.close()  # a session keeps what it began with; the next may write
            raise
        self._warned = False
        try:
            self._store._commit(connection)  # noqa: SLF001
        except _MET_OTHERS:
            raise
        except psycopg.IntegrityError as error:
            raise ConstraintViolated(str(error)) from error
        except psycopg.Error as error:
            if error.diag.severity_nonlocalized != "ERROR":
                connection.close()
                raise _OutcomeUnknown(str(error)) from error
            _roll_back(connection)
            raise
        if self._warned:  # a wait for a standby was cut short
            raise _OutcomeUnknown("committed, and perhaps not on the standby")
        return value

    def _connected(self) -> Connection:
        """Raises:
        Unavailable: there is no connection to be had, or it is too early to try again.
        """
        connection = self._connection
        if connection is None or connection.closed:
            self._connection = None
            if self._store.is_backing_off:
                raise Unavailable("the database is away", retry_after=5)
            try:
                connection = self._store.connect()
            except Unavailable as error:
                raise _unavailable(error) from error
            connection.add_notice_handler(self._notice)
            self._connection = connection
        return connection

    def _notice(self, diagnostic: Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warned = True


class _Backoff:
    """When to try to connect again, for all threads together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        """Whether it is too early."""
        return time.monotonic() < self._until

    def failed(self) -> None:
        with self._lock:
            if self.is_on:
                return  # another thread's failure, of the same time
            self._seconds = min(max(self._seconds * 2, _FIRST_BACKOFF), _LAST_BACKOFF)
            self._until = time.monotonic() + self._seconds * random.uniform(0.5, 1.0)  # noqa: S311

    def succeeded(self) -> None:
        with self._lock:
            self._seconds = self._until = 0.0


def _command(connection: Connection, sql: bytes) -> None:
    """Runs a transaction command, past the cursor: they have neither parameters nor rows.

    Raises:
        psycopg.Error: it failed, or COMMIT found a transaction that had failed already.
    """
    result = connection.pgconn.exec_(sql)
    if connection.closed:
        raise psycopg.OperationalError("the connection is lost")
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise errors.error_from_result(result, encoding="utf-8")
    if sql == b"COMMIT" and result.command_status != b"COMMIT":
        raise psycopg.InternalError("the transaction had failed before its end")


def _roll_back(connection: Connection) -> None:
    if connection.closed:
        return
    try:
        _command(connection, b"ROLLBACK")
    except psycopg.Error:
        connection.close()


def _pause(attempt: int) -> None:
    """Lets the others come through."""
    time.sleep(random.uniform(0, min(0.001 * 2**attempt, 0.1)))  # noqa: S311


def _as_told(error: BaseException) -> BaseException:
    """What the caller of a unit is told."""
    if isinstance(error, _OutcomeUnknown):
        return _unavailable(error, "the outcome of a commit is not known")
    if isinstance(error, StopIteration):  # a future refuses to carry it
        return RuntimeError("a unit of work raised StopIteration")
    if isinstance(error, psycopg.DataError):
        return InvalidArgument("a value cannot be stored", reason=str(error))
    if isinstance(error, psycopg.Error) and not isinstance(error, _MISTAKES):
        return _unavailable(error)
    return error


def _unavailable(error: BaseException, what: str = "database") -> Unavailable:
    reason = error.reason if isinstance(error, Unavailable) else " ".join(str(error).split())
    _log.error("database", error=f"{what}: {reason}")
    return Unavailable("the database cannot answer now", retry_after=5, reason=f"{what}: {reason}")


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():  # the caller was cancelled
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def _log_failure(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.error("a write that nobody waits for failed", error=str(error))
