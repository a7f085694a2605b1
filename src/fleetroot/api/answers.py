"""What the JSON of the operator API's answers has in common: names, times, fingerprints, pages."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from pydantic import AliasGenerator, BaseModel, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from fleetroot.clock import iso8601

T = TypeVar("T")

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
