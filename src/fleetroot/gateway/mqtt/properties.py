"""The two notations that both services write inside topics: the property bag at the end of a
message's topic, and the `?$rid=…` query at the end of a request's or an answer's.

Both are `k=v&k2=v2`, percent-encoded. They are parsed from names that passed MQTT's own check, so a
raw `+` or `#` cannot occur, and `+` never stands for a space.

Source: Azure IoT Hub and DPS documentation on MQTT, and what the device SDKs send.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from fleetroot.errors import InvalidArgument

MAX_PROPERTIES: Final = 128
MAX_CHARACTERS: Final = 16_384

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# An answer's topic carries it back as it came, so it must be safe to stand there.
_RID: Final = re.compile(r"[^&=/?#+%$\s\x00-\x1f\x7f]{1,256}")


class MalformedProperties(InvalidArgument):
    """A property bag or query cannot be read, or is over its limits."""


def parse_properties(
    text: str, *, max_count: int = MAX_PROPERTIES, max_characters: int = MAX_CHARACTERS
) -> dict[str, str | None]:
    """Reads a property bag.

    Keys and values are percent-decoded, so a system property is found under its plain name
    (`$.ct`), encoded or not. A bare key is None, `key=` is the empty string. A key that occurs
    twice has its last value. One trailing `/` is dropped: Node's SDK adds it, and encodes those
    of values.

    Args:
        text: the topic behind `…/messages/events/`; may be empty.
        max_count: most properties to accept.
        max_characters: longest `text` to accept.

    Raises:
        MalformedProperties: over a limit, an empty key, or an escape that is broken or is
            not UTF-8.
    """
    pieces = _pieces(text.removesuffix("/"), max_count, max_characters)
    return {_decode(key): None if value is None else _decode(value) for key, value in pieces}


def format_properties(properties: Mapping[str, str | None]) -> str:
    """Writes a property bag: keys and values percent-encoded, `/ & = $` and all but the unreserved
    characters of RFC 3986 §2.3 included, so `$.mid` becomes `%24.mid`.

    None is written as `key=`, not as a bare key: Node's SDK reads a bare key as "undefined".

    Raises:
        ValueError: a key is empty, or a lone surrogate stands in a key or value.
    """
    if "" in properties:
        raise ValueError("a property needs a name")
    return "&".join(
        f"{quote(key, safe='')}={quote(value or '', safe='')}" for key, value in properties.items()
    )


def parse_rid_query(
    tail: str, *, max_count: int = MAX_PROPERTIES, max_characters: int = MAX_CHARACTERS
) -> dict[str, str]:
    """Reads the query at the end of a `$dps` or `$iothub` topic, in its order.

    `$rid` is the plain token that the answer repeats, taken and checked as it was sent; the other
    values are percent-decoded. It may be absent: whether a request without one is answered is for
    the wire to know.

    Args:
        tail: the last level of the topic, with its `?`: `?$rid=1&operationId=x`, or empty.
        max_count: most parameters to accept.
        max_characters: longest `tail` to accept.

    Raises:
        MalformedProperties: over a limit, no `?`, a parameter without `=` or without a name, a
            broken escape, or a `$rid` that is given twice, empty or not a plain token.
    """
    if not tail:
        return {}
    if not tail.startswith("?"):
        raise MalformedProperties("the last level of the topic must be a query, ?k=v")
    query: dict[str, str] = {}
    for encoded_key, value in _pieces(tail[1:], max_count, max_characters):
        if value is None:
            raise MalformedProperties("every parameter of the topic's query must be k=v")
        key = _decode(encoded_key)
        if key != "$rid":
            query[key] = _decode(value)
        elif key in query:
            raise MalformedProperties("$rid is given twice")
        elif _RID.fullmatch(value):
            query[key] = value
        else:
            raise MalformedProperties("$rid must be a plain token of at most 256 characters")
    return query


def _pieces(text: str, max_count: int, max_characters: int) -> Iterator[tuple[str, str | None]]:
    """Keys and values, still encoded; an empty piece (`a=1&&b=2`) is skipped."""
    if len(text) > max_characters:
        raise MalformedProperties(f"properties are over {max_characters} characters")
    if text.count("&") >= max_count:
        raise MalformedProperties(f"there are more than {max_count} properties")
    for piece in text.split("&"):
        if not piece:
            continue
        key, equals, value = piece.partition("=")
        if not key:
            raise MalformedProperties("a property has no name")
        yield key, value if equals else None


def _decode(text: str) -> str:
    if "%" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        raise MalformedProperties("a percent escape is incomplete")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise MalformedProperties("a percent-encoded property is not UTF-8") from None
