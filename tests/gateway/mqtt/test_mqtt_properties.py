"""Property bags and `$rid` queries, as device SDKs write and read them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt_strategies import unhurried

from fleetroot.agent.answer import Answer
from fleetroot.errors import ErrorCode
from fleetroot.gateway.hub_bodies import SYSTEM_PROPERTIES, to_message
from fleetroot.gateway.mqtt import (
    MalformedProperties,
    format_properties,
    is_topic_name,
    parse_properties,
    parse_rid_query,
)
from fleetroot.hub.model import Hub, Pin, Principal

START = datetime(2026, 1, 1, tzinfo=UTC)
values = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SENDER = Principal(
    hub=Hub("h", "n", "hub", "hub.example", START),
    device_key="d",
    device_id="d",
    pin=Pin.KEYS,
    generation=None,
    certificate_sha256=None,
    pin_etag="e",
    expires_at=START,
)
bags = st.dictionaries(values.filter(bool), values, max_size=8)


def test_empty_bag_has_no_properties():
    assert parse_properties("") == {}


def test_properties_keep_their_order():
    assert list(parse_properties("b=1&a=2&c=3")) == ["b", "a", "c"]


def test_encoded_system_key_is_found_under_its_plain_name():
    assert parse_properties("%24.ct=application%2Fjson") == {"$.ct": "application/json"}


def test_plain_system_key_is_the_same():
    assert parse_properties("$.ct=application%2fjson") == {"$.ct": "application/json"}


def test_bare_key_is_null():
    assert parse_properties("a&b=") == {"a": None, "b": ""}


def test_value_may_contain_an_equals_sign():
    assert parse_properties("a=b=c") == {"a": "b=c"}


def test_trailing_slash_of_node_is_dropped():
    assert parse_properties("a=b%2F/") == {"a": "b/"}
    assert parse_properties("/") == {}


def test_empty_pieces_are_skipped():
    assert parse_properties("&a=1&&b=2&") == {"a": "1", "b": "2"}


def test_last_of_a_repeated_key_counts():
    assert parse_properties("a=1&a=2") == {"a": "2"}


def test_raw_and_encoded_text_beyond_ascii_are_the_same():
    assert parse_properties("a=é") == parse_properties("a=%C3%A9") == {"a": "é"}


@pytest.mark.parametrize(
    "text", ["=v", "a=%", "a=%4", "a=%zz", "%g0=1", "a=%ff", "a=%ED%A0%80"], ids=repr
)
def test_malformed_bag_is_an_invalid_argument(text):
    with pytest.raises(MalformedProperties) as caught:
        parse_properties(text)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


def test_bag_over_its_count_is_refused():
    assert len(parse_properties("&".join(f"k{i}=v" for i in range(3)), max_count=3)) == 3
    with pytest.raises(MalformedProperties):
        parse_properties("&".join(f"k{i}=v" for i in range(4)), max_count=3)


def test_bag_over_its_size_is_refused():
    with pytest.raises(MalformedProperties):
        parse_properties("a=" + "x" * 99, max_characters=100)


def test_keys_and_values_are_encoded():
    bag = {"$.to": "/devices/d/messages", "iothub-ack": "full", "a&b": "c=d"}
    assert format_properties(bag) == (
        "%24.to=%2Fdevices%2Fd%2Fmessages&iothub-ack=full&a%26b=c%3Dd"
    )


def test_null_is_written_with_an_equals_sign():
    assert format_properties({"a": None}) == "a="


@pytest.mark.parametrize("bag", [{"": "v"}, {"k": "\ud800"}], ids=["no name", "surrogate"])
def test_impossible_bag_is_not_written(bag):
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract
        format_properties(bag)


@unhurried
@given(bags)
def test_bag_survives_the_round_trip(bag):
    assert parse_properties(format_properties(bag)) == bag


@st.composite
def spellings(draw: st.DrawFn, text: str) -> str:
    """`text` percent-encoded as any client may: what must be, and any of the rest, in any case."""
    written = ""
    for character in text:
        if character in "&=%+#/" or draw(st.booleans()):
            escapes = "".join(f"%{octet:02X}" for octet in character.encode())
            written += escapes.lower() if draw(st.booleans()) else escapes
        else:
            written += character
    return written


@unhurried
@given(bags, st.data())
def test_a_bag_is_the_same_however_it_is_spelt(bag, data):
    pieces = [
        f"{data.draw(spellings(key))}={data.draw(spellings(value))}" for key, value in bag.items()
    ]
    assert parse_properties("&".join(pieces)) == bag


@unhurried
@given(st.sampled_from(sorted(SYSTEM_PROPERTIES)), values, st.data())
def test_a_system_property_is_found_however_its_key_is_spelt(key, value, data):
    text = f"{data.draw(spellings(key))}={data.draw(spellings(value))}"
    message = to_message(b"", parse_properties(text), SENDER)
    assert message.system_properties[SYSTEM_PROPERTIES[key]] == value
    assert message.properties == {}


@unhurried
@given(st.text(st.characters(exclude_characters="&"), max_size=20))  # which ends a parameter
def test_a_rid_that_was_taken_finds_its_way_back(rid):
    try:
        query = parse_rid_query(f"?$rid={rid}")
    except MalformedProperties:
        return
    answer = Answer.parse(f"$iothub/twin/res/200/?$rid={query['$rid']}&$version=1", b"")
    assert answer.request_id == rid
    assert answer.parameters["$version"] == "1"


@unhurried
@given(bags)
def test_formatted_bag_can_stand_in_a_topic(bag):
    text = format_properties(bag)
    assert is_topic_name(f"devices/d/messages/devicebound/{text}")
    assert "/" not in text
    assert text.isascii()


@unhurried
@given(st.text(max_size=60))
def test_arbitrary_text_raises_nothing_but_malformed_properties(text):
    for parse in (parse_properties, parse_rid_query):
        with contextlib.suppress(MalformedProperties):
            parse(text)


def test_query_is_read_in_its_order():
    query = parse_rid_query("?$rid=7&operationId=4.d0%2Fx&$version=3")
    assert list(query.items()) == [("$rid", "7"), ("operationId", "4.d0/x"), ("$version", "3")]


def test_query_without_a_rid_is_a_query():
    assert parse_rid_query("?$version=3") == {"$version": "3"}


def test_no_query_has_no_parameters():
    assert parse_rid_query("") == parse_rid_query("?") == {}


def test_rid_of_a_uuid_is_kept_as_it_was_sent():
    rid = "9E3cD1b0-7a8c-4f6e-b2a1-0d5f7e6c8a91"
    assert parse_rid_query(f"?$rid={rid}")["$rid"] == rid


@pytest.mark.parametrize(
    "tail",
    [
        "$rid=1",
        "?$rid",
        "?$rid=",
        "?$rid=1&flag",
        "?=1",
        "?$rid=1&$rid=2",
        "?$rid=1&%24rid=2",
        "?$rid=a/b",
        "?$rid=a%41",
        "?$rid=a b",
        "?$rid=" + "x" * 257,
        "?$rid=1&k=%zz",
    ],
)
def test_malformed_query_is_refused(tail):
    with pytest.raises(MalformedProperties):
        parse_rid_query(tail)
