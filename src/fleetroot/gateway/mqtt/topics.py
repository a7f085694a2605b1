"""Topic names and topic filters, by the rules of MQTT 3.1.1 §4.7.

Pure functions of strings; a topic's meaning belongs to the wire that serves it.
"""

from __future__ import annotations


def is_topic_name(text: str) -> bool:
    """Whether a message can be published to `text`: not empty [MQTT-4.7.3-1], no wildcard
    [MQTT-3.3.2-2], no U+0000 [MQTT-4.7.3-2].
    """
    return bool(text) and "+" not in text and "#" not in text and "\0" not in text


def is_topic_filter(text: str) -> bool:
    """Whether `text` can be subscribed to: not empty, `+` and `#` only as whole levels, `#` only
    as the last [MQTT-4.7.1-2] [MQTT-4.7.1-3].
    """
    if not text or "\0" in text:
        return False
    if "+" not in text and "#" not in text:
        return True
    *parents, last = text.split("/")
    return all(level == "+" or ("+" not in level and "#" not in level) for level in parents) and (
        last in {"+", "#"} or ("+" not in last and "#" not in last)
    )


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a message on `topic` is for a subscriber of `topic_filter`.

    Names compare byte for byte: case and empty levels count [MQTT-4.7.3-4]. `a/#` covers `a`
    itself (§4.7.1.2). A filter that starts with a wildcard covers no topic that starts with `$`
    [MQTT-4.7.2-1].

    Args:
        topic_filter: for which `is_topic_filter` holds.
        topic: for which `is_topic_name` holds.
    """
    if "+" not in topic_filter:
        # All filters that our services grant are of these two kinds.
        if not topic_filter.endswith("#"):
            return topic_filter == topic
        if topic_filter == "#":
            return not topic.startswith("$")
        return topic.startswith(topic_filter[:-1]) or topic == topic_filter[:-2]
    if topic_filter.startswith("+") and topic.startswith("$"):
        return False
    wanted = topic_filter.split("/")
    given = topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(
        level in {"+", name} for level, name in zip(wanted, given, strict=True)
    )
