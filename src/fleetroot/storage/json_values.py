"""Values inside JSON columns, read alike by SQLite and PostgreSQL.

A value has a `Rank`, its JSON type with the booleans told apart, and is a number, a text or neither
by expressions that are NULL for all other types. Numbers are IEEE doubles, the nearest to what is
written: SQLite promises 15 digits of a decimal and no more, so Python reads them there. Texts
compare by code point. U+0000, which neither database can have in a text, is U+FFFD.

Keys have neither quotation marks nor backslashes: SQLite compares them as they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Text,
    case,
    cast,
    collate,
    func,
    literal,
    literal_column,
    or_,
)
from sqlalchemy.dialects.postgresql import JSONB

from fleetroot.storage.types import Ieee

POSTGRESQL: Final = "postgresql"
_JSON_NUL: Final = "\\u0000"
_JSON_REPLACEMENT: Final = "\\ufffd"


class Rank(IntEnum):
    """The types of JSON, in the order in which values of different types are sorted."""

    UNDEFINED = 0
    NULL = 1
    FALSE = 2
    TRUE = 3
    NUMBER = 4
    STRING = 5
    ARRAY = 6
    OBJECT = 7


@dataclass(frozen=True, slots=True)
class JsonValue:
    """Expressions for one value. `rank` is never NULL."""

    rank: ColumnElement[int]
    number: ColumnElement[float]
    text: ColumnElement[str]


_SQLITE_RANKS: Final = {
    "null": Rank.NULL,
    "false": Rank.FALSE,
    "true": Rank.TRUE,
    "integer": Rank.NUMBER,
    "real": Rank.NUMBER,
    "text": Rank.STRING,
    "array": Rank.ARRAY,
    "object": Rank.OBJECT,
}
_POSTGRESQL_RANKS: Final = {
    "null": Rank.NULL,
    "number": Rank.NUMBER,
    "string": Rank.STRING,
    "array": Rank.ARRAY,
    "object": Rank.OBJECT,
}
SQLITE_FUNCTIONS: Final[dict[str, Callable[[Any], Any]]] = {"json_double": float}
"""What a connection to SQLite needs for these expressions, each of one argument."""


def document(column: Column[str], dialect: str) -> ColumnElement[Any]:
    """A column of JSON text as a document to look into."""
    text = func.replace(column, _JSON_NUL, _JSON_REPLACEMENT, type_=Text)
    return cast(text, JSONB) if dialect == POSTGRESQL else text


def value_in(of: ColumnElement[Any], keys: Sequence[str], dialect: str) -> JsonValue:
    """The value that is found in a `document` by following keys of objects; none: all of it."""
    return _in_postgresql(of, keys) if dialect == POSTGRESQL else _in_sqlite(of, keys)


def by_code_point(text: ColumnElement[str], dialect: str) -> ColumnElement[str]:
    """A text that compares by code point, whatever the database was made with."""
    return collate(text, "C") if dialect == POSTGRESQL else text


def _in_sqlite(of: ColumnElement[Any], keys: Sequence[str]) -> JsonValue:
    path = literal("$" + "".join(f'."{key}"' for key in keys), Text)
    type_ = func.json_type(of, path, type_=Text)
    written = of.op("->")(path)
    return JsonValue(
        case(_SQLITE_RANKS, value=type_, else_=literal_column("0", Integer)),
        case(
            (
                or_(type_ == "integer", type_ == "real"),
                func.json_double(written, type_=Ieee()),
            )
        ),
        case((type_ == "text", func.json_extract(of, path, type_=Text))),
    )


def _in_postgresql(of: ColumnElement[Any], keys: Sequence[str]) -> JsonValue:
    value = of
    for key in keys:
        value = value.op("->", return_type=JSONB())(literal(key, Text))
    type_ = func.jsonb_typeof(value, type_=Text)
    text = value.op("#>>", return_type=Text())(literal_column("'{}'::text[]"))
    truth = case((text == "true", int(Rank.TRUE)), else_=int(Rank.FALSE))
    return JsonValue(
        case(
            (type_ == "boolean", truth),
            *((type_ == name, int(rank)) for name, rank in _POSTGRESQL_RANKS.items()),
            else_=int(Rank.UNDEFINED),
        ),
        case((type_ == "number", cast(value, Ieee()))),
        by_code_point(case((type_ == "string", text)), POSTGRESQL),
    )
