"""Token buckets: a burst at once, then so many a second, of bounded memory."""

from __future__ import annotations

from fleetroot.pace import Pace


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_burst_is_allowed_and_what_goes_over_it_is_not() -> None:
    pace = Pace[str](1.0, 3, Seconds())
    assert [pace.take("a") for _ in range(4)] == [True, True, True, False]


def test_tokens_come_back_with_time_up_to_the_burst() -> None:
    seconds = Seconds()
    pace = Pace[str](2.0, 3, seconds)
    assert [pace.take("a") for _ in range(4)] == [True, True, True, False]
    seconds.now += 0.5
    assert [pace.take("a") for _ in range(2)] == [True, False]
    seconds.now += 1000
    assert [pace.take("a") for _ in range(4)] == [True, True, True, False]


def test_being_turned_away_costs_nothing() -> None:
    seconds = Seconds()
    pace = Pace[str](1.0, 1, seconds)
    assert pace.take("a")
    for _ in range(10):
        seconds.now += 0.1
        pace.take("a")
    assert pace.take("a") is False
    seconds.now += 0.1
    assert pace.take("a")


def test_keys_do_not_share() -> None:
    pace = Pace[str](1.0, 1, Seconds())
    assert [pace.take("a"), pace.take("b"), pace.take("a")] == [True, True, False]


def test_asking_takes_nothing() -> None:
    pace = Pace[str](1.0, 1, Seconds())
    assert [pace.is_spent("a"), pace.take("a"), pace.is_spent("a")] == [False, True, True]


def test_key_that_did_nothing_for_longest_is_forgotten_first() -> None:
    pace = Pace[str](0.0, 1, Seconds(), max_keys=2)
    for key in "ab":
        pace.take(key)
    pace.take("a")
    pace.take("c")
    assert [pace.is_spent(key) for key in "abc"] == [True, False, True]


def test_charge_goes_into_debt_of_one_burst_at_most() -> None:
    seconds = Seconds()
    pace = Pace[str](1.0, 3, seconds)
    pace.charge("a", 1000)
    assert pace.wait("a") == 4.0
    seconds.now += 4.0
    assert [pace.take("a"), pace.take("a")] == [True, False]


def test_wait_tells_when_there_is_room_again() -> None:
    seconds = Seconds()
    pace = Pace[str](0.5, 1, seconds)
    assert pace.wait("a") == 0.0
    pace.take("a")
    assert pace.wait("a") == 2.0
    seconds.now += 2.0
    assert pace.wait("a") == 0.0


def test_wait_is_told_in_whole_seconds_of_a_minute_at_most() -> None:
    told = []
    for per_second in (100.0, 0.3, 0.001):
        pace = Pace[str](per_second, 1, Seconds())
        pace.take("a")
        told.append(pace.retry_after("a"))
    assert told == [1, 4, 60]
