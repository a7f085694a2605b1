"""What every resource has in common on the wire, and how a page of them looks.

Source: Azure Resource Manager, common types v5: `Resource`, `ProxyResource`, `TrackedResource`,
`SystemData`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from fleetroot.api.arm.routing import PAGE, next_link, skip_token
from fleetroot.clock import iso8601
from fleetroot.ids import canonical

T = TypeVar("T")
R = TypeVar("R")

SUCCEEDED: Final = "Succeeded"
Location = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ()._-]{0,63}$")]
Tags = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=512)],
        Annotated[str, StringConstraints(max_length=256)],
    ],
    Field(max_length=50),
]


class Sent(BaseModel):
    """What a client sends. What is read-only comes back from clients that send what they read, and
    is ignored, as is what other versions have.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", strict=True
    )


class Shown(BaseModel):
    """What a client is shown; None is left out."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class SystemData(Shown):
    """When a resource was made, and changed last (ISO 8601)."""

    created_at: str
    last_modified_at: str

    @classmethod
    def of(cls, created_at: datetime, updated_at: datetime) -> SystemData:
        """From the times of a resource."""
        return cls(created_at=iso8601(created_at), last_modified_at=iso8601(updated_at))


class Resource(Shown):
    """A proxy resource; with `location` and `tags` a tracked one."""

    id: str
    name: str
    type: str
    system_data: SystemData
    etag: str
    location: str | None = None
    tags: dict[str, str] | None = None


class Page(Shown, Generic[R]):
    """Some resources of a list, and the address of the next page; the last page has none."""

    value: list[R]
    next_link: str | None = None


def page_by_name(
    request: Request, every: Sequence[T], name_of: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """The page that the request asks for, of all in the order of their names; and the address of
    the next one.
    """
    after = canonical(skip_token(request))
    behind = [each for each in every if canonical(name_of(each)) > after]
    found = behind[:PAGE]
    return found, next_link(request, name_of(found[-1])) if len(behind) > PAGE else None
