"""A connection to PostgreSQL as units of work need it: durable, bounded in time, UTC and UTF-8.

A URL may hold a password, so nothing here shows it: what is logged and reported is an address of
host, port and database. Errors of libpq name these as well and never the password; errors of
parsing a URL may quote all of it and are therefore not passed on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import psycopg
import structlog
from psycopg import conninfo
from psycopg.types.numeric import Int8Dumper

from fleetroot.errors import InvalidArgument, Unavailable

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

STATEMENT_SECONDS: Final = 10
LOCK_SECONDS: Final = 5
IDLE_IN_TRANSACTION_SECONDS: Final = 10
_OLDEST: Final = 130000  # server_version_num of PostgreSQL 13
_DURABLE: Final = ("on", "remote_apply")
_log = structlog.get_logger("fleetroot.storage")

# Of libpq: how soon a server that does not answer counts as gone.
_CLIENT: Final[dict[str, str | int]] = {
    "client_encoding": "UTF8",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms
}
# Of the session. Keepalives: how soon the server notices that this program's machine is gone, and
# lets another have the database. Sequential scans are for databases that report; one here would
# make a unit conflict with every other that writes to the table. Where there is no other way, it
# seems so dear to the planner that it would compile the statement, for 0.4 s: hence no JIT.
_SESSION: Final = f"""
SET TIME ZONE 'UTC';
SET statement_timeout = '{STATEMENT_SECONDS}s';
SET lock_timeout = '{LOCK_SECONDS}s';
SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_SECONDS}s';
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 3;
SET enable_seqscan = off;
SET jit = off;
SELECT set_config('synchronous_commit', 'on', false)
 WHERE current_setting('synchronous_commit') <> 'remote_apply';
"""
_FACTS: Final = """
SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
       current_setting('synchronous_commit'), pg_is_in_recovery(),
       current_setting('fsync'), current_setting('full_page_writes')
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is. `conninfo` may hold a password; `str` does not."""

    conninfo: str = field(repr=False)
    shown: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Of a libpq URL, `postgresql://user:password@host:port/database?option=value`.

        Raises:
            InvalidArgument: it is not one.
        """
        try:
            parts = conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            parts = {}
        if not url.startswith(("postgresql://", "postgres://")) or not parts:
            raise InvalidArgument("the database URL is not one of PostgreSQL") from None
        host = parts.get("host") or parts.get("hostaddr") or "the local socket"
        port = f":{parts['port']}" if parts.get("port") else ""
        name = parts.get("dbname") or parts.get("user") or "the user's own"
        return cls(conninfo.make_conninfo(url, **_client(parts)), f"{name} on {host}{port}")

    def __str__(self) -> str:
        return self.shown


def _client(parts: dict[str, Any]) -> dict[str, str | int]:
    """What is asked of libpq, but for what the URL says itself."""
    asked: dict[str, str | int] = {"application_name": "fleetroot", **_CLIENT}
    return {k: v for k, v in asked.items() if k not in parts or k == "client_encoding"}


def connect(address: Address) -> Connection:
    """A connection in autocommit, set up and looked at.

    Raises:
        Unavailable: there is none to be had, or the server is not fit to keep what units commit.
    """
    try:
        connection = psycopg.connect(address.conninfo, autocommit=True, prepare_threshold=0)
    except psycopg.Error as error:
        raise _cannot(address, str(error)) from error
    try:
        connection.prepared_max = None
        # One type for every integer, so that a statement is prepared once.
        connection.adapters.register_dumper(int, Int8Dumper)
        connection.execute(_SESSION, prepare=False)
        _check(address, connection.execute(_FACTS, prepare=False).fetchone())
    except psycopg.Error as error:
        connection.close()
        raise _cannot(address, str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check(address: Address, facts: tuple[Any, ...] | None) -> None:
    """Raises:
    Unavailable: a commit on this server would not be what units of work count on.
    """
    if facts is None:
        raise _cannot(address, "it says nothing about itself")
    version, encoding, synchronous_commit, standby, fsync, full_page_writes = facts
    if version < _OLDEST:
        raise _cannot(address, "PostgreSQL 13 or newer is needed")
    if encoding != "UTF8":
        raise _cannot(address, f"its encoding is {encoding}, and must be UTF8")
    if synchronous_commit not in _DURABLE:
        raise _cannot(address, f"synchronous_commit stays {synchronous_commit}, and must be on")
    if standby:
        raise _cannot(address, "it is a standby, which cannot be written to")
    for name, value in (("fsync", fsync), ("full_page_writes", full_page_writes)):
        if value != "on" and (address.shown, name) not in _warned:
            _warned.add((address.shown, name))
            _log.warning(
                "the database may lose what it committed when its machine fails",
                database=address.shown,
                **{name: value},
            )


_warned: set[tuple[str, str]] = set()  # once for a database, not at every connection


def _cannot(address: Address, why: str) -> Unavailable:
    why = " ".join(why.split())
    return Unavailable(f"the database {address} cannot be used: {why}", retry_after=5)
