"""The grammar of queries, and the parser that makes a tree of a text.

Keywords and functions are compared without case, names with it. What a text may cost is bounded
before and while it is parsed: its length, and how many parts its tree has and how deep.

Source: Azure IoT Hub, "Query language for device and module twins, jobs, and message routing".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from fleetroot.errors import InvalidArgument
from fleetroot.hub.query.syntax import (
    And,
    Call,
    Comparison,
    Count,
    Expression,
    Field,
    Function,
    Literal,
    Member,
    Not,
    Operator,
    Or,
    Order,
    Path,
    Select,
    Source,
)

MAX_TEXT: Final = 8192  # characters
MAX_PARTS: Final = 400  # of a condition: each name, constant, operator and function
MAX_DEPTH: Final = 32
MAX_ITEMS: Final = 256  # of a list behind IN
MAX_FIELDS: Final = 64
MAX_KEYS: Final = 4  # to sort or group by
MAX_NAMES: Final = 16  # in a path

_GRAMMAR: Final = r"""
start: _SELECT top? fields _FROM source where? group_by? order_by?

top: _TOP NUMBER
fields: _ALL -> everything
      | field ("," field)*
?field: path (_AS NAME)? -> field
      | NAME "(" _ALL? ")" (_AS NAME)? -> count
source: NAME ("." NAME)?
where: _WHERE or_
group_by: _GROUP _BY path ("," path)*
order_by: _ORDER _BY order ("," order)*
order: path (ASC | DESC)?

?or_: and_ (_OR and_)*
?and_: not_ (_AND not_)*
?not_: _NOT not_ -> negation
     | comparison
?comparison: operand
           | operand OPERATOR operand -> compare
           | operand _IN list -> member
           | operand (_NIN | _NOT _IN) list -> no_member
?operand: literal
        | path
        | NAME "(" or_ ("," or_)* ")" -> call
        | "(" or_ ")"
list: "[" literal ("," literal)* "]"
    | "(" literal ("," literal)* ")"
literal: STRING -> string
       | NUMBER -> number
       | TRUE -> true
       | FALSE -> false
       | NULL -> null
path: (NAME | ESCAPED) ("." (KEY | ESCAPED))*

