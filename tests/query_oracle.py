"""What queries mean, in Python and by the book (docs/queries.md): the other side of tests that ask
databases.
"""

from __future__ import annotations

import json
import operator
from typing import Any, Final

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

UNDEFINED: Final = object()
_COMPARE: Final = {
    Operator.EQUAL: operator.eq,
    Operator.UNEQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.GREATER: operator.gt,
    Operator.AT_MOST: operator.le,
    Operator.AT_LEAST: operator.ge,
}
_TYPES: Final = {
    Function.IS_NULL: ("null",),
    Function.IS_BOOL: ("boolean",),
    Function.IS_NUMBER: ("number",),
    Function.IS_STRING: ("string",),
    Function.IS_ARRAY: ("array",),
    Function.IS_OBJECT: ("object",),
    Function.IS_PRIMITIVE: ("null", "boolean", "number", "string"),
}


def type_of(value: Any) -> str | None:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return None


def value_of(expression: Expression, document: dict[str, Any]) -> Any:
    if isinstance(expression, Literal):
        return expression.value
    assert isinstance(expression, Path)
    found: Any = document
    for name in expression.names:
        if not isinstance(found, dict) or name not in found:
            return UNDEFINED
        found = found[name]
    return found


def compared(operator_: Operator, left: Any, right: Any) -> bool | None:
    kind = type_of(left)
    if kind is None or kind != type_of(right):
        return None
    if kind in ("number", "string"):
        both = (float(left), float(right)) if kind == "number" else (left, right)
        return bool(_COMPARE[operator_](*both))
    if kind in ("boolean", "null") and operator_ in (Operator.EQUAL, Operator.UNEQUAL):
        return bool(_COMPARE[operator_](left, right))
    return None


def truth(expression: Expression, document: dict[str, Any]) -> bool | None:
    """Whether a condition is true of a twin; None: it is undefined."""
    match expression:
        case And(operands):
            found = [truth(each, document) for each in operands]
            return False if False in found else None if None in found else True
        case Or(operands):
            found = [truth(each, document) for each in operands]
            return True if True in found else None if None in found else False
        case Not(operand):
            value = truth(operand, document)
            return None if value is None else not value
        case Comparison(operator_, left, right):
            return compared(operator_, value_of(left, document), value_of(right, document))
        case Member(operand, items):
            value = value_of(operand, document)
            found = [compared(Operator.EQUAL, value, item.value) for item in items]
            known = [each for each in found if each is not None]
            return any(known) if known else None
        case Call(function, arguments):
            return called(function, [value_of(each, document) for each in arguments])
    value = value_of(expression, document)
    return value if isinstance(value, bool) else None


def called(function: Function, values: list[Any]) -> bool | None:
    if function is Function.IS_DEFINED:
        return values[0] is not UNDEFINED
    if function in _TYPES:
        return type_of(values[0]) in _TYPES[function]
    text, part = values
    if not (isinstance(text, str) and isinstance(part, str)):
        return None
    match function:
        case Function.STARTSWITH:
            return text.startswith(part)
        case Function.ENDSWITH:
            return text.endswith(part)
    return part in text


def written(expression: Expression) -> str:
    """The text of a condition."""
    match expression:
        case And(operands):
            return "(" + " AND ".join(map(written, operands)) + ")"
        case Or(operands):
            return "(" + " OR ".join(map(written, operands)) + ")"
        case Not(operand):
            return f"NOT ({written(operand)})"
        case Comparison(operator_, left, right):
            return f"{written(left)} {operator_.value} {written(right)}"
        case Member(operand, items):
            return f"{written(operand)} IN [{', '.join(map(written, items))}]"
        case Call(function, arguments):
            return f"{function.value}({', '.join(map(written, arguments))})"
        case Path(names):
            return ".".join(n if n.isidentifier() and n.isascii() else f"[[{n}]]" for n in names)
        case Literal(value):
            return json.dumps(value)
    raise AssertionError(expression)
