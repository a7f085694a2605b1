"""Property bags and `$rid` queries of topics."""

from __future__ import annotations

from urllib.parse import unquote

from fleetroot.agent.answer import Answer
from fleetroot.gateway.hub_bodies import SYSTEM_PROPERTIES
from fleetroot.gateway.mqtt import (
    MalformedProperties,
    format_properties,
    is_topic_name,
    parse_properties,
    parse_rid_query,
)
from fuzz.reading import text

TOKENS = (b"%24.ct=", b"$.", b"%2F", b"$rid=", b"?", b"&", b"=", b"%", b"%C3%A9", b"/", b"%24rid")


def check(data: bytes) -> None:
    """What is read is what the encoding says, and survives the way back; a `$rid` can stand in an
    answer's topic, and the client finds it there.
    """
    given = text(data)
    check_bag(given)
    check_query(given)
    check_query("?" + given)


def check_bag(given: str) -> None:
    """A property bag."""
    try:
        bag = parse_properties(given)
    except MalformedProperties:
        return
    assert bag == reference_bag(given)
    written = format_properties(bag)
    assert written.isascii()
    assert is_topic_name(written or "x")
    assert parse_properties(written, max_characters=1 << 20) == {
        key: value or "" for key, value in bag.items()
    }
    for key in SYSTEM_PROPERTIES:
        assert (key in bag) == (f"&%24{key[1:]}=" in f"&{written}")


def check_query(given: str) -> None:
    """The query at the end of a request's topic."""
    try:
        query = parse_rid_query(given)
    except MalformedProperties:
        return
    if given:
        bag = reference_bag(given[1:], strip_slash=False)
        assert query == bag, "query and bag differ"
    if (rid := query.get("$rid")) is None:
        return
    topic = f"$dps/registrations/res/202/?$rid={rid}&retry-after=3"
    assert is_topic_name(topic)
    answer = Answer.parse(topic, b"")
    assert answer is not None
    assert (answer.status, answer.request_id, answer.retry_after) == (202, rid, 3)


def reference_bag(given: str, *, strip_slash: bool = True) -> dict[str, str | None]:
    """The same by the standard library."""
    if strip_slash:
        given = given.removesuffix("/")
    bag: dict[str, str | None] = {}
    for piece in filter(None, given.split("&")):
        key, *value = piece.split("=", 1)
        bag[unquote(key, errors="strict")] = unquote(value[0], errors="strict") if value else None
    return bag


def seeds() -> dict[str, bytes]:
    """What the device SDKs write, and what is nearly that."""
    return {
        "empty": b"",
        "python": b"%24.mid=1&%24.ct=application%2Fjson&%24.ce=utf-8&temperatureAlert=false",
        "node": b"%24.mid=1&temperatureAlert=false/",
        "two-slashes": b"a=b//",
        "null": b"a&b=&c=d=e",
        "repeated": b"a=1&&a=2&",
        "encoded-key": b"%24.cid=x&$.uid=y&%24.exp=2030-01-01T00%3A00%3A00Z",
        "not-ascii": "gr\u00fc\u00dfe=%C3%A9".encode(),
        "bad-escape": b"a=%4&b=%zz",
        "not-utf-8": b"a=%ff%ED%A0%80",
        "register": b"?$rid=9e3cd1b0-7a8c-4f6e-b2a1-0d5f7e6c8a91",
        "poll": b"?$rid=2&operationId=4.d0a671905ea5b2c8.47%2Fx",
        "patch": b"?$rid=7&$version=3",
        "two-rids": b"?$rid=1&%24rid=2",
        "bare-rid": b"?$rid&x",
    }