_ALL: "*"
OPERATOR: "!=" | "<>" | "<=" | ">=" | "=" | "<" | ">"
_SELECT.2: /select(?![\w$])/i
_TOP.2: /top(?=\s+\d)/i
_FROM.2: /from(?![\w$])/i
_WHERE.2: /where(?![\w$])/i
_GROUP.2: /group(?![\w$])/i
_ORDER.2: /order(?![\w$])/i
_BY.2: /by(?![\w$])/i
_AS.2: /as(?![\w$])/i
_OR.2: /or(?![\w$])/i
_AND.2: /and(?![\w$])/i
_NOT.2: /not(?![\w$])/i
_IN.2: /in(?![\w$])/i
_NIN.2: /nin(?![\w$])/i
ASC.2: /asc(?![\w$])/i
DESC.2: /desc(?![\w$])/i
TRUE.2: /true(?![\w$])/i
FALSE.2: /false(?![\w$])/i
NULL.2: /null(?![\w$])/i
NAME: /[^\W\d][\w$]*|\$[\w$]+/
KEY: /[\w$]+/
ESCAPED: /\[\[[^\[\]"\\\x00-\x1f]+\]\]/
STRING: /'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"/s
NUMBER: /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/
%ignore /\s+/
"""
# Names of terminals as people know them, for messages.
_SHOWN: Final = {
    "NAME": "a name",
    "KEY": "a name",
    "ESCAPED": "a name",
    "STRING": "a string",
    "NUMBER": "a number",
    "OPERATOR": "a comparison",
    "_ALL": "*",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": ",",
    "DOT": ".",
    "$END": "the end",
}
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SURROGATES: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")  # as JSON escapes U+10000 on
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"} | {c: c for c in "\\/'\""}
_OPERATORS: Final = {"<>": Operator.UNEQUAL} | {each.value: each for each in Operator}
_ARGUMENTS: Final = {Function.STARTSWITH: 2, Function.ENDSWITH: 2, Function.CONTAINS: 2}


def parse(text: str) -> Select:
    """A query of its text.

    Raises:
        InvalidArgument: it is none, or is too long or too deep; the message says where.
    """
    if len(text) > MAX_TEXT:
        raise InvalidArgument(f"query: at most {MAX_TEXT} characters")
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise InvalidArgument(f"query: {_shown(error, text)}") from None
    assert isinstance(tree, Select)  # noqa: S101 - what `start` makes
    _check(tree)
    return tree


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="contextual", transformer=_Build())


def _shown(error: UnexpectedInput, text: str) -> str:
    """What is wrong, where, and what would not be."""
    expected: set[str] = set()
    if isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
    elif isinstance(error, UnexpectedCharacters):
        expected = set(error.allowed or ())
    names = sorted({_SHOWN.get(name, name.strip("_")) for name in expected})
    wanted = f"; expected {', '.join(names)}" if names else ""
    position = error.pos_in_stream
    if isinstance(error, UnexpectedEOF) or position is None or not 0 <= position < len(text):
        return f"ends too early{wanted}"
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return f"ends too early{wanted}"
    return f"`{text[position : position + 20]}` at {position + 1} is not understood{wanted}"


@v_args(inline=True)
class _Build(Transformer[Token, Select]):
    """Makes the tree, from the leaves up."""

    def start(self, *clauses: tuple[str, Any]) -> Select:
        found = dict(clauses)
        return Select(
            found["fields"],
            found["source"],
            found.get("where"),
            found.get("group_by", ()),
            found.get("order_by", ()),
            found.get("top"),
        )

    def top(self, number: Token) -> tuple[str, int]:
        if not number.isdecimal() or not 0 < int(number[:10]) < 2**31:
            raise InvalidArgument("query: TOP takes a number from 1")
        return "top", int(number)

    def everything(self) -> tuple[str, tuple[Field, ...]]:
        return "fields", ()

    def fields(self, *fields: Field | Count) -> tuple[str, tuple[Field | Count, ...]]:
        return "fields", fields

    def field(self, path: Path, name: Token | None = None) -> Field:
        return Field(path, str(name or path.names[-1]))

    def count(self, function: Token, name: Token | None = None) -> Count:
        if function.upper() != "COUNT":
            raise InvalidArgument(f"query: {function[:32]}() cannot be selected; COUNT() can")
        return Count(str(name or "count"))

    def source(self, *names: Token) -> tuple[str, Source]:
        try:
            return "source", Source(".".join(names).lower())
        except ValueError:
            raise InvalidArgument("query: FROM takes devices or devices.modules") from None

    def where(self, condition: Expression) -> tuple[str, Expression]:
        return "where", condition

    def group_by(self, *paths: Path) -> tuple[str, tuple[Path, ...]]:
        return "group_by", paths

    def order_by(self, *orders: Order) -> tuple[str, tuple[Order, ...]]:
        return "order_by", orders

    def order(self, path: Path, direction: Token | None = None) -> Order:
        return Order(path, direction is not None and direction.type == "DESC")

    def or_(self, *operands: Expression) -> Or:
        return Or(operands)

    def and_(self, *operands: Expression) -> And:
        return And(operands)

    def negation(self, operand: Expression) -> Not:
        return Not(operand)

    def compare(self, left: Expression, operator: Token, right: Expression) -> Comparison:
        return Comparison(_OPERATORS[operator], left, right)

    def member(self, operand: Expression, items: tuple[Literal, ...]) -> Member:
        return Member(operand, items)

    def no_member(self, operand: Expression, items: tuple[Literal, ...]) -> Not:
        return Not(Member(operand, items))

    def list(self, *items: Literal) -> tuple[Literal, ...]:
        return items

    def call(self, name: Token, *arguments: Expression) -> Call:
        try:
            function = Function(name.upper())
        except ValueError:
            raise InvalidArgument(f"query: there is no function {name[:32]}") from None
        wanted = _ARGUMENTS.get(function, 1)
        if len(arguments) != wanted:
            raise InvalidArgument(f"query: {function} takes {wanted} arguments")
        return Call(function, arguments)

    def path(self, *names: Token) -> Path:
        return Path(tuple(name[2:-2] if name.type == "ESCAPED" else str(name) for name in names))

    def string(self, token: Token) -> Literal:
        text = _ESCAPE.sub(_unescaped, token[1:-1]).replace("\0", "\ufffd")
        return Literal(_SURROGATES.sub(_joined, text))

    def number(self, token: Token) -> Literal:
        value = float(token)
        if math.isinf(value):
            raise InvalidArgument("query: a number is out of range")
        return Literal(value)

    def true(self, _: Token) -> Literal:
        return Literal(True)

    def false(self, _: Token) -> Literal:
        return Literal(False)

    def null(self, _: Token) -> Literal:
        return Literal(None)


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


def _unescaped(match: re.Match[str]) -> str:
    """A character of its escape in a string.

    Raises:
        InvalidArgument: there is no such escape.
    """
    escape = match[1]
    if len(escape) == 5:
        return chr(int(escape[1:], 16))
    try:
        return _ESCAPES[escape]
    except KeyError:
        raise InvalidArgument("query: a string has an escape that JSON does not have") from None


def _check(query: Select) -> None:
    """Raises:
    InvalidArgument: the query is too large, or its parts do not go together.
    """
    if len(query.fields) > MAX_FIELDS:
        raise InvalidArgument(f"query: at most {MAX_FIELDS} values can be selected")
    if max(len(query.group_by), len(query.order_by)) > MAX_KEYS:
        raise InvalidArgument(f"query: at most {MAX_KEYS} names to sort or to group by")
    names = [field.name for field in query.fields]
    if len(set(names)) < len(names):
        raise InvalidArgument("query: two values have one name; tell them apart with AS")
    if query.counts:
        if query.order_by or query.top is not None:
            raise InvalidArgument("query: counts have neither ORDER BY nor TOP")
        shown = [field.path for field in query.fields if isinstance(field, Field)]
        if not query.fields or any(path not in query.group_by for path in shown):
            raise InvalidArgument("query: with COUNT, select what is named behind GROUP BY")
    for number, (each, depth) in enumerate(_parts(query), 1):
        if number > MAX_PARTS or depth > MAX_DEPTH:
            raise InvalidArgument(
                f"query: at most {MAX_PARTS} parts, {MAX_DEPTH} deep in each other"
            )
        if isinstance(each, Member) and len(each.items) > MAX_ITEMS:
            raise InvalidArgument(f"query: at most {MAX_ITEMS} values behind IN")
        if isinstance(each, Path) and len(each.names) > MAX_NAMES:
            raise InvalidArgument(f"query: at most {MAX_NAMES} names in a path")
        texts = each.names if isinstance(each, Path) else (getattr(each, "value", None),)
        for text in texts:
            if isinstance(text, str) and not _is_unicode(text):
                raise InvalidArgument("query: a surrogate stands alone")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _parts(query: Select) -> Iterator[tuple[Expression, int]]:
    """Every part, and how deep it is, without recursion: it may be too deep for that."""
    left: list[tuple[Expression, int]] = [(path, 1) for path in query.group_by]
    left += [(order.path, 1) for order in query.order_by]
    left += [(field.path, 1) for field in query.fields if isinstance(field, Field)]
    if query.where is not None:
        left.append((query.where, 1))
    while left:
        each, depth = left.pop()
        yield each, depth
        left.extend((below, depth + 1) for below in _below(each))


def _below(expression: Expression) -> tuple[Expression, ...]:
    match expression:
        case Comparison(_, a, b):
            return a, b
        case Member(operand, _) | Not(operand):
            return (operand,)
        case Call(_, below) | And(below) | Or(below):
            return below
    return ()
