"""What refusals leave in the log and in the metric, whatever a peer made up."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from fleetroot.clock import ManualClock, SystemClock
from fleetroot.errors import FleetrootError, Throttled, TokenInvalid, Unavailable
from fleetroot.gateway.refusal_history import Subject, SubjectKind
from fleetroot.gateway.refusals import Refusals


def logged(**refusal: Any) -> dict[str, Any]:
    with capture_logs() as lines:
        Refusals(lambda *_: None, SystemClock()).add(
            "hub", **({"reason": "x", "peer": "y"} | refusal)
        )
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
    refusals = Refusals(lambda *what: counted.append(what), SystemClock())
    with capture_logs() as lines:
        refusals.add("http", "there is no hub X", label="NOT_FOUND", peer="y")
    assert counted == [("http", "NOT_FOUND")]
    assert lines[0]["reason"] == "there is no hub X"


# --- a log that a stranger cannot fill


class Told:
    """Refusals on a clock of their own, with what they counted and whom they charged."""

    def __init__(self, **how: Any) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.counted: Counter[tuple[str, str]] = Counter()
        self.charged: list[str] = []
        self.refusals = Refusals(
            lambda *what: self.counted.update([what]),
            self.clock,
            charge=self.charged.append,
            **how,
        )

    def add(self, reason: Any = "token expired", *, peer: str = "192.0.2.1:1", **more: Any) -> str:
        return self.refusals.add("connect", reason, peer=peer, **more)


def test_one_peer_fills_ten_lines_and_then_one_in_ten_seconds() -> None:
    told = Told()
    with capture_logs() as lines:
        for _ in range(1000):
            told.add()
        assert len(lines) == 10
        told.clock.advance(timedelta(seconds=10))
        told.add()
        told.add()
    assert len(lines) == 11
    assert told.counted == {("connect", "token expired"): 1002}


def test_another_peer_and_another_reason_have_lines_of_their_own() -> None:
    told = Told()
    with capture_logs() as lines:
        for _ in range(100):
            told.add()
        told.add(peer="192.0.2.2:1")
        told.add("no such hub")
    assert len(lines) == 12


def test_all_peers_together_fill_no_more_than_their_share() -> None:
    told = Told(lines_per_second=5)
    with capture_logs() as lines:
        for number in range(10_000):
            told.add(peer=f"192.0.{number >> 8}.{number & 255}:1")
    assert len(lines) == 50


def test_refusals_without_a_line_are_summed_up() -> None:
    told = Told()
    for _ in range(1000):
        told.add()
    with capture_logs() as lines:
        told.refusals.summarize()
        told.refusals.summarize()
    [line] = lines
    assert (line["kind"], line["reason"], line["count"]) == ("connect", "token expired", 990)


# --- who answers for it


def test_source_of_an_ipv6_peer_is_its_network() -> None:
    told = Told()
    told.add(peer="2001:db8:1:2:3:4:5:6:1883")
    told.add(peer="192.0.2.1:1883")
    assert told.charged == ["2001:db8:1:2::/64", "192.0.2.1"]


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (TokenInvalid("token expired"), True),
        (Unavailable("the database cannot answer now"), False),
        (Throttled("device connects too often"), True),
    ],
)
def test_what_passes_by_itself_is_nobodys_fault(error: FleetrootError, charged: bool) -> None:
    told = Told()
    told.add(error)
    assert bool(told.charged) is charged


# --- the device's history


def test_refusal_is_in_the_devices_history_under_the_same_trace_id() -> None:
    told = Told()
    about = Subject(SubjectKind.DEVICE, "hub.example", "dev-\x1b1")
    trace_id = told.add("certificate expired: long ago", about=about)
    [record] = told.refusals.history.by_trace_id(trace_id)
    assert record.reason == "certificate expired"
    assert record.subject.id == "dev-\\x1b1"
    assert record.last[-1].detail == "certificate expired: long ago"
