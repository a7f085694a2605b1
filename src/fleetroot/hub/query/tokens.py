"""Continuation tokens: where a query goes on, in a text that says nothing to anybody else.

A token belongs to the text of its query and to its hub. It decides only where to go on, so one that
was made up does no more than another query would.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any, Final

import orjson

from fleetroot.errors import InvalidArgument

MAX_TOKEN: Final = 16 * 1024
_DIGEST: Final = 12  # characters


def write(query: str, hub_id: str, place: Sequence[Any]) -> str:
    """The token of a place: texts and numbers."""
    said = orjson.dumps([_digest(query, hub_id), *place])
    return base64.urlsafe_b64encode(said).decode()


def read(
    token: str, query: str, hub_id: str, kinds: Sequence[type | tuple[type, ...]]
) -> list[Any]:
    """The place that a token names, whose values are of these types.

    Raises:
        InvalidArgument: it is none, or of another query.
    """
    if len(token) > MAX_TOKEN:
        raise _refused()
    try:
        said = orjson.loads(base64.b64decode(token, b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise _refused() from None
    if not isinstance(said, list) or len(said) != len(kinds) + 1:
        raise _refused()
    if said[0] != _digest(query, hub_id):
        raise _refused()
    if not all(isinstance(value, kind) for value, kind in zip(said[1:], kinds, strict=True)):
        raise _refused()
    return said[1:]


def _digest(query: str, hub_id: str) -> str:
    return hashlib.sha256(f"{hub_id}\n{query}".encode()).hexdigest()[:_DIGEST]


def _refused() -> InvalidArgument:
    return InvalidArgument("x-ms-continuation: not a token of this query")
