"""Queries over the hub's service API: twins, or the values of them that a query selects.

Source: Azure IoT Hub service REST API, 2021-04-12, "Query - Get Twins"; and the code of its SDKs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import orjson
from fastapi import Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, RootModel

from fleetroot.access import Permission
from fleetroot.api.description import answers
from fleetroot.api.hub_routes import AddressedHub, asks, hub_router
from fleetroot.api.services import services_of
from fleetroot.api.twin_bodies import shown
from fleetroot.clock import iso8601
from fleetroot.hub.queries import MAX_PAGE, Page
from fleetroot.hub.query.grammar import MAX_TEXT
from fleetroot.hub.query.statements import Found, FoundCertificate, Group
from fleetroot.hub.query.syntax import Count, Path, Select
from fleetroot.hub.query.syntax import Field as Selected
from fleetroot.hub.query.tokens import MAX_TOKEN
from fleetroot.registry.shared_access import Right

router = hub_router()

CONTINUATION: Final = "x-ms-continuation"
ITEM_TYPE: Final = "x-ms-item-type"
MOST_ITEMS: Final = 1000  # that clients ask for
_MISSING: Final = object()


class FoundRows(RootModel[list[dict[str, Any]]]):
    """Twins, or objects with values of them."""


ItemCount = Annotated[
    int,
    Header(
        alias="x-ms-max-item-count",
        ge=1,
        le=MOST_ITEMS,
        description=f"How long a page may be; at most {MAX_PAGE}, whatever is asked.",
    ),
]
Continuation = Annotated[str | None, Header(alias=CONTINUATION, max_length=MAX_TOKEN)]
PAGED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": FoundRows,
        "description": "Twins, or objects with the values that the query selects.",
        "headers": {
            ITEM_TYPE: {"schema": {"enum": ["Twin", "Raw"]}, "description": "Which of the two."},
            CONTINUATION: {
                "schema": {"type": "string"},
                "description": "Where the next page begins; the last has none.",
            },
        },
    }
}


class QueryBody(BaseModel):
    """What is asked."""

    model_config = ConfigDict(extra="ignore", strict=True)

    query: str = Field(min_length=1, max_length=MAX_TEXT, description="See docs/queries.md.")


@router.post("/devices/query", response_model=None, responses=PAGED | answers(429, 504))
@asks(Right.SERVICE_CONNECT, Permission.READ)
async def query(
    request: Request,
    hub: AddressedHub,
    body: QueryBody,
    size: ItemCount = MAX_PAGE,
    continuation: Continuation = None,
) -> Response:
    """Finds devices; a page may be shorter than asked, and even empty, with more behind it."""
    page = await services_of(request).hubs.queries.page(
        hub, body.query, limit=size, token=continuation
    )
    return answered(page)


def answered(page: Page) -> Response:
    """A page as it is answered."""
    is_twins = not page.query.fields
    rows = [
        *(_row(each, page) for each in page.rows),
        *(_counted(each, page.query) for each in page.groups),
    ]
    headers = {ITEM_TYPE: "Twin" if is_twins else "Raw"}
    if page.token is not None:
        headers[CONTINUATION] = page.token
    return Response(orjson.dumps(rows), media_type="application/json", headers=headers)


def _row(found: Found, page: Page) -> dict[str, Any]:
    document = shown(found.twin).model_dump(mode="json", by_alias=True)
    if not page.query.fields:
        return document
    if found.certificate is not None:
        document["certificate"] = _certificate(found.certificate, page.at)
    values = {
        field.name: _value(document, field.path)
        for field in page.query.fields
        if isinstance(field, Selected)
    }
    return {name: value for name, value in values.items() if value is not _MISSING}


def _certificate(held: FoundCertificate, now: datetime) -> dict[str, str]:
    return {
        "notBefore": iso8601(held.not_before),
        "notAfter": iso8601(held.not_after),
        "status": held.status(now),
        "serialNumber": held.serial_number,
        "sha256": held.sha256.hex(),
        "policy": held.policy,
    }


def _value(document: Any, path: Path) -> Any:
    for name in path.names:
        if not isinstance(document, dict) or name not in document:
            return _MISSING
        document = document[name]
    return document


def _counted(group: Group, query: Select) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in query.fields:
        if isinstance(field, Count):
            row[field.name] = group.rows
        elif value := group.values[query.group_by.index(field.path)]:
            [row[field.name]] = value
    return row
