"""DER elements: what is put together comes apart again, and what is cut short is said to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.pki.der import element, first_element, skip_element, split_element, unwrap_sequence

tags = st.integers(0, 255)
# Lengths of one octet, and of one, two and three octets behind it.
contents = st.binary(max_size=300) | st.integers(0, 70_000).map(bytes)


@given(tags, contents, st.binary(max_size=10))
def test_an_element_is_told_from_what_follows_it(tag: int, content: bytes, after: bytes) -> None:
    whole = element(tag, content)
    assert first_element(whole + after) == whole
    assert skip_element(whole + after) == after
    assert split_element(whole + after) == (whole, after)
    assert unwrap_sequence(whole + after) == content


@given(st.lists(st.tuples(tags, st.binary(max_size=200)), max_size=5))
def test_elements_in_a_sequence_are_walked_one_by_one(inside: list[tuple[int, bytes]]) -> None:
    rest = unwrap_sequence(element(0x30, b"".join(element(*each) for each in inside)))
    for tag, content in inside:
        assert first_element(rest) == element(tag, content)
        rest = skip_element(rest)
    assert rest == b""


@given(tags, st.binary(max_size=300), st.data())
def test_an_element_cut_short_is_a_value_error(
    tag: int, content: bytes, data: st.DataObject
) -> None:
    whole = element(tag, content)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for read in (first_element, skip_element, split_element, unwrap_sequence):
        with pytest.raises(ValueError, match="truncated"):
            read(cut)


@given(st.binary(max_size=40))
def test_arbitrary_bytes_fall_into_two_or_are_a_value_error(der: bytes) -> None:
    try:
        first = first_element(der)
    except ValueError:
        return
    assert first + skip_element(der) == der
    assert first.endswith(unwrap_sequence(der))
