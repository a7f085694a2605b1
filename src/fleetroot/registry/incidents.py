"""Incidents: which certificates a CA issued between two times, or to these devices, or to whom this
enrollment attested.

A scope is asked in pages, in the order in which certificates were issued, and the place in that
order is all that anybody has to remember to go on: an export that streams, and a revocation that is
spread over hours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import BigInteger, Select, Text, bindparam, cast, func, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.sql.expression import Executable

from fleetroot.errors import InvalidArgument
from fleetroot.registry import inventory
from fleetroot.registry.model import Certificate
from fleetroot.storage import Query, Transaction
from fleetroot.storage.schema import certificates
from fleetroot.storage.types import UtcTime

MAX_DEVICES: Final = 1000  # that a scope names
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 1, 1, tzinfo=UTC)
_NEWEST: Final = 2**62  # above every id


@dataclass(frozen=True, slots=True)
class Scope:
    """Certificates of a namespace for which all is true that is given.

    Attributes:
        authority_id: the issuing CA.
        since: issued at this time or later.
        until: issued before this time.
        device_keys: canonical; issued to one of these devices.
        enrollment: issued to a device that provisioned under it, in provisioning's own words.
    """

    namespace_id: str
    authority_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    device_keys: tuple[str, ...] = ()
    enrollment: str | None = None

    def check(self) -> None:
        """Raises:
        InvalidArgument: it names no CA, device or enrollment; too many devices; or no time.
        """
        if not (self.authority_id or self.device_keys or self.enrollment):
            raise InvalidArgument("name a CA, devices or an enrollment")
        if len(self.device_keys) > MAX_DEVICES:
            raise InvalidArgument(f"devices: at most {MAX_DEVICES}")
        if self.since and self.until and self.since >= self.until:
            raise InvalidArgument("from: must be before to")

    def to_json(self) -> str:
        """As it is stored."""
        return orjson.dumps(
            {
                "authority": self.authority_id,
                "since": self.since,
                "until": self.until,
                "devices": self.device_keys,
                "enrollment": self.enrollment,
            }
        ).decode()

    @classmethod
    def of_json(cls, namespace_id: str, text: str) -> Scope:
        """What `to_json` gave."""
        read: dict[str, Any] = orjson.loads(text)
        return cls(
            namespace_id,
            read["authority"],
            _time(read["since"]),
            _time(read["until"]),
            tuple(read["devices"]),
            read["enrollment"],
        )


class Cursor(NamedTuple):
    """A place in the order of issuance: behind the certificate of that time and id."""

    issued_at: datetime
    id: int


class Brief(NamedTuple):
    """Of a certificate, what a revocation looks at."""

    id: int
    sha256: bytes
    authority_id: str
    device_key: str
    device_id: str
    serial: str
    issued_at: datetime
    not_after: datetime
    expired_at: datetime | None
    revoked_at: datetime | None

    def is_alive(self, now: datetime) -> bool:
        """Whether there is something to revoke."""
        return self.revoked_at is None and self.expired_at is None and now <= self.not_after


def beginning(scope: Scope) -> Cursor:
    """Before the first certificate that the scope may have."""
    return Cursor(scope.since or _BEGINNING, 0)


def page(
    tx: Transaction, scope: Scope, after: Cursor, *, limit: int
) -> tuple[list[Certificate], Cursor | None]:
    """Up to `limit` certificates of the scope, in the order in which they were issued, and where
    the next are; None: there are none.
    """
    found = tx.all(_pages(*_kind(scope)), **_parameters(scope, after, None, limit))
    last = Cursor(found[-1].issued_at, found[-1].id) if len(found) == limit else None
    return found, last


def briefs(
    tx: Transaction, scope: Scope, after: Cursor, *, last_id: int | None = None, limit: int
) -> list[Brief]:
    """Like `page`, with ids up to `last_id`."""
    return tx.all(_briefs(*_kind(scope)), **_parameters(scope, after, last_id, limit))


def _kind(scope: Scope) -> tuple[bool, bool, bool]:
    return bool(scope.authority_id), bool(scope.device_keys), bool(scope.enrollment)


def _parameters(scope: Scope, after: Cursor, last_id: int | None, limit: int) -> dict[str, object]:
    return {
        "namespace": scope.namespace_id,
        "authority": scope.authority_id,
        "devices": orjson.dumps(scope.device_keys).decode(),
        "of_enrollment": scope.enrollment,
        "at": after.issued_at,
        "after": after.id,
        "until": scope.until or _END,
        "last": _NEWEST if last_id is None else last_id,
        "limit": limit,
    }


@cache
def _pages(by_authority: bool, by_device: bool, by_enrollment: bool) -> Query[Certificate]:
    return Query(_within(inventory.found, by_authority, by_device, by_enrollment), inventory.row)


@cache
def _briefs(by_authority: bool, by_device: bool, by_enrollment: bool) -> Query[Brief]:
    columns = select(*(certificates.c[name] for name in Brief._fields))
    return Query(_within(columns, by_authority, by_device, by_enrollment), Brief)


def _within(
    wanted: Select[Any], by_authority: bool, by_device: bool, by_enrollment: bool
) -> Callable[[str], Executable]:
    """What is wanted of the certificates of a scope of that kind. Each kind is a statement of its
    own, so that each is read by the index that fits it.
    """

    def statement(dialect: str) -> Executable:
        c = certificates.c
        found = wanted.where(c.namespace_id == bindparam("namespace"))
        if by_device:
            found = found.where(c.device_key.in_(_devices(dialect)))
        if by_enrollment:
            # Without its index where devices are named, which are fewer.
            enrollment = c.enrollment if not by_device else c.enrollment.concat("")
            found = found.where(enrollment == bindparam("of_enrollment"))
        if by_authority:
            is_enough = by_device or by_enrollment
            authority = c.authority_id.concat("") if is_enough else c.authority_id
            found = found.where(authority == bindparam("authority"))
        found = found.where(c.issued_at < bindparam("until")).where(c.id <= bindparam("last"))
        at, after = bindparam("at", type_=UtcTime), bindparam("after", type_=BigInteger)
        if dialect == "sqlite" and not by_device:
            # By a comparison of rows it would seek the time alone, and walk through all that were
            # issued, or imported, at once: each half of the condition is a search of its own.
            halves = union_all(
                found.where(c.issued_at == at).where(c.id > after), found.where(c.issued_at > at)
            )
            each = halves.subquery()
            return select(each).order_by(each.c.issued_at, each.c.id).limit(bindparam("limit"))
        behind = found.where(tuple_(c.issued_at, c.id) > tuple_(at, after))
        return behind.order_by(c.issued_at, c.id).limit(bindparam("limit"))

    return statement


def _devices(dialect: str) -> Select[Any]:
    """The rows of `devices`, a JSON array."""
    if dialect == "postgresql":
        each = func.json_array_elements_text(cast(bindparam("devices", type_=Text), JSON))
    else:
        each = func.json_each(bindparam("devices"))
    return select(each.table_valued("value").c.value)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
