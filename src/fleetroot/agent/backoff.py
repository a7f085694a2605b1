"""How long to wait after a failure.

Exponential, with full jitter: the n-th wait is uniform between nothing and a window that doubles up
to its longest. A fleet that lost its server together comes back spread over the whole window
instead of in waves.

Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom
from typing import Final

SHORTEST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 60.0
_MOST_RETRY_AFTER: Final = 3600.0  # a server that asks for more gets a visit an hour
_MOST_DOUBLINGS: Final = 30
_UNIFORM: Final = SystemRandom().uniform


class Backoff:
    """Counts failures in a row, and says how long to wait after each.

    Args:
        longest: seconds of the largest window.
        uniform: draws between two numbers; a test gives its own.
    """

    def __init__(
        self,
        longest: float = LONGEST_SECONDS,
        uniform: Callable[[float, float], float] = _UNIFORM,
    ) -> None:
        self._longest = longest
        self._uniform = uniform
        self._failures = 0

    def next(self, retry_after: float | None = None) -> float:
        """Seconds to wait after one more failure; on top of `retry_after`, if the server asked."""
        doublings = min(self._failures, _MOST_DOUBLINGS)
        window = min(self._longest, SHORTEST_SECONDS * 2.0**doublings)
        self._failures += 1
        return min(retry_after or 0.0, _MOST_RETRY_AFTER) + self._uniform(0.0, window)

    def reset(self) -> None:
        """It works again."""
        self._failures = 0
