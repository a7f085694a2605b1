"""Queries of the provisioning service API: what may be asked, and how answers are paged.

A page begins behind a key, so each costs the same, however many there are before it. The
continuation names the key and what was asked; it opens nothing that the caller may not ask anyway,
so it is checked and not signed.

Source: Azure DPS service REST API, "Query".
"""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import Header, Response
from pydantic import BaseModel, ConfigDict, Field

from fleetroot.errors import InvalidArgument
from fleetroot.ids import canonical, check_registration_id
from fleetroot.provisioning.model import Service

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
MAX_QUERY: Final = 1024
_MAX_CONTINUATION: Final = 1024
_CONTINUATION: Final = "x-ms-continuation"
_ITEM_TYPE: Final = "x-ms-item-type"
# The path says what is asked for: clients name any of these, and some none.
_COLLECTIONS: Final = {"enrollments", "enrollmentgroups", "registrations", "deviceregistrations"}


class ItemType(StrEnum):
    """What the items of an answer are, in the words of Azure's clients."""

    ENROLLMENT = "enrollment"
    ENROLLMENT_GROUP = "enrollmentGroup"
    REGISTRATION = "deviceRegistration"


class QueryBody(BaseModel):
    """A query: `SELECT * FROM enrollments`, or `*` for short."""

    model_config = ConfigDict(extra="ignore", strict=True)

    query: Annotated[str, Field(max_length=MAX_QUERY)]


PageSize = Annotated[
    int,
    Header(alias="x-ms-max-item-count", ge=1, le=MAX_PAGE, description="Of a page."),
]
"""How many items a page has at most."""

Continuation = Annotated[
    str | None,
    Header(
        alias=_CONTINUATION,
        max_length=_MAX_CONTINUATION,
        description="Where the page begins: what the page before it was answered with.",
    ),
]
"""Where a page begins; None: the first."""


def described(item_type: ItemType) -> dict[int | str, dict[str, Any]]:
    """The headers of a page, for a route's `responses`."""
    return {
        200: {
            "headers": {
                _CONTINUATION: {
                    "description": "Where the next page begins. The last page has none.",
                    "schema": {"type": "string"},
                },
                _ITEM_TYPE: {"schema": {"const": item_type.value}},
            }
        }
    }


def check_query(body: QueryBody | None) -> None:
    """Lets a query pass that asks for everything; one that is left out does.

    Raises:
        InvalidArgument: it asks for anything else.
    """
    words = body.query.lower().split() if body else ["*"]
    if words[:1] == ["select"]:
        words = words[1:]
    match words:
        case ["*"]:
            return
        case ["*", "from", collection] if collection in _COLLECTIONS:
            return
    raise InvalidArgument(
        "query: must be `SELECT * FROM enrollments`, `SELECT * FROM enrollmentGroups`,"
        " `SELECT * FROM registrations`, `SELECT *` or `*`; there is no WHERE"
    )


def begin_behind(continuation: str | None, service: Service, *asked: str) -> str:
    """The key behind which a page begins; empty on the first.

    Args:
        continuation: what the client sent.
        service: which was asked.
        asked: what of it.

    Raises:
        InvalidArgument: it is none of ours, or of another query.
    """
    if continuation is None:
        return ""
    try:
        text = base64.urlsafe_b64decode(continuation + "=" * (-len(continuation) % 4)).decode()
        *names, key = text.split("\n")
    except (binascii.Error, ValueError):
        names, key = [], ""
    if not key or names != _names(service, asked):
        raise InvalidArgument(f"{_CONTINUATION}: is not one that this query was answered with")
    return canonical(check_registration_id(key))


def end_page(
    response: Response, item_type: ItemType, more_behind: str | None, service: Service, *asked: str
) -> None:
    """Gives an answer the headers of a page.

    Args:
        response: of which they are.
        item_type: of its items.
        more_behind: the key behind which there are more; None on the last page.
        service: which was asked.
        asked: what of it.
    """
    response.headers[_ITEM_TYPE] = item_type.value
    if more_behind is not None:
        text = "\n".join((*_names(service, asked), more_behind))
        response.headers[_CONTINUATION] = (
            base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
        )


def _names(service: Service, asked: tuple[str, ...]) -> list[str]:
    return [service.id, *map(canonical, asked)]
