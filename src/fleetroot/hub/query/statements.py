"""Queries as statements: rows by the key of their device, rows in an order, and counts.

Values are shown, sorted and grouped by three columns: their rank, number and text. In an order,
values of different types come by their rank (what is not there first), and texts by their first 256
characters, so that a place in it is short.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    or_,
    select,
)

from fleetroot.clock import iso8601
from fleetroot.hub import service_twins
from fleetroot.hub.query.conditions import condition
from fleetroot.hub.query.syntax import (
    And,
    Call,
    Comparison,
    Expression,
    Field,
    Member,
    Not,
    Or,
    Path,
    Source,
)
from fleetroot.hub.query.syntax import Select as Selection
from fleetroot.hub.query.values import CERTIFICATE, Time, Value, among, searched, value_of
from fleetroot.hub.service_twins import ServiceTwin
from fleetroot.storage import AdHocQuery, Query
from fleetroot.storage.json_values import POSTGRESQL, Rank
from fleetroot.storage.schema import certificates, identities, policies
from fleetroot.storage.types import Ieee, from_microseconds

_SORTED: Final = 256  # characters of a text
_key: Final = identities.c.device_key
_of_hub: Final = identities.c.hub_id == bindparam("hub")
_CERTIFICATE: Final = (
    certificates.c.not_before,
    certificates.c.not_after,
    certificates.c.serial,
    certificates.c.sha256,
    certificates.c.expired_at,
    certificates.c.revoked_at,
    policies.c.name,
)


class FoundCertificate(NamedTuple):
    """The newest certificate of a device."""

    not_before: datetime
    not_after: datetime
    serial_number: str
    sha256: bytes
    expired_at: datetime | None
    revoked_at: datetime | None
    policy: str

    def status(self, now: datetime) -> str:
        """`valid`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expired_at is not None or self.not_after <= now else "valid"


class Found(NamedTuple):
    """A device that was found; its certificate only where the query names one."""

    twin: ServiceTwin
    certificate: FoundCertificate | None


class Group(NamedTuple):
    """Values that rows have in common, as JSON, with `None` in a list of its own for those that are
    not there; and how many rows these are.
    """

    values: list[tuple[Any, ...]]
    rows: int


def check(query: Selection) -> None:
    """Lets a query pass that can be asked.

    Raises:
        InvalidArgument: a name means nothing, or parts of its condition do not go together.
    """
    for path in (*query.group_by, *(order.path for order in query.order_by)):
        value_of(path, POSTGRESQL)
    if query.where is not None:
        condition(query.where, POSTGRESQL)


WINDOW_END: Final = Query(
    select(_key)
    .where(_of_hub & (_key > bindparam("after")))
    .order_by(_key)
    .offset(bindparam("window"))
    .limit(1),
    str,
)
"""The key that many rows behind `after`, if there are so many."""


def by_key(query: Selection) -> AdHocQuery[Found]:
    """Up to `most` rows with keys behind `after`, up to `until`."""
    uses = _uses_certificate(query)

    def statement(dialect: str) -> Select[Any]:
        rows = _selected(query, uses, dialect).where(_key > bindparam("after"))
        return rows.where(_key <= bindparam("until")).order_by(_key).limit(bindparam("most"))

    return AdHocQuery(statement, _found if uses else _found_alone)


def keys_only(query: Selection) -> AdHocQuery[str]:
    """The keys of up to `most` rows with keys behind `after`, up to `until`."""

    def statement(dialect: str) -> Select[Any]:
        rows = _filtered(select(_key), query, dialect).where(_key > bindparam("after"))
        return rows.where(_key <= bindparam("until")).order_by(_key).limit(bindparam("most"))

    return AdHocQuery(statement, str)


def of_keys(query: Selection, keys: Sequence[str]) -> AdHocQuery[Found]:
    """The rows of these keys."""
    uses = _uses_certificate(query)
    columns = (*service_twins.COLUMNS, *(_CERTIFICATE if uses else ()))
    rows = (
        select(*columns).select_from(searched(certificate=uses)).where(_of_hub, among(_key, keys))
    )
    return AdHocQuery(rows, _found if uses else _found_alone)


def sort_kinds(query: Selection) -> list[type | tuple[type, ...]]:
    """The types of the values of a place in the order of a query."""
    of_one: list[type | tuple[type, ...]] = [int, (int, float), str]
    return [*(of_one * len(query.order_by)), str]


def in_order(query: Selection, place: Sequence[Any] | None) -> AdHocQuery[tuple[Any, ...]]:
    """Up to `most` places, in the order of a query, behind `place`: for each name that it is sorted
    by a rank, a number and a text, and then the key.
    """

    def statement(dialect: str) -> Select[Any]:
        columns: list[ColumnElement[Any]] = []
        for order in query.order_by:
            columns += _sortable(value_of(order.path, dialect))
        labelled = [column.label(f"s{number}") for number, column in enumerate(columns)]
        inner = _filtered(select(*labelled, _key.label("key")), query, dialect).subquery()
        sorted_by = [inner.c[f"s{number}"] for number in range(len(columns))]
        descending = [order.descending for order in query.order_by for _ in range(3)]
        rows = select(*sorted_by, inner.c.key)
        if place is not None:
            rows = rows.where(_behind([*sorted_by, inner.c.key], [*descending, False], place))
        directed = (
            column.desc() if down else column.asc()
            for column, down in zip(sorted_by, descending, strict=True)
        )
        return rows.order_by(*directed, inner.c.key).limit(bindparam("most"))

    return AdHocQuery(statement, lambda *columns: columns)


