"""Whose handshake goes on next: one step for each turn of the loop, so that those who have an open
connection are served between any two (docs/decisions/0006-one-loop.md).

Of those that begin a handshake and those that go on with one, each has every other turn. So nobody
who is nearly through waits behind a herd that begins, and OpenSSL's state is there for few.

The line of those that begin is as long as it takes to wait for so many seconds, at the pace of the
last turns: a peer that would leave before its turn is turned away while that costs nothing, or a
server that is slow, or has little of its processor, would work for peers that have left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fleetroot.gateway.tls.connection import TlsConnection

_ALWAYS: Final = 32  # may wait, whatever the pace: or one long pause would shut everybody out
_TURNS: Final = 64  # that the pace is a running mean of


class Turns:
    """The handshakes of one listener that have something to go on with."""

    def __init__(self, loop: asyncio.AbstractEventLoop, longest_wait: float) -> None:
        """`longest_wait`: seconds, for those that begin."""
        self._loop = loop
        self._longest_wait = longest_wait
        self._beginning: deque[TlsConnection] = deque()
        self._going_on: deque[TlsConnection] = deque()
        self._seconds = 0.0  # from one that begins to the next, while others wait behind it
        self._last: float | None = None  # turn of one that begins, since when others wait
        self._is_set = False

    def add(self, connection: TlsConnection, *, begins: bool) -> bool:
        """Calls the connection's `take_turn` in its turn; False: it would wait for too long."""
        if begins:
            waiting = len(self._beginning)
            if waiting >= _ALWAYS and waiting * self._seconds > self._longest_wait:
                return False
            self._beginning.append(connection)
        else:
            self._going_on.append(connection)
        if not self._is_set:
            self._is_set = True
            self._loop.call_soon(self._next, True)
        return True

    def _next(self, of_beginning: bool) -> None:
        begins = bool(self._beginning) and (of_beginning or not self._going_on)
        connection = (self._beginning if begins else self._going_on).popleft()
        self._is_set = bool(self._beginning or self._going_on)
        if self._is_set:
            self._loop.call_soon(self._next, not begins)
        if connection.take_turn() and begins:
            self._measure()

    def _measure(self) -> None:
        """One has begun; those whose peer had left, or that waited for too long, say nothing."""
        now = self._loop.time()
        if self._last is not None:
            self._seconds += (now - self._last - self._seconds) / _TURNS
        self._last = now if self._beginning else None
