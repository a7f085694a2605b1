"""How an agent waits: for the network, for time, or for its end.

One thread works and waits; others ring: MQTT's own thread when something arrived or broke, a signal
handler when it is time to stop. A ring says only that the world changed. Who waits looks again at
what it waits for, so a ring too many does no harm, and one that comes early is not lost.
"""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue


class Bell:
    """Wakes the one thread that waits. Tests override `pause` to move time instead of spending it.

    Attributes:
        stopped: the agent is to end.
    """

    def __init__(self) -> None:
        # Of the primitives of the standard library this is the one whose put may be called by a
        # signal handler that interrupts its own get.
        self._rings: SimpleQueue[None] = SimpleQueue()
        self.stopped = False

    def ring(self) -> None:
        """Wakes the waiter, now or the next time that it waits."""
        self._rings.put(None)

    def stop(self) -> None:
        """Tells the waiter to end; may be called by a signal handler."""
        self.stopped = True
        self.ring()

    def watch(self, seconds: float) -> None:
        """Waits until a ring, at most `seconds`."""
        try:
            self._rings.get(timeout=max(seconds, 0.0))
        except Empty:
            return

    def pause(self, seconds: float) -> None:
        """Waits `seconds`, whatever rings, unless told to stop."""
        end = time.monotonic() + seconds
        while not self.stopped and (left := end - time.monotonic()) > 0:
            self.watch(left)
