"""Every column that holds sealed records, and the name that each record is bound to.

A column that is missing here would be lost when the master key is changed, so a test holds the list
against the schema: each column named `sealed_…`, and the rows of `installation` that are sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import Table, bindparam, select, tuple_

from fleetroot.audit import checkpoints
from fleetroot.custody import CHECK_NAME, RecordName
from fleetroot.hub import identities
from fleetroot.provisioning import enrollments, webhook_secrets
from fleetroot.provisioning.model import EnrollmentKind
from fleetroot.registry import authorities, ocsp_responders, shared_access
from fleetroot.storage import Command, Query, Transaction, schema

SEAL_CHECK: Final = "seal-check"  # the row of `installation` that knows the master key again
RowName = Callable[[str], RecordName | None]


@dataclass(frozen=True, slots=True)
class Record:
    """A sealed record.

    Attributes:
        key: the row's primary key.
        name: what it is bound to; None for what is not sealed.
        blob: as it is stored; None for none.
    """

    key: tuple[Any, ...]
    name: RecordName | None
    blob: bytes | None


@dataclass(frozen=True)
class SealedColumn:
    """A column of sealed records.

    Attributes:
        name_of: the record's name, of the row's primary key and `more`.
        more: further columns that the name is made of.
    """

    table: Table
    column: str
    name_of: Callable[..., RecordName | None]
    more: Sequence[str] = ()
    _first: Query[Record] = field(init=False, repr=False)
    _next: Query[Record] = field(init=False, repr=False)
    _replace: Command = field(init=False, repr=False)

    def __post_init__(self) -> None:
        keys, columns = list(self.table.primary_key.columns), self.table.c
        width = len(keys)
        every = (
            select(*keys, *(columns[name] for name in self.more), columns[self.column])
            .order_by(*keys)
            .limit(bindparam("limit"))
        )
        behind = tuple_(*keys) > tuple_(
            *(bindparam(f"after_{n}", type_=c.type) for n, c in enumerate(keys))
        )

        def row(*values: Any) -> Record:
            return Record(values[:width], self.name_of(*values[:-1]), values[-1])

        replace = self.table.update().values({self.column: bindparam("new")})
        for number, key in enumerate(keys):
            replace = replace.where(key == bindparam(f"key_{number}", type_=key.type))
        replace = replace.where(columns[self.column] == bindparam("old"))
        object.__setattr__(self, "_first", Query(every, row))
        object.__setattr__(self, "_next", Query(every.where(behind), row))
        object.__setattr__(self, "_replace", Command(replace))

    def page(self, tx: Transaction, after: tuple[Any, ...] | None, limit: int) -> list[Record]:
        """Up to `limit` records behind the one of the key `after`."""
        if after is None:
            return tx.all(self._first, limit=limit)
        return tx.all(self._next, limit=limit, **{f"after_{n}": v for n, v in enumerate(after)})

    def replace(self, tx: Transaction, records: Sequence[tuple[Record, bytes]]) -> int:
        """Puts new blobs in the place of those that are still there; how many were."""
        rows = [
            {"old": record.blob, "new": new} | {f"key_{n}": v for n, v in enumerate(record.key)}
            for record, new in records
        ]
        return tx.run_many(self._replace, rows)


def sealed_columns(rows: Sequence[RowName] = ()) -> tuple[SealedColumn, ...]:
    """Every column. `rows` name rows of `installation` that others seal."""
    every_row = (_seal_check, checkpoints.sealed_name, *rows)
    return (
        SealedColumn(
            schema.authorities,
            "sealed_key",
            lambda id_, namespace: authorities.key_name(namespace, id_),
            ("namespace_id",),
        ),
        SealedColumn(
            schema.authority_requests,
            "sealed_key",
            lambda id_, namespace: authorities.key_name(namespace, id_),
            ("namespace_id",),
        ),
        SealedColumn(schema.ocsp_responders, "sealed_key", ocsp_responders.key_name, ("number",)),
        *_pair(schema.shared_access_policies, shared_access.key_name),
        *_pair(schema.enrollments, _enrollment),
        *_pair(schema.identities, identities.key_name),
        *_pair(schema.webhook_secrets, webhook_secrets.key_name),
        SealedColumn(schema.installation, "value", partial(_row_name, every_row)),
    )


def _pair(table: Table, name_of: Callable[..., RecordName]) -> list[SealedColumn]:
    return [
        SealedColumn(table, f"sealed_{which}", lambda *key, which=which: name_of(*key, which))
        for which in ("primary", "secondary")
    ]


def _enrollment(service_id: str, kind: str, key: str, which: str) -> RecordName:
    return enrollments.key_name(service_id, EnrollmentKind(kind), key, which)


def _seal_check(row: str) -> RecordName | None:
    return CHECK_NAME if row == SEAL_CHECK else None


def _row_name(every: Sequence[RowName], row: str) -> RecordName | None:
    return next((name for name_of in every if (name := name_of(row)) is not None), None)
