"""What is a query, what it says, and what is refused before anything is searched."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetroot.errors import InvalidArgument
from fleetroot.hub.query.grammar import MAX_DEPTH, MAX_ITEMS, MAX_PARTS, MAX_TEXT, parse
from fleetroot.hub.query.syntax import (
    And,
    Call,
    Comparison,
    Count,
    Expression,
    Field,
    Function,
    Literal,
    Member,
    Not,
    Operator,
    Or,
    Order,
    Path,
    Source,
)


def condition(text: str) -> Expression | None:
    return parse(f"SELECT * FROM devices WHERE {text}").where


def path(text: str) -> Path:
    return Path(tuple(text.split(".")))


A = Comparison(Operator.EQUAL, path("a"), Literal(1.0))
B = Comparison(Operator.EQUAL, path("b"), Literal(1.0))
C = Comparison(Operator.EQUAL, path("c"), Literal(1.0))


def test_a_query_has_all_its_clauses() -> None:
    found = parse(
        "SELECT TOP 5 deviceId, tags.plant AS p FROM devices.modules"
        " WHERE a = 1 ORDER BY tags.plant DESC, deviceId"
    )
    assert found.fields == (Field(path("deviceId"), "deviceId"), Field(path("tags.plant"), "p"))
    assert found.source is Source.MODULES
    assert found.where == A
    assert found.order_by == (Order(path("tags.plant"), True), Order(path("deviceId"), False))
    assert found.top == 5


def test_counts_are_of_groups() -> None:
    found = parse("SELECT status, COUNT() AS n FROM devices GROUP BY status")
    assert found.fields == (Field(path("status"), "status"), Count("n"))
    assert found.group_by == (path("status"),)


def test_keywords_and_functions_are_compared_without_case() -> None:
    assert parse("select * FROM Devices wHERE is_Defined(Tags.x)").where == Call(
        Function.IS_DEFINED, (path("Tags.x"),)
    )


def test_not_binds_closer_than_and_than_or() -> None:
    assert condition("a = 1 OR NOT b = 1 AND c = 1") == Or((A, And((Not(B), C))))
    assert condition("(a = 1 OR b = 1) AND c = 1") == And((Or((A, B)), C))


@pytest.mark.parametrize("text", ["a NIN [1, 'x']", "a NOT IN [1, 'x']", 'NOT a IN (1, "x")'])
def test_lists_can_be_excluded(text: str) -> None:
    assert condition(text) == Not(Member(path("a"), (Literal(1.0), Literal("x"))))


def test_names_may_be_keywords_behind_a_dot_or_begin_as_one() -> None:
    assert condition("tags.order.IN = index") == Comparison(
        Operator.EQUAL, path("tags.order.IN"), path("index")
    )


def test_names_of_any_characters_stand_in_brackets() -> None:
    assert condition("tags.[[a-b: c]].d") == Path(("tags", "a-b: c", "d"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'it\\'s'", "it's"),
        ('"\\u00e4\\n\\\\"', "ä\n\\"),
        ("'\\u0000'", "\ufffd"),  # as it is found in documents
        ("-0.5e3", -500.0),
        ("9007199254740993", 9007199254740992.0),
        ("TRUE", True),
        ("null", None),
    ],
)
def test_constants_are_those_of_json(text: str, value: object) -> None:
    found = condition(f"a = {text}")
    assert found == Comparison(Operator.EQUAL, path("a"), Literal(value))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT",
        "SELECT * FROM devices.jobs",
        "SELECT * FROM devices WHERE",
        "SELECT * FROM devices WHERE a == 1",
        "SELECT * FROM devices WHERE a = 'x",
        "SELECT * FROM devices WHERE a = '\\q'",
        "SELECT * FROM devices WHERE a = '\\ud800'",
        "SELECT * FROM devices WHERE a = 1e400",
        "SELECT * FROM devices WHERE a IN []",
        "SELECT * FROM devices WHERE a IN [b]",
        'SELECT * FROM devices WHERE tags.[[a"b]] = 1',
        "SELECT * FROM devices WHERE SLEEP(10)",
        "SELECT * FROM devices WHERE STARTSWITH(a)",
        "SELECT * FROM devices; DROP TABLE devices",
        "SELECT TOP 0 * FROM devices",
        "SELECT SUM(a) FROM devices",
        "SELECT a.x, b.x FROM devices",
        "SELECT a, COUNT() FROM devices",
        "SELECT * FROM devices GROUP BY a",
        "SELECT TOP 1 COUNT() FROM devices",
        "SELECT a, b, c, d, e FROM devices ORDER BY a, b, c, d, e",
    ],
)
def test_what_is_no_query_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^query: "):
        parse(text)


def test_a_refusal_says_where_and_what_would_do() -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse("SELECT * FROM devices WERE a = 1")
    assert "`WERE a = 1` at 23 is not understood" in refused.value.message
    assert "WHERE" in refused.value.message


@pytest.mark.parametrize(
    "text",
    [
        "a" * MAX_TEXT,
        "NOT " * MAX_DEPTH + "a",
        " AND ".join(["a"] * MAX_PARTS),
        f"a IN [{','.join('1' * (MAX_ITEMS + 1))}]",
    ],
    ids=["long", "deep", "wide", "list"],
)
def test_a_query_has_bounds(text: str) -> None:
    with pytest.raises(InvalidArgument, match="at most"):
        condition(text)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", ".", "[[", "]]", "=", "'x'", "1", "(", ")", "AND", "NOT", "IN", "["]),
        max_size=20,
    ).map(" ".join)
    | st.text(max_size=40)
)
def test_any_text_is_a_query_or_is_refused(text: str) -> None:
    for each in (text, f"SELECT * FROM devices WHERE {text}"):
        with suppress(InvalidArgument):
            parse(each)
