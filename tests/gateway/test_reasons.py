"""The closed set of reasons: every one that the program gives is in it, with advice."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fleetroot.errors import EnrollmentNotFound, ErrorCode, InvalidArgument, Unauthorized
from fleetroot.gateway.reasons import ADVICE, OTHER, label_of, label_of_error
from fleetroot.hub.model import Ending
from fleetroot.pki import CsrRefusal

SOURCE = Path(__file__).parents[2] / "src" / "fleetroot"
# Errors whose message is their reason, and calls whose argument is one.
ERRORS = {"Unauthorized": 0, "TokenInvalid": 0, "Throttled": 0}
CALLS = {"refuse": 1, "report": 1, "_refused": 0, "_advised": 0}
ANSWERS = {"NameAvailability", "body_of"}  # whose `reason` is told, and refuses nothing
# Counted by their code, or of the operator's own doing and told to nobody else.
BY_CODE = {"database: ", "server certificate unusable: "}
ROOMS = ("gateway", "hub", "provisioning", "registry", "api", "sas.py")


def text_of(node: ast.expr) -> str | None:
    """The text of a constant, or the constant front of an f-string."""
    if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def given_reasons() -> set[str]:
    found = set()
    for path in sorted(SOURCE.rglob("*.py")):
        if path.relative_to(SOURCE).parts[0] not in ROOMS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in ANSWERS:
                continue
            at = ERRORS.get(name, CALLS.get(name))
            reasons = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            if at is not None and at < len(node.args):
                reasons.append(node.args[at])
            found |= {text for each in reasons if (text := text_of(each))}
    return found


REASONS = sorted(given_reasons())


def test_the_program_was_read() -> None:
    assert len(REASONS) > 50


@pytest.mark.parametrize("reason", REASONS)
def test_reason_that_the_program_gives_is_in_the_set(reason: str) -> None:
    assert label_of(reason) != OTHER or reason in BY_CODE


@pytest.mark.parametrize("reason", [*Ending, *CsrRefusal])
def test_reason_of_an_enumeration_is_in_the_set(reason: str) -> None:
    assert label_of(reason) == reason


@pytest.mark.parametrize(("reason", "advice"), ADVICE.items())
def test_advice_is_a_sentence(reason: str, advice: str) -> None:
    assert advice[0].isupper() or advice[0] == "`"
    assert advice[-1] in ".?"
    assert len(reason) <= 64


def test_what_stands_behind_a_reason_is_not_counted_by() -> None:
    assert label_of("silent: 90 s") == "silent"
    assert label_of("certificate of a foreign CA (untrusted)") == "certificate of a foreign CA"


def test_reason_that_a_peer_made_is_counted_as_other_or_by_its_code() -> None:
    assert label_of("whatever the peer said") == OTHER
    assert label_of_error(InvalidArgument("x: unknown field")) == ErrorCode.INVALID_ARGUMENT.name
    assert label_of_error(Unauthorized("device disabled")) == "device disabled"
    assert label_of_error(EnrollmentNotFound("no", reason="no enrollment")) == "no enrollment"