def counts(query: Selection) -> AdHocQuery[Group]:
    """Up to `most` groups, the largest first."""
    times: list[bool] = []

    def statement(dialect: str) -> Select[Any]:
        columns: list[ColumnElement[Any]] = []
        times.clear()
        for path in query.group_by:
            value = value_of(path, dialect)
            times.append(isinstance(value, Time))
            columns += _comparable(value)
        labelled = [column.label(f"g{number}") for number, column in enumerate(columns)]
        marked = literal(1).label("one")
        inner = _filtered(select(*labelled, marked), query, dialect).subquery()
        groups = [inner.c[f"g{number}"] for number in range(len(columns))]
        how_many = func.count().label("how_many")
        rows = select(*groups, how_many).select_from(inner).group_by(*groups)
        return rows.order_by(how_many.desc(), *groups).limit(bindparam("most"))

    def row(*columns: Any) -> Group:
        values = [
            _shown(*columns[at : at + 3], is_time=times[at // 3])
            for at in range(0, len(columns) - 1, 3)
        ]
        return Group(values, int(columns[-1]))

    return AdHocQuery(statement, row)


# --- inside


def _selected(query: Selection, uses: bool, dialect: str) -> Select[Any]:
    columns = (*service_twins.COLUMNS, *(_CERTIFICATE if uses else ()))
    return _filtered(select(*columns), query, dialect)


def _filtered(rows: Select[Any], query: Selection, dialect: str) -> Select[Any]:
    uses = _uses_certificate(query)
    is_module = identities.c.module_id.is_not(None)
    of_source = is_module if query.source is Source.MODULES else ~is_module
    rows = rows.select_from(searched(certificate=uses)).where(_of_hub, of_source)
    return rows if query.where is None else rows.where(condition(query.where, dialect))


def _found(*columns: Any) -> Found:
    own, certificate = columns[: -len(_CERTIFICATE)], columns[-len(_CERTIFICATE) :]
    held = None if certificate[0] is None else FoundCertificate(*certificate)
    return Found(service_twins.row(*own), held)


def _found_alone(*columns: Any) -> Found:
    return Found(service_twins.row(*columns), None)


def _uses_certificate(query: Selection) -> bool:
    paths = [field.path for field in query.fields if isinstance(field, Field)]
    paths += [order.path for order in query.order_by]
    left: list[Expression] = [*paths, *query.group_by]
    if query.where is not None:
        left.append(query.where)
    while left:
        match left.pop():
            case Path(names):
                if names[0] == CERTIFICATE:
                    return True
            case Comparison(_, one, other):
                left += (one, other)
            case Member(operand, _) | Not(operand):
                left.append(operand)
            case And(operands) | Or(operands) | Call(_, operands):
                left += operands
    return False


def _comparable(value: Value) -> tuple[ColumnElement[Any], ...]:
    """Three columns that are never NULL, and alike for values that are the same."""
    if isinstance(value, Time):
        rank = case((value.at.is_(None), int(Rank.UNDEFINED)), else_=int(Rank.STRING))
        at = func.coalesce(cast(value.at, BigInteger), 0, type_=BigInteger)
        return rank, at, literal("", Text)
    number = func.coalesce(value.number, 0.0, type_=Ieee())
    return value.rank, number, func.coalesce(value.text, "", type_=Text)


def _sortable(value: Value) -> tuple[ColumnElement[Any], ...]:
    rank, number, text = _comparable(value)
    return rank, number, func.substr(text, 1, _SORTED, type_=Text)


def _behind(
    columns: Sequence[ColumnElement[Any]], descending: Sequence[bool], place: Sequence[Any]
) -> ColumnElement[bool]:
    """Whether a row comes after a place."""
    column, value, down = columns[0], place[0], descending[0]
    beyond: ColumnElement[bool] = column < value if down else column > value
    if len(columns) == 1:
        return beyond
    further = _behind(columns[1:], descending[1:], place[1:])
    return or_(beyond, and_(column == value, further))


def _shown(rank: int, number: float, text: str, *, is_time: bool) -> tuple[Any, ...]:
    """A value in a tuple; an empty one for none, and for arrays and objects."""
    if is_time:
        return () if rank == Rank.UNDEFINED else (iso8601(from_microseconds(int(number))),)
    match rank:
        case Rank.NULL:
            return (None,)
        case Rank.FALSE | Rank.TRUE:
            return (rank == Rank.TRUE,)
        case Rank.NUMBER:
            return (int(number) if float(number).is_integer() else number,)
        case Rank.STRING:
            return (text,)
    return ()
