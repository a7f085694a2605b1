"""Identifiers. An input is two of them with a line break between."""

from __future__ import annotations

import string

from fleetroot.errors import InvalidArgument
from fleetroot.ids import canonical, check_device_id, check_name, check_registration_id
from fuzz.reading import two_texts

TOKENS = ("\u212a".encode(), "\u0130".encode(), "\u017f".encode(), b"\n", b"._:-")

_ALPHANUMERIC = frozenset(string.ascii_letters + string.digits)
_LOWER = {ord(upper): upper.lower() for upper in string.ascii_uppercase}


def check(data: bytes) -> None:
    """The rules hold character by character, and two spellings are one id exactly if they differ in
    the case of ASCII letters alone.
    """
    one, other = two_texts(data)
    for each in (one, other):
        check_forms(each)
        form = canonical(each)
        assert form == each.translate(_LOWER)
        assert canonical(form) == form
    assert (canonical(one) == canonical(other)) == (
        one.translate(_LOWER) == other.translate(_LOWER)
    )


def check_forms(given: str) -> None:
    """Which identifiers a text can be."""
    ends = given[:1] in _ALPHANUMERIC and given[-1:] in _ALPHANUMERIC if given else False
    taken = set(given)
    registration = ends and len(given) <= 128 and taken <= _ALPHANUMERIC | set("._:-")
    device = 0 < len(given) <= 128 and taken <= _ALPHANUMERIC | set("-.%_*?!(),:=@$'")
    name = ends and 3 <= len(given) <= 50 and taken <= _ALPHANUMERIC | {"-"}
    for checked, expected in (
        (check_registration_id, registration),
        (check_device_id, device),
        (lambda candidate: check_name(candidate, "policy"), name),
    ):
        try:
            assert checked(given) == given
            assert expected, "taken, against the rule"
        except InvalidArgument:
            assert not expected, "refused, against the rule"


def seeds() -> dict[str, bytes]:
    """Identifiers and their neighbours."""
    return {
        "registration": b"sn-007-888-ABC-mac-a1\nSN-007-888-abc-mac-a1",
        "mac": b"urn:dev:mac:0024befffe804ff1\nA.b_c:d-e",
        "device": b"device%2E1*?!(),:=@$'\nx",
        "policy": b"default\nab",
        "ends": b"-a\na-",
        "longest": b"a" * 128 + b"\n" + b"a" * 129,
        "line": b"abc\nabc\n",
    }
