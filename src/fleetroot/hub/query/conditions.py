"""Conditions of queries as SQL, true of the same rows on SQLite and PostgreSQL.

The rule of types: values compare with values of their own JSON type, and times with times and with
texts in ISO 8601. Any other comparison is undefined, as one with a value that is not there; so are
`<` and its like between booleans, nulls, arrays and objects. Undefined is SQL's NULL: NOT leaves
it, AND and OR take it as unknown, and a row is found where its condition is true. `IN` compares
with the items of the value's own type, and is undefined where there are none. A value that stands
alone is a condition if it is a boolean.

Constants are bound, never part of the statement.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Text, and_, case, false, func, literal, or_, true

from fleetroot.errors import InvalidArgument
from fleetroot.hub.query.syntax import (
    And,
    Call,
    Comparison,
    Expression,
    Function,
    Literal,
    Member,
    Not,
    Operator,
    Or,
    Path,
)
from fleetroot.hub.query.values import Time, Value, among, value_of
from fleetroot.ids import canonical
from fleetroot.storage.json_values import POSTGRESQL, JsonValue, Rank
from fleetroot.storage.schema import identities
from fleetroot.storage.types import Ieee, UtcTime

Condition = ColumnElement[bool]

_COMPARE: Final[dict[Operator, Callable[[Any, Any], Any]]] = {
    Operator.EQUAL: operator.eq,
    Operator.UNEQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.GREATER: operator.gt,
    Operator.AT_MOST: operator.le,
    Operator.AT_LEAST: operator.ge,
}
_TURNED: Final = {
    Operator.LESS: Operator.GREATER,
    Operator.GREATER: Operator.LESS,
    Operator.AT_MOST: Operator.AT_LEAST,
    Operator.AT_LEAST: Operator.AT_MOST,
}
_EQUALITY: Final = (Operator.EQUAL, Operator.UNEQUAL)
_RANKS_OF: Final = {
    Function.IS_NULL: (Rank.NULL,),
    Function.IS_BOOL: (Rank.FALSE, Rank.TRUE),
    Function.IS_NUMBER: (Rank.NUMBER,),
    Function.IS_STRING: (Rank.STRING,),
    Function.IS_ARRAY: (Rank.ARRAY,),
    Function.IS_OBJECT: (Rank.OBJECT,),
    Function.IS_PRIMITIVE: (Rank.NULL, Rank.FALSE, Rank.TRUE, Rank.NUMBER, Rank.STRING),
}
_TRUTH: Final = (int(Rank.FALSE), int(Rank.TRUE))
_DEVICE_ID: Final = Path(("deviceId",))


def condition(expression: Expression, dialect: str) -> Condition:
    """A condition of a query.

    Raises:
        InvalidArgument: its parts do not go together, or a name means nothing.
    """
    return _Compiler(dialect).condition(expression)


class _Compiler:
    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def condition(self, expression: Expression) -> Condition:
        match expression:
            case And(operands):
                return and_(*map(self.condition, operands))
            case Or(operands):
                return or_(*map(self.condition, operands))
            case Not(operand):
                return ~self.condition(operand).self_group()
            case Comparison():
                return self._comparison(expression)
            case Member(operand, items):
                return self._member(operand, items)
            case Call(function, arguments):
                return self._call(function, arguments)
            case Literal(bool(truth)):
                return true() if truth else false()
            case Path():
                value = value_of(expression, self._dialect)
                if isinstance(value, Time):
                    raise InvalidArgument(f"query: {expression} is a time, and no condition")
                return _is_true(value.rank)
        raise InvalidArgument("query: a constant is no condition")

    # --- comparisons

    def _comparison(self, comparison: Comparison) -> Condition:
        left, right, compared = comparison.left, comparison.right, comparison.operator
        if isinstance(left, Literal) and not isinstance(right, Literal):
            left, right, compared = right, left, _TURNED.get(compared, compared)
        if isinstance(right, Literal) and not isinstance(left, Literal):
            found = self._with_constant(self._value(left), compared, right.value)
            return self._by_key(left, compared, right, found)
        return _between(self._value(left), compared, self._value(right))

    def _by_key(
        self, left: Expression, compared: Operator, right: Literal, found: Condition
    ) -> Condition:
        """Lets a device be found by the key of its row where its id is named."""
        if left != _DEVICE_ID or compared is not Operator.EQUAL or not isinstance(right.value, str):
            return found
        return and_(_of_keys([right.value]), found)

    def _value(self, expression: Expression) -> Value:
        match expression:
            case Path():
                return value_of(expression, self._dialect)
            case Literal(value):
                return _constant(value)
        raise InvalidArgument("query: only values can be compared, not conditions")

    @staticmethod
    def _with_constant(
        value: Value, compared: Operator, constant: str | float | bool | None
    ) -> Condition:
        compare = _COMPARE[compared]
        if isinstance(value, Time):
            return compare(value.at, literal(_read_time(constant), UtcTime))  # type: ignore[no-any-return]
        if isinstance(constant, str):
            return compare(value.text, literal(constant, Text))  # type: ignore[no-any-return]
        if constant is None or isinstance(constant, bool):
            of_type = (int(Rank.NULL),) if constant is None else _TRUTH
            if compared not in _EQUALITY:
                return _undefined()
            return case((among(value.rank, of_type), compare(value.rank, int(_rank(constant)))))
        return compare(value.number, literal(constant, Ieee()))  # type: ignore[no-any-return]

    def _member(self, operand: Expression, items: tuple[Literal, ...]) -> Condition:
        value = self._value(operand)
        if isinstance(value, Time):
            times = [literal(_read_time(item.value), UtcTime) for item in items]
            return among(value.at, times)
        constants = [item.value for item in items]
        texts = [literal(each, Text) for each in constants if isinstance(each, str)]
        numbers = [literal(each, Ieee()) for each in constants if type(each) is float]
        found: list[Condition] = []
        if texts:
            found.append(among(value.text, texts))
        if numbers:
            found.append(among(value.number, numbers))
        truths = [int(_rank(each)) for each in constants if isinstance(each, bool)]
        if truths:
            found.append(case((among(value.rank, _TRUTH), among(value.rank, truths))))
        if None in constants:
            found.append(case((value.rank == int(Rank.NULL), true())))
        either = func.coalesce(*found) if len(found) > 1 else found[0]
        if operand == _DEVICE_ID and len(texts) == len(constants):
            return and_(_of_keys([str(each) for each in constants]), either)
        return either

    # --- functions

    def _call(self, function: Function, arguments: tuple[Expression, ...]) -> Condition:
        values = [self._value(each) for each in arguments]
        first = values[0]
        if function is Function.IS_DEFINED:
            return first.at.is_not(None) if isinstance(first, Time) else first.rank != 0
        if function in _RANKS_OF:
            if isinstance(first, Time):
                shown_as_text = Rank.STRING in _RANKS_OF[function]
                return first.at.is_not(None) if shown_as_text else false()
            return among(first.rank, [int(rank) for rank in _RANKS_OF[function]])
        second = values[1]
        if isinstance(first, Time) or isinstance(second, Time):
            raise InvalidArgument(f"query: {function} takes texts, not times")
        return self._of_texts(function, first.text, second.text)

    def _of_texts(
        self, function: Function, text: ColumnElement[str], part: ColumnElement[str]
    ) -> Condition:
        length = func.length(part)
        match function:
            case Function.STARTSWITH:
                return func.substr(text, 1, length, type_=Text) == part
            case Function.ENDSWITH:
                rest = func.length(text) - length
                end = func.substr(text, rest + 1, type_=Text) == part
                return case((rest >= 0, end), (rest < 0, false()))
            case _:
                find = func.strpos if self._dialect == POSTGRESQL else func.instr
                return find(text, part) > 0


def _between(left: Value, compared: Operator, right: Value) -> Condition:
    """Two values of which neither is known beforehand."""
    compare = _COMPARE[compared]
    if isinstance(left, Time) or isinstance(right, Time):
        if not (isinstance(left, Time) and isinstance(right, Time)):
            raise InvalidArgument("query: a time compares with times, and texts in ISO 8601")
        return compare(left.at, right.at)  # type: ignore[no-any-return]
    found = [compare(left.text, right.text), compare(left.number, right.number)]
    if compared in _EQUALITY:
        ranks = compare(left.rank, right.rank)
        nulls = and_(left.rank == int(Rank.NULL), right.rank == int(Rank.NULL))
        found.append(case((and_(among(left.rank, _TRUTH), among(right.rank, _TRUTH)), ranks)))
        found.append(case((nulls, ranks)))
    return func.coalesce(*found)


def _is_true(rank: ColumnElement[int]) -> Condition:
    return case((rank == int(Rank.TRUE), true()), (rank == int(Rank.FALSE), false()))


def _undefined() -> Condition:
    return case((false(), true()))


def _rank(constant: bool | None) -> Rank:
    return Rank.NULL if constant is None else Rank.TRUE if constant else Rank.FALSE


def _constant(value: str | float | bool | None) -> JsonValue:
    """A constant where another stands on the other side, or within a function."""
    match value:
        case str():
            return JsonValue(_of(Rank.STRING), literal(None, Ieee()), literal(value, Text))
        case bool() | None:
            return JsonValue(_of(_rank(value)), literal(None, Ieee()), literal(None, Text))
    return JsonValue(_of(Rank.NUMBER), literal(value, Ieee()), literal(None, Text))


def _of(rank: Rank) -> ColumnElement[int]:
    return literal(int(rank))


def _of_keys(ids: list[str]) -> Condition:
    keys = sorted({canonical(each) for each in ids})
    # Of a module it is its device's.
    return or_(among(identities.c.device_key, keys), among(identities.c.parent_key, keys))


def _read_time(constant: str | float | bool | None) -> datetime:
    """A time of a constant.

    Raises:
        InvalidArgument: it is none.
    """
    if isinstance(constant, str):
        try:
            time = datetime.fromisoformat(constant)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise InvalidArgument("query: a time compares with a text in ISO 8601, as 2027-01-31T12:00:00Z")
