"""What the bodies have in common that the operator API takes: names, host names, tags."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(max_length=64)]
HostName = Annotated[str, Field(min_length=1, max_length=253)]
ServiceTags = Annotated[dict[str, str], Field(max_length=50)]
"""Of a hub or provisioning service; the room bounds the words."""


class Body(BaseModel):
    """An object that is sent, in camel case; one with a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)
