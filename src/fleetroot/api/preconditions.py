"""The preconditions that a request may have, as parameters of an endpoint.

Source: RFC 9110 §13.1.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Header
from pydantic import AfterValidator

MAX_ETAG: Final = 256


def bare(etag: str | None) -> str | None:
    """An etag without its quotes; None: none."""
    return etag.strip().removeprefix("W/").strip('"') if etag else None


IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=MAX_ETAG,
        description="The etag that must be there, bare or in quotes, or `*`.",
    ),
    AfterValidator(bare),
]
"""The etag that must be there, without its quotes; `*` for any, None for none."""

IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match", max_length=MAX_ETAG, description="`*`: nothing may be there yet."
    ),
]
"""`*` where nothing may be there yet."""
