"""Rounds, ratios, and what a process used."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CPUCLOCK_SCHED: Final = 2  # <linux/posix-timers.h>: nanoseconds that a process was scheduled


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done; the smoke test does less.

    Attributes:
        curves: of the devices' keys.
        rounds: that count; one more warms up.
        batch: operations of one side in one round.
        herd: devices that arrive at once, each from an address of its own.
        behind_nat: the same, all from one address.
        idle: connections whose memory is measured.
        listeners: devices that cloud-to-device messages are sent to, where there are many.
        messages: that are sent in a round; half as many calls of methods are made.
        stored: devices in the large store.
        few: in the small one beside it.
        revoked: certificates on revocation lists; each number is higher than the one before.
    """

    curves: tuple[str, ...] = ("P-384", "P-256")
    rounds: int = 7
    batch: int = 300
    herd: int = 10_000
    behind_nat: int = 1_000
    idle: int = 1000
    listeners: int = 1000
    messages: int = 5000
    stored: int = 1_000_000
    few: int = 1_000
    revoked: tuple[int, ...] = (1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def show(self, form: str, unit: str = "") -> str:
        """As text; `form` is the format of each of the three."""
        return f"{self.median:{form}}{unit} ({self.low:{form}} to {self.high:{form}})"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    measured: str
    beside: str = ""
    ratio: Spread | None = None
    goal: str = ""


# One side of a comparison: does its batch, and gives the seconds that one operation cost.
Side = Callable[[], float]


def take_turns(rounds: int, *sides: Side) -> list[list[float]]:
    """The costs of every side, round by round, without those of the round that warms up."""
    costs: list[list[float]] = [[] for _ in sides]
    order = list(range(len(sides)))
    for round_ in range(rounds + 1):
        for side in order:
            cost = sides[side]()
            if round_:
                costs[side].append(cost)
        order.reverse()
    return costs


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Cost by cost of the same round."""
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])


def rate(costs: Sequence[float]) -> str:
    """Operations for a second of CPU."""
    return f"{1 / statistics.median(costs):,.0f} / CPU-s"


def cpu_seconds(work: Callable[[], object], times: int) -> float:
    """The CPU of this process that `work` takes, in seconds for one call."""
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def process_cpu(pid: int) -> float:
    """The CPU that a process used so far, user and system, all threads, in seconds.

    By clock_getcpuclockid(3): the figure of /proc/PID/stat, without its rounding to ticks.
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def process_memory(pid: int, *, peak: bool = False) -> int:
    """A process's resident memory, or the most that it ever was, in bytes."""
    name = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ValueError("the process has no memory")
