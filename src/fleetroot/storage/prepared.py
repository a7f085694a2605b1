"""Statements that are written with SQLAlchemy Core and compiled once.

Core keeps the SQL visible and portable; executing through it costs more than the statement itself
where a unit of work has a budget of a hundred microseconds. So a `Query` or `Command` compiles on
first use for a dialect, and after that only binds values and calls the driver.

Parameters are named `bindparam`s, or come from a statement that names columns (`insert(table)`).
Expanding parameters (`IN` over a list) are not supported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from sqlalchemy import Dialect, Insert, Table, bindparam
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import Executable

R = TypeVar("R")

# A statement, or how to make it for the dialect of that name (upserts are dialect-specific).
StatementSource: TypeAlias = Executable | Callable[[str], Executable]
_Convert: TypeAlias = Callable[[Any], Any] | None


class Bound:
    """A statement compiled for one dialect with positional parameters."""

    __slots__ = ("_constants", "_parameters", "_pick", "_results", "sql")

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        if not isinstance(compiled, SQLCompiler) or compiled.positiontup is None:
            raise TypeError("only statements with positional parameters can be prepared")
        self.sql: str = str(compiled)
        self._pick = _picker(compiled.positiontup)
        constants: dict[str, Any] = {}
        parameters: list[_Convert] = []
        for name in compiled.positiontup:
            bind = compiled.binds[name]
            convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if bind.required:
                parameters.append(convert)
                continue
            value = bind.effective_value
            constants[name] = convert(value) if convert and value is not None else value
            parameters.append(None)
        self._constants = constants
        self._parameters = _converted(parameters)
        self._results = _converted(
            column.type.dialect_impl(dialect).result_processor(dialect, None)
            for column in getattr(statement, "exported_columns", ())
        )

    def bind(self, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The values in the order of the SQL's placeholders.

        Raises:
            KeyError: a parameter is missing.
        """
        if self._constants:
            parameters = {**parameters, **self._constants}
        values = list(self._pick(parameters))
        for index, convert in self._parameters:
            if values[index] is not None:
                values[index] = convert(values[index])
        return values

    def convert(self, row: tuple[Any, ...]) -> Sequence[Any]:
        """The driver's row with every value in the type of its column."""
        if not self._results:
            return row
        values = list(row)
        for index, convert in self._results:
            if values[index] is not None:
                values[index] = convert(values[index])
        return values


def _picker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Iterable[Any]]:
    """What gives the values of those names, in their order."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]  # itemgetter would give no sequence


def _converted(converts: Iterable[_Convert]) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
    """Those of the columns that the driver does not take, or give, as they are."""
    return tuple((index, each) for index, each in enumerate(converts) if each is not None)


class _Prepared:
    __slots__ = ("_bound", "_source")

    is_kept: ClassVar = True  # by a database server, on every connection that ran it

    def __init__(self, source: StatementSource) -> None:
        self._source = source
        self._bound: dict[str, Bound] = {}

    def on(self, dialect: Dialect) -> Bound:
        """The statement, compiled for `dialect`."""
        bound = self._bound.get(dialect.name)
        if bound is None:
            source = self._source
            statement = source if isinstance(source, Executable) else source(dialect.name)
            bound = self._bound[dialect.name] = Bound(statement, dialect)
        return bound


class Query(_Prepared, Generic[R]):
    """A statement that gives rows; `row` is called with a row's columns in their order."""

    __slots__ = ("row",)

    def __init__(self, source: StatementSource, row: Callable[..., R]) -> None:
        super().__init__(source)
        self.row = row


class AdHocQuery(Query[R]):
    """A query that was made for one caller, and is not kept anywhere."""

    __slots__ = ()

    is_kept = False


class Command(_Prepared):
    """A statement that changes rows."""

    __slots__ = ()


def insert_into(table: Table, *, leave_out: Sequence[str] = ()) -> Insert:
    """`INSERT` with a parameter for every column but those of `leave_out`, named as the column."""
    return table.insert().values(
        {c.name: bindparam(c.name) for c in table.columns if c.name not in leave_out}
    )


def insert_if_absent(table: Table) -> Callable[[str], Executable]:
    """`INSERT … ON CONFLICT DO NOTHING` with a parameter for every column, named as the column."""

    def statement(dialect: str) -> Executable:
        insert = postgresql_insert if dialect == "postgresql" else sqlite_insert
        made = insert(table).values({c.name: bindparam(c.name) for c in table.columns})
        return made.on_conflict_do_nothing()

    return statement


def upsert_into(table: Table, *, keep: Sequence[str] = ()) -> Callable[[str], Executable]:
    """`INSERT … ON CONFLICT (primary key) DO UPDATE` of every column that is neither part of the
    key nor in `keep`.
    """

    def statement(dialect: str) -> Executable:
        insert = postgresql_insert if dialect == "postgresql" else sqlite_insert
        key = [c.name for c in table.primary_key.columns]
        made = insert(table).values({c.name: bindparam(c.name) for c in table.columns})
        changed = {
            c.name: made.excluded[c.name]
            for c in table.columns
            if c.name not in key and c.name not in keep
        }
        return made.on_conflict_do_update(index_elements=key, set_=changed)

    return statement
