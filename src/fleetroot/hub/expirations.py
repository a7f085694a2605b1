"""Connections whose proof ends: each ends at that moment.

A timer costs 1.1 KB, and most connections end by something else long before their proof. So the
live table is looked through once a minute for those that end before the look after the next, and
these alone have timers. A look also ends what is over by a clock that was set forward.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from fleetroot.clock import Clock
from fleetroot.hub.live import LiveSession, LiveTable
from fleetroot.hub.model import Ending, Pin

_AHEAD: Final = timedelta(minutes=3)  # three looks: one may come late
_AT_ONCE: Final = 2000  # sessions that are looked at before others have their turn, some 1 ms


class Expirations:
    """Ends sessions in time.

    Args:
        of_certificates: whether a connection ends with the certificate that opened it. One by a
            token always ends with that.
    """

    def __init__(self, live: LiveTable, clock: Clock, *, of_certificates: bool) -> None:
        self._live = live
        self._clock = clock
        self._of_certificates = of_certificates
        self._timers: dict[LiveSession, asyncio.TimerHandle] = {}

    def entered(self, session: LiveSession) -> None:
        """A session has begun; it may end before the next look."""
        self._look_at(session)

    def left(self, session: LiveSession) -> None:
        """A session is over."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    async def look(self) -> None:
        """Ends what is over, and sets timers for what ends soon."""
        for number, session in enumerate(self._live):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            self._look_at(session)

    def _look_at(self, session: LiveSession) -> None:
        principal = session.principal
        if session.ended is not None or not (self._of_certificates or principal.pin is Pin.KEYS):
            return
        left = principal.expires_at - self._clock.now()
        if left > _AHEAD:
            return
        self.left(session)  # its timer counts by a clock that may have been set
        seconds = max(left.total_seconds(), 0.0)
        self._timers[session] = asyncio.get_running_loop().call_later(seconds, self._end, session)

    def _end(self, session: LiveSession) -> None:
        self._timers.pop(session, None)
        session.end(Ending.CREDENTIAL_EXPIRED)
