"""Topic names and filters. An input is a filter, a line break, and a topic."""

from __future__ import annotations

import re

from fleetroot.gateway.mqtt import is_topic_filter, is_topic_name, matches
from fuzz.reading import two_texts

TOKENS = (b"+", b"#", b"/", b"/#", b"+/", b"$iothub", b"\n")


def check(data: bytes) -> None:
    """The rules of §4.7 as a regular expression would have them."""
    topic_filter, topic = two_texts(data)
    assert is_topic_name(topic) == bool(re.fullmatch(r"[^+#\0]+", topic))
    form = r"(?:(?:\+|[^+#/\0]*)/)*(?:\+|#|[^+#/\0]*)"
    assert is_topic_filter(topic_filter) == bool(
        topic_filter and re.fullmatch(form, topic_filter)
    ), "a filter"
    if is_topic_name(topic) and is_topic_filter(topic_filter):
        assert matches(topic_filter, topic) == reference_match(topic_filter, topic)
    if is_topic_name(topic_filter):
        assert matches(topic_filter, topic_filter)


def reference_match(topic_filter: str, topic: str) -> bool:
    """§4.7.1 and §4.7.2, by a pattern made of the filter."""
    if topic_filter[0] in "+#" and topic[0] == "$":
        return False
    if topic_filter == "#":
        return True
    parents, hash_, _ = topic_filter.partition("/#")
    pattern = "/".join(
        "[^/]*" if level == "+" else re.escape(level) for level in parents.split("/")
    )
    return bool(re.fullmatch(pattern + ("(?:/.*)?" if hash_ else ""), topic, re.DOTALL))


def seeds() -> dict[str, bytes]:
    """The filters that the services grant, and the corners of the rules."""
    return {
        "twin": b"$iothub/twin/res/#\n$iothub/twin/res/200/?$rid=1",
        "registrations": b"$dps/registrations/res/#\n$dps/registrations/res",
        "plus": b"a/+/c\na//c",
        "plus-hash": b"+/+/#\na/b",
        "all": b"#\n$SYS/x",
        "exact": b"devices/d/messages/devicebound/\ndevices/d/messages/devicebound/",
        "middle-hash": b"a/#/b\na/x/b",
        "part-of-a-level": b"a+/b#\na/b",
        "empty-levels": b"//\n//",
    }
