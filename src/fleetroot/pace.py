"""Token buckets by key, of bounded number: how often something may happen."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_MAX_KEYS: Final = 16_384
_LONGEST_WAIT: Final = 60  # seconds that a device is told


class Pace(Generic[K]):
    """Each key may do something `burst` times at once, and `per_second` times a second on the long
    run. Of more keys than are kept, the one that did nothing for longest is forgotten, and starts
    anew.
    """

    __slots__ = ("_burst", "_left", "_max_keys", "_now", "_per_second")

    def __init__(
        self,
        per_second: float,
        burst: float,
        now: Callable[[], float],
        max_keys: int = _MAX_KEYS,
    ) -> None:
        """`now` gives seconds from any origin, and never goes backward."""
        self._per_second = per_second
        self._burst = max(burst, 1.0)
        self._now = now
        self._max_keys = max_keys
        self._left: OrderedDict[K, tuple[float, float]] = OrderedDict()  # tokens, and when

    def is_spent(self, key: K) -> bool:
        """Whether `take` would say no."""
        return key in self._left and self._tokens(key, self._now()) < 1.0

    def take(self, key: K) -> bool:
        """Counts one more, if there is room for it."""
        now = self._now()
        tokens = self._tokens(key, now)
        taken = tokens >= 1.0
        self._keep(key, tokens - 1.0 if taken else tokens, now)
        return taken

    def charge(self, key: K, amount: float) -> None:
        """Counts so much more, where there is no room for it into debt: of one burst at most."""
        now = self._now()
        self._keep(key, max(self._tokens(key, now) - amount, -self._burst), now)

    def wait(self, key: K) -> float:
        """Seconds until `take` would say yes, if nobody takes meanwhile."""
        missing = 1.0 - self._tokens(key, self._now())
        return missing / self._per_second if missing > 0.0 else 0.0

    def retry_after(self, key: K) -> int:
        """The same in whole seconds, as the wires say them: at least one, a minute at most."""
        return max(1, min(_LONGEST_WAIT, math.ceil(self.wait(key))))

    def _tokens(self, key: K, now: float) -> float:
        tokens, since = self._left.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._per_second)

    def _keep(self, key: K, tokens: float, now: float) -> None:
        self._left[key] = (tokens, now)
        self._left.move_to_end(key)
        if len(self._left) > self._max_keys:
            self._left.popitem(last=False)
