"""One server on a PostgreSQL database: a second is refused, and one that was replaced notices.

Several parts of the program still count on being the only one: which devices are connected, which
requests are being worked on. A server claims its database with an exclusive advisory lock, writes
its name there, and from then on each of its connections holds the lock shared. So nobody else can
claim the database while any connection of the server lives, whichever of them break; and when all
of them broke, each new one looks whether the name is still the server's own. One that lost its
database to another server gets no connection any more, loses its lease and drops its sessions.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

import psycopg
import structlog

from fleetroot.errors import Unavailable
from fleetroot.storage.postgresql_connection import Address, Connection, connect

_LOCK: Final = 0x666C_6565_7472_6F6F  # "fleetroo", of one database; shared by nothing else there
_NAME: Final = "server"  # its row of the table `installation`
_PATIENCE: Final = 3.0  # seconds in which connections of a server that was killed end
_BETWEEN: Final = 0.1
_log = structlog.get_logger("fleetroot.storage")


class Claim:
    """A database that is this server's. Made before the database is migrated, `sign`ed after it,
    and closed as soon as a store of the server is connected.

    Raises:
        Unavailable: another server runs on the database, or it cannot be used.
    """

    def __init__(self, address: Address) -> None:
        self.name = secrets.token_bytes(16)
        self._address = address
        self._connection = connect(address)
        deadline = time.monotonic() + _PATIENCE
        while not _ask(self._connection, "SELECT pg_try_advisory_lock(%s)", _LOCK):
            if time.monotonic() > deadline:
                self._connection.close()
                raise Unavailable(f"another server is running on the database {address}")
            time.sleep(_BETWEEN)

    def sign(self) -> None:
        """Writes the server's name and lets its connections in.

        Raises:
            Unavailable: the database cannot be used.
        """
        try:
            self._connection.execute(
                "INSERT INTO installation (name, value) VALUES (%s, %s)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (_NAME, self.name),
            )
            self._connection.execute("SELECT pg_advisory_lock_shared(%s)", (_LOCK,))
            self._connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
        except psycopg.Error as error:
            raise Unavailable(f"the database {self._address} cannot be used: {error}") from error

    def close(self) -> None:
        """Lets go; what other connections hold they hold."""
        self._connection.close()


def join(connection: Connection, name: bytes) -> None:
    """Makes the connection one of the server of that name; closes it where that cannot be.

    Raises:
        Unavailable: another server has claimed the database.
    """
    try:
        if (
            _ask(connection, "SELECT pg_try_advisory_lock_shared(%s)", _LOCK)
            and _ask(connection, "SELECT value FROM installation WHERE name = %s", _NAME) == name
        ):
            return
    except psycopg.Error as error:
        connection.close()
        raise Unavailable(f"the database cannot be used: {error}") from error
    connection.close()
    _log.error("another server has claimed the database; this one serves nobody until restarted")
    raise Unavailable("another server runs on the database")


def _ask(connection: Connection, sql: str, *parameters: object) -> object:
    row = connection.execute(sql.encode(), parameters, binary=True).fetchone()
    return row[0] if row else None
