"""Identifiers: which are some, and when two spellings are one."""

from __future__ import annotations

import re
import string
from functools import reduce
from operator import or_
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.errors import InvalidArgument
from fleetroot.ids import canonical, check_device_id, check_name, check_registration_id, new_uuid

ALPHANUMERIC = string.ascii_letters + string.digits
registration_ids = st.from_regex(
    re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]{0,126}[A-Za-z0-9])?", re.ASCII), fullmatch=True
)


@given(registration_ids)
def test_a_registration_id_is_taken_as_it_is_spelled(text: str) -> None:
    assert check_registration_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-a",
        "a-",
        ".a",
        "a.",
        "_a",
        "a_",
        ":a",
        "a:",
        "a b",
        "a/b",
        "a\n",
        "é",
        "a" * 129,
        "a$b",
    ],
)
def test_what_is_no_registration_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        check_registration_id(text)


@given(st.text(max_size=140))
def test_arbitrary_text_is_a_registration_id_or_an_invalid_argument(text: str) -> None:
    try:
        check_registration_id(text)
    except InvalidArgument:
        return
    assert text.isascii()
    assert 1 <= len(text) <= 128
    assert text[0] in ALPHANUMERIC
    assert text[-1] in ALPHANUMERIC


@given(registration_ids)
def test_every_registration_id_is_a_device_id(text: str) -> None:
    # All but the colon and 128 characters are shared; a registration's device has its name.
    assert check_device_id(text) == text


@pytest.mark.parametrize("text", ["", "a" * 129, "a/b", "a#", "a+", "a b", "a\n", "ü", "a\0"])
def test_what_is_no_device_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        check_device_id(text)


@pytest.mark.parametrize("text", ["abc", "a-b", "A1b", "a" * 50])
def test_a_name_is_taken(text: str) -> None:
    assert check_name(text, "policy") == text


@pytest.mark.parametrize("text", ["", "ab", "-ab", "ab-", "a_b", "a.b", "a" * 51, "abc\n"])
def test_what_is_no_name_is_refused_by_the_word_of_what_it_names(text: str) -> None:
    with pytest.raises(InvalidArgument, match="policy"):
        check_name(text, "policy")


@given(st.text(max_size=20), st.text(max_size=20))
def test_texts_are_one_id_if_they_differ_in_the_case_of_ascii_alone(one: str, other: str) -> None:
    same = one.encode().lower() == other.encode().lower()
    assert (canonical(one) == canonical(other)) is same


@given(st.text(max_size=20))
def test_the_canonical_form_is_its_own(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)
    assert canonical(text).encode() == text.encode().lower()


@pytest.mark.parametrize(
    ("letter", "looks_like"), [("\u212a", "k"), ("\u00c4", "\u00e4"), ("\u0130", "i\u0307")]
)
def test_letters_beyond_ascii_have_no_case(letter: str, looks_like: str) -> None:
    assert letter.lower() == looks_like
    assert canonical(letter) != canonical(looks_like)


@given(registration_ids)
def test_spellings_that_differ_in_case_are_one_id(text: str) -> None:
    assert canonical(text.upper()) == canonical(text.lower()) == canonical(canonical(text))


def test_a_new_uuid_is_spelt_as_a_random_one() -> None:
    drawn = new_uuid()
    assert str(UUID(drawn)) == drawn
    assert (UUID(drawn).version, UUID(drawn).variant) == (4, RFC_4122)


def test_no_bit_of_a_new_uuid_is_fixed_but_version_and_variant() -> None:
    drawn = [UUID(new_uuid()).int for _ in range(200)]
    fixed = 0xF000_C000_0000_0000_0000
    assert reduce(or_, (one ^ drawn[0] for one in drawn)) == (1 << 128) - 1 & ~fixed
