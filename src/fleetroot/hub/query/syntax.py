"""What a query says, as a tree. Nothing here knows what the names mean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TypeAlias


class Source(Enum):
    """What is searched."""

    DEVICES = "devices"
    MODULES = "devices.modules"


class Operator(StrEnum):
    """How two values are compared."""

    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    GREATER = ">"
    AT_MOST = "<="
    AT_LEAST = ">="


class Function(StrEnum):
    """What can be asked of values; the names are compared without case."""

    IS_DEFINED = "IS_DEFINED"
    IS_NULL = "IS_NULL"
    IS_BOOL = "IS_BOOL"
    IS_NUMBER = "IS_NUMBER"
    IS_STRING = "IS_STRING"
    IS_ARRAY = "IS_ARRAY"
    IS_OBJECT = "IS_OBJECT"
    IS_PRIMITIVE = "IS_PRIMITIVE"
    STARTSWITH = "STARTSWITH"
    ENDSWITH = "ENDSWITH"
    CONTAINS = "CONTAINS"


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; numbers are IEEE doubles."""

    value: str | float | bool | None


@dataclass(frozen=True, slots=True)
class Path:
    """A name: `tags.location.plant`."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`left operator right`."""

    operator: Operator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Member:
    """`operand IN [items]`."""

    operand: Expression
    items: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments)`."""

    function: Function
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`NOT operand`."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class And:
    """`operand AND operand …`, two or more."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """`operand OR operand …`, two or more."""

    operands: tuple[Expression, ...]


Expression: TypeAlias = Literal | Path | Comparison | Member | Call | Not | And | Or


@dataclass(frozen=True, slots=True)
class Field:
    """A value of each row, and what it is called there."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows there are, or are of a group; and what that is called."""

    name: str


@dataclass(frozen=True, slots=True)
class Order:
    """What rows are sorted by."""

    path: Path
    descending: bool


@dataclass(frozen=True, slots=True)
class Select:
    """A query.

    Attributes:
        fields: of each row; empty: all there is.
        top: how many rows at most; None: all.
    """

    fields: tuple[Field | Count, ...]
    source: Source
    where: Expression | None
    group_by: tuple[Path, ...]
    order_by: tuple[Order, ...]
    top: int | None

    @property
    def counts(self) -> bool:
        """Whether rows are counted, and not shown."""
        return any(isinstance(field, Count) for field in self.fields) or bool(self.group_by)
