"""Steps that are timed, and printed as they happen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click


class Failed(Exception):
    """A step did not hold."""


class Steps:
    """Prints each step with its time and its result."""

    def __init__(self) -> None:
        self._number = 0
        self._start = time.perf_counter()
        self.seen: list[str] = []

    def part(self, title: str) -> None:
        """Begins a part."""
        click.echo(f"\n{title}")

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Runs a step; what it appends to the list is its result.

        Raises:
            Failed: it did not hold, whatever went wrong.
        """
        self._number += 1
        seen: list[str] = []
        start = time.perf_counter()
        try:
            yield seen
        except Exception as error:
            took = (time.perf_counter() - start) * 1000
            click.echo(f"  {self._number:>2}  FAILED {took:>7.0f} ms  {what}: {error}")
            raise Failed(what) from error
        took = (time.perf_counter() - start) * 1000
        result = f": {', '.join(seen)}" if seen else ""
        click.echo(f"  {self._number:>2}  ok     {took:>7.0f} ms  {what}{result}")

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._start


def check(holds: object, otherwise: str) -> None:
    """Raises:
    Failed: it does not hold.
    """
    if not holds:
        raise Failed(otherwise)
