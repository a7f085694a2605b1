"""What refusals leave in the log and in the metric, whatever a peer made up."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from fleetroot.gateway.refusals import Refusals


def logged(**refusal: Any) -> dict[str, Any]:
    with capture_logs() as lines:
        Refusals(lambda *_: None).add("hub", **({"reason": "x", "peer": "y"} | refusal))
    [line] = lines
    return dict(line)


@pytest.mark.parametrize("where", ["reason", "peer", "device"])
@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("\x1b[2Jdev", "\\x1b[2Jdev"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x9b1m", "\\x9b1m"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
        ("Gerät 7", "Gerät 7"),
    ],
)
def test_control_characters_are_escaped(where: str, said: str, seen: str) -> None:
    assert logged(**{where: said})[where] == seen


@pytest.mark.parametrize("where", ["reason", "peer", "device"])
def test_log_takes_no_more_than_a_line_of_a_peer(where: str) -> None:
    assert len(logged(**{where: "\x1b" * 60_000})[where]) < 2000


def test_label_is_what_is_counted_and_the_reason_what_is_logged() -> None:
    counted = []
    refusals = Refusals(lambda *what: counted.append(what))
    with capture_logs() as lines:
        refusals.add("http", "there is no hub X", label="NOT_FOUND", peer="y")
    assert counted == [("http", "NOT_FOUND")]
    assert lines[0]["reason"] == "there is no hub X"
