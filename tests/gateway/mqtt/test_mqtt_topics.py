"""Topic names and filters: MQTT 3.1.1 §4.7, its examples and its rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from mqtt_strategies import filters, levels, topics, unhurried

from fleetroot.gateway.mqtt import is_topic_filter, is_topic_name, matches

TENNIS = "sport/tennis/player1"


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        (TENNIS, TENNIS),
        (f"{TENNIS}/#", TENNIS),
        (f"{TENNIS}/#", f"{TENNIS}/ranking"),
        (f"{TENNIS}/#", f"{TENNIS}/score/wimbledon"),
        ("sport/#", "sport"),
        ("#", "a/b"),
        ("#", "/"),
        ("sport/tennis/+", TENNIS),
        ("sport/+", "sport/"),
        ("+", "sport"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("+/tennis/#", TENNIS),
        ("sport/+/#", "sport/tennis"),
        ("$SYS/#", "$SYS/a"),
        ("$iothub/twin/res/#", "$iothub/twin/res/200/?$rid=1"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
    ],
)
def test_filter_covers_topic(topic_filter, topic):
    assert matches(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("sport/tennis/+", f"{TENNIS}/ranking"),
        ("sport/+", "sport"),
        ("sport/tennis/#", "sport/tennis2"),
        ("+", "/finance"),
        ("sport/+/#", "sport"),
        ("Sport", "sport"),
        ("/sport", "sport"),
        ("sport", "sport/"),
        ("a/+/c", "a/b/d"),
    ],
)
def test_filter_does_not_cover_topic(topic_filter, topic):
    assert not matches(topic_filter, topic)


@pytest.mark.parametrize("topic_filter", ["#", "+/monitor/Clients", "+/#"])
def test_filter_that_starts_with_a_wildcard_covers_no_dollar_topic(topic_filter):
    assert not matches(topic_filter, "$SYS/monitor/Clients")


@pytest.mark.parametrize("text", ["#", "+", "a/#", "+/a/#", "/", "a//b", "+/+", " "])
def test_valid_filter(text):
    assert is_topic_filter(text)


@pytest.mark.parametrize("text", ["", "a#", "#/a", "a/#/b", "a+", "a/b+/c", "+a", "++", "##", "\0"])
def test_invalid_filter(text):
    assert not is_topic_filter(text)


@pytest.mark.parametrize("text", ["", "a/+", "#", "a\0b"])
def test_invalid_name(text):
    assert not is_topic_name(text)


@unhurried
@given(filters)
def test_every_drawn_filter_is_valid(topic_filter):
    assert is_topic_filter(topic_filter)


@unhurried
@given(topics)
def test_every_name_is_a_filter_that_covers_exactly_itself(topic):
    assert is_topic_name(topic)
    assert is_topic_filter(topic)
    assert matches(topic, topic)
    assert not matches(topic, topic + "x")


def covers(wanted: list[str], given_levels: list[str]) -> bool:
    """§4.7 once more, as slowly and plainly as it can be said."""
    if not wanted:
        return not given_levels
    if wanted[0] == "#":
        return True
    if not given_levels:
        return False
    return wanted[0] in {"+", given_levels[0]} and covers(wanted[1:], given_levels[1:])


@unhurried
@given(filters, filters.map(lambda text: text.replace("+", "a").replace("#", "b")))
def test_matching_agrees_with_a_plain_reading_of_the_rules(topic_filter, topic):
    expected = covers(topic_filter.split("/"), topic.split("/"))
    if topic_filter[0] in "+#" and topic[0] == "$":
        expected = False
    assert matches(topic_filter, topic) == expected


@unhurried
@given(levels, levels)
def test_parent_is_covered_by_its_subtree(parent, child):
    assert matches(f"{parent}/#", f"{parent}/{child}")
