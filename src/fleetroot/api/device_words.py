"""What the operator API says of a device beside what decides about it: tags, and the words of the
management API for its properties, as that has them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from fleetroot.api.answers import Answer, Nothing, left_out
from fleetroot.registry.device_resources import Description

_Word = Annotated[str, Field(min_length=1, max_length=256)]
_Tags = Annotated[dict[str, str], Field(max_length=50)]


class Words(BaseModel):
    """What may be said of a device. Where it is there, what is left out stays, and null removes a
    property.
    """

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)

    external_device_id: _Word | None = None
    discovered_device_ref: _Word | None = None
    manufacturer: _Word | None = None
    model: _Word | None = None
    operating_system: _Word | None = None
    operating_system_version: _Word | None = None
    endpoints: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None


_PROPERTIES = {to_camel(name): name for name in Words.model_fields}


class DescribedBody(Words):
    """What may be said of a device, with its tags as a whole."""

    tags: _Tags | None = None

    def properties(self) -> dict[str, Any]:
        """The properties that are given, by their names in JSON."""
        given = self.model_dump(by_alias=True, exclude_unset=True)
        return {name: value for name, value in given.items() if name in _PROPERTIES}


class DescribedAnswer(Answer):
    """What was said of a device."""

    tags: dict[str, str]
    external_device_id: str | Nothing = left_out()
    discovered_device_ref: str | Nothing = left_out()
    manufacturer: str | Nothing = left_out()
    model: str | Nothing = left_out()
    operating_system: str | Nothing = left_out()
    operating_system_version: str | Nothing = left_out()
    endpoints: dict[str, Any] | Nothing = left_out()
    attributes: dict[str, Any] | Nothing = left_out()


def words_of(description: Description) -> dict[str, Any]:
    """The fields of a `DescribedAnswer`."""
    said = description.properties
    known = {_PROPERTIES[name]: value for name, value in said.items() if name in _PROPERTIES}
    return {"tags": dict(description.tags), **known}
