"""The last refusals of devices: what is kept of them, and that strangers cannot push it out."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from fleetroot.gateway.refusal_history import Occurrence, RefusalHistory, Subject, SubjectKind

START = datetime(2026, 1, 1, tzinfo=UTC)
DEVICE, REGISTRATION = SubjectKind.DEVICE, SubjectKind.REGISTRATION


class Log:
    """A history with a clock of its own: each refusal comes a second after the one before."""

    def __init__(self, **limits: int) -> None:
        self.history = RefusalHistory(**limits)
        self._seconds = count()

    def add(
        self,
        id_: str,
        reason: str = "token expired",
        *,
        source: str = "192.0.2.1",
        trace_id: str = "t",
        kind: SubjectKind = DEVICE,
        at: str = "hub",
    ) -> None:
        time = START + timedelta(seconds=next(self._seconds))
        occurrence = Occurrence(time, f"{source}:1", trace_id, reason)
        self.history.add(Subject(kind, at, id_), "connect", reason, source, occurrence)

    def reasons(self, id_: str, kind: SubjectKind = DEVICE) -> list[str]:
        return [record.reason for record in self.history.of(kind, id_)]


def test_refusals_come_newest_first() -> None:
    log = Log()
    for reason in ("a", "b", "a"):
        log.add("dev-1", reason)
    assert log.reasons("dev-1") == ["a", "b"]


def test_one_reason_from_one_source_is_one_record_with_a_count() -> None:
    log = Log()
    for _ in range(1000):
        log.add("dev-1")
    [record] = log.history.of(DEVICE, "dev-1")
    assert record.count == 1000
    assert record.first == START
    assert record.last[-1].time == START + timedelta(seconds=999)
    assert len(record.last) == 4


def test_device_is_found_in_any_spelling() -> None:
    log = Log()
    log.add("Dev-1")
    log.add("dev-1")
    [record] = log.history.of(DEVICE, "DEV-1")
    assert record.count == 2


def test_registration_and_device_of_one_id_are_two() -> None:
    log = Log()
    log.add("dev-1", "a")
    log.add("dev-1", "b", kind=REGISTRATION)
    assert (log.reasons("dev-1"), log.reasons("dev-1", REGISTRATION)) == (["a"], ["b"])


def test_where_it_went_is_told_apart() -> None:
    log = Log()
    log.add("dev-1", at="0ne1")
    log.add("dev-1", at="0ne2")
    assert [r.subject.at for r in log.history.of(DEVICE, "dev-1")] == ["0ne2", "0ne1"]


def test_trace_id_finds_its_refusals() -> None:
    log = Log()
    log.add("dev-1", "a", trace_id="x")
    log.add("dev-1", "b", trace_id="x")
    log.add("dev-2", trace_id="y")
    assert [r.reason for r in log.history.by_trace_id("x")] == ["b", "a"]
    assert log.history.by_trace_id("z") == []


def test_stranger_who_makes_up_ids_pushes_out_only_his_own() -> None:
    log = Log(in_all=100)
    log.add("dev-1", source="192.0.2.1")
    for number in range(10_000):
        log.add(f"x-{number}", source="203.0.113.9")
    assert log.reasons("dev-1") == ["token expired"]
    assert len(log.history) == 100


def test_stranger_who_uses_a_devices_id_pushes_out_only_his_own() -> None:
    log = Log(of_device=8)
    log.add("dev-1", "certificate expired", source="192.0.2.1")
    for number in range(1000):
        log.add("dev-1", f"reason {number}", source="203.0.113.9")
    assert "certificate expired" in log.reasons("dev-1")
    assert len(log.reasons("dev-1")) == 8


def test_of_the_source_that_pays_the_oldest_goes_first() -> None:
    log = Log(in_all=3)
    for id_ in ("a", "b", "c", "d"):
        log.add(id_)
    assert [bool(log.reasons(id_)) for id_ in "abcd"] == [False, True, True, True]


def test_record_that_is_used_again_is_not_the_oldest() -> None:
    log = Log(in_all=3)
    for id_ in ("a", "b", "c", "a", "d"):
        log.add(id_)
    assert [bool(log.reasons(id_)) for id_ in "abcd"] == [True, False, True, True]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_it_is_bounded_and_the_heaviest_source_pays(seed: int) -> None:
    chance = random.Random(seed)
    log = Log(in_all=30, of_device=4)
    for _ in range(600):
        before = {r.source for r in log.history._records.values()}
        log.add(
            f"d{chance.randrange(20)}",
            f"r{chance.randrange(3)}",
            source=f"s{min(chance.randrange(12), chance.randrange(12))}",
        )
        records = log.history._records.values()
        assert len(log.history) <= 30
        shares = {s: sum(r.source == s for r in records) for s in before}
        assert log.history._shares._most == max(
            sum(r.source == s for r in records) for s in {r.source for r in records}
        ), shares
        assert all(len(log.history.of(DEVICE, f"d{n}")) <= 4 for n in range(20))
    assert sum(len(keys) for keys in log.history._subjects.values()) == len(log.history)
