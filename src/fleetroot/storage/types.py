"""Column types that store the same value on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Dialect, Integer
from sqlalchemy.types import TypeDecorator, UserDefinedType

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_microseconds(at: datetime) -> int:
    """Since 1970, of a timezone-aware time."""
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The UTC time that many microseconds after 1970 began."""
    return _EPOCH + timedelta(microseconds=value)


class UtcTime(TypeDecorator[datetime]):
    """A timezone-aware UTC `datetime`, stored as microseconds since 1970 in a BIGINT.

    Integers compare and index alike on both databases; SQLite has no date type at all.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_microseconds(value)


# SQLite gives ever-growing row ids to INTEGER PRIMARY KEY only; PostgreSQL to BIGINT identities.
Sequence64 = BigInteger().with_variant(Integer(), "sqlite")


class Ieee(UserDefinedType[float]):
    """An IEEE double, as both drivers give it. SQLAlchemy's own wants the driver to say what type a
    result has.
    """

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "DOUBLE PRECISION"
