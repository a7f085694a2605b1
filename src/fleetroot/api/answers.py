"""What the JSON of the operator API's answers has in common: names, times, fingerprints, pages."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema

from fleetroot.clock import iso8601

T = TypeVar("T")
N = TypeVar("N")

Time = Annotated[
    datetime,
    PlainSerializer(iso8601, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""ISO 8601 in UTC."""

Hex = Annotated[
    bytes,
    PlainSerializer(bytes.hex, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]*$"}, mode="serialization"),
]
"""Lower-case hexadecimal."""

Limit = Annotated[int, Query(ge=1, le=1000)]
"""How long a page may be."""

RowNumber = Annotated[int | None, Query(ge=0, le=2**63 - 1)]
"""A row behind which or before which a page begins."""

Nothing = SkipJsonSchema[None]
"""Of a field that is left out where there is nothing, with the default `left_out()`."""


def left_out(name: str | None = None) -> Any:
    """The default of a field of type `… | Nothing`; with a name in JSON that is not its own."""
    return Field(default=None, exclude_if=lambda value: value is None, serialization_alias=name)


class Answer(BaseModel):
    """An object that is answered. Its fields are camel case in JSON; one that has no default is
    always there.
    """

    model_config = ConfigDict(
        alias_generator=AliasGenerator(serialization_alias=to_camel), frozen=True
    )


class Listed(Answer, Generic[T]):
    """Everything there is."""

    value: list[T]


class Page(Listed[T], Generic[T, N]):
    """A part of it; `next` asks for the one behind, and is null on the last."""

    next: N | None
