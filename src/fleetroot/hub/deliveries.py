"""Deliveries of cloud-to-device messages to the devices that are connected here.

Of what waits for a device, a bounded part is in flight, in the order of the queue; the next goes
when the device acknowledged one. So a device that acknowledges nothing, or reads nothing, costs its
window and no more. What is in flight is known here only and stays in the queue: a device that comes
back gets it again, first, as new packets, because the queue is the hub's and not the session's.

A delivery came to nothing when the device's connection ended before it acknowledged; not when the
server ended it, whose restarts are not the message's fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from fleetroot.clock import Clock
from fleetroot.errors import FleetrootError
from fleetroot.hub import command_queue
from fleetroot.hub.cloud_to_device import Outcome, QueuedMessage
from fleetroot.hub.command_queue import Place
from fleetroot.hub.live import LiveSession, LiveTable
from fleetroot.hub.model import Channel, Ending, Hub
from fleetroot.storage import Store, Transaction

WINDOW: Final = 20  # messages that a device has not acknowledged
_WINDOW_BYTES: Final = 256 * 1024  # of these; below what a connection may have to write
_READS: Final = 16  # of the queue at once, each of up to a window of messages
_UNTIL_REMOVED: Final = 0.005  # seconds, until what was acknowledged is handed over
_MOST: Final = 512  # acknowledgements in one unit
_NOT_THE_DEVICE: Final = frozenset({Ending.SHUTDOWN, Ending.LEASE_LOST})
_log = structlog.get_logger("fleetroot.hub.deliveries")


class _Flow:
    """How far a session has come.

    Attributes:
        last: the place of the message that was sent last.
        in_flight: what it has not acknowledged, and the size of each.
        size: of all that.
        behind: whether more may wait in the queue than was sent.
        reading: whether the queue is being read for it.
    """

    __slots__ = ("behind", "in_flight", "last", "reading", "size")

    def __init__(self) -> None:
        self.last = 0
        self.in_flight: dict[int, int] = {}
        self.size = 0
        self.behind = True
        self.reading = False

    @property
    def has_room(self) -> bool:
        return len(self.in_flight) < WINDOW and self.size < _WINDOW_BYTES

    @property
    def is_half_empty(self) -> bool:
        return len(self.in_flight) <= WINDOW // 2 and self.size <= _WINDOW_BYTES // 2


class Deliveries:
    """Sends what waits to the devices that listen, and takes out what they acknowledge."""

    def __init__(self, store: Store, live: LiveTable, clock: Clock, most: int) -> None:
        """`most` deliveries may come to nothing before a message is dead."""
        self._store = store
        self._live = live
        self._clock = clock
        self._most = most
        self._flows: dict[LiveSession, _Flow] = {}
        self._reads = asyncio.Semaphore(_READS)
        self._reading: set[asyncio.Task[None]] = set()
        self._acknowledged: list[tuple[Place, bool]] = []  # and whether the sender wants to hear
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False

    def offer(self, hub: Hub, device_key: str, queued: QueuedMessage) -> None:
        """Sends a message that was committed just now, if its device listens here and nothing
        before it waits. Messages of a device must be offered in the order of their places.
        """
        session = self._live.on(hub, device_key)
        flow = None if session is None else self._flows.get(session)
        if session is None or flow is None or queued.seq <= flow.last:
            return  # or a reader of the queue saw the commit first, and has sent it
        if flow.behind or flow.reading or not self._send(session, flow, queued):
            flow.behind = True

    async def begin(self, session: LiveSession) -> None:
        """Sends what waits for a device that begins to listen.

        Raises:
            Unavailable: the database cannot answer now.
        """
        flow = self._flows.setdefault(session, _Flow())
        flow.behind = True
        await self._read(session, flow)

    def go_on(self, session: LiveSession) -> None:
        """Sends what waits for a device whose connection takes more again."""
        flow = self._flows.get(session)
        if flow is not None:
            self._read_soon(session, flow)

    def go_on_all(self) -> None:
        """The same for all, for those whose queue could not be read."""
        for session, flow in list(self._flows.items()):
            self._read_soon(session, flow)

    def in_flight(self, hub: Hub, device_key: str) -> Collection[int]:
        """The places of the messages that the device got over its connection and has not
        acknowledged.
        """
        session = self._live.on(hub, device_key)
        flow = None if session is None else self._flows.get(session)
        return () if flow is None else flow.in_flight

    def left(self, session: LiveSession) -> None:
        """The session is over: what it did not acknowledge was delivered in vain."""
        flow = self._flows.pop(session, None)
        if flow is None:
            return
        self.flush()  # before the device's next session reads
        if flow.in_flight and not self._stopping and session.ended not in _NOT_THE_DEVICE:
            principal, now, most = session.principal, self._clock.now(), self._most
            places = [Place(principal.hub.id, principal.device_key, seq) for seq in flow.in_flight]
            self._store.submit(
                lambda tx: command_queue.count_failed(tx, places, most=most, now=now)
            )

    def flush(self) -> None:
        """Hands over what was acknowledged."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._acknowledged:
            self._store.submit(partial(_take_out, self._acknowledged, self._clock.now()))
            self._acknowledged = []

    def stop(self) -> None:
        """The server stops: reads no more, and whose connection ends now did not leave."""
        self._stopping = True
        for task in self._reading:
            task.cancel()

    # --- inside

    def _send(self, session: LiveSession, flow: _Flow, queued: QueuedMessage) -> bool:
        qos = session.subscriptions.get(Channel.COMMANDS)
        if qos is None or session.ended is not None or not flow.has_room:
            return False
        flow.in_flight[queued.seq] = queued.size  # first: at QoS 0 it is delivered when it is sent
        flow.size += queued.size
        wants = Outcome.SUCCESS.is_wanted(queued.message.ack)
        delivered = partial(self._delivered, session, flow, queued.seq, wants)
        if not session.connection.send_command(queued, qos, delivered):
            flow.size -= flow.in_flight.pop(queued.seq)
            return False
        flow.last = queued.seq
        return True

    def _delivered(self, session: LiveSession, flow: _Flow, seq: int, wants: bool) -> None:
        size = flow.in_flight.pop(seq, None)
        if size is None:
            return
        flow.size -= size
        principal = session.principal
        self._acknowledged.append((Place(principal.hub.id, principal.device_key, seq), wants))
        if len(self._acknowledged) >= _MOST:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_UNTIL_REMOVED, self.flush)
        if flow.behind and flow.is_half_empty:
            self._read_soon(session, flow)

    def _read_soon(self, session: LiveSession, flow: _Flow) -> None:
        if self._stopping or session.ended is not None:
            return
        if flow.behind and not flow.reading and flow.has_room:
            task = asyncio.get_running_loop().create_task(self._try_read(session, flow))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)

    async def _try_read(self, session: LiveSession, flow: _Flow) -> None:
        try:
            await self._read(session, flow)
        except FleetrootError as error:  # `go_on_all` tries again
            _log.warning(
                "cannot read a queue", device_id=session.principal.device_id, error=error.message
            )

    async def _read(self, session: LiveSession, flow: _Flow) -> None:
        """Sends from the queue until it has no more, or the device takes no more."""
        if flow.reading:
            flow.behind = True  # and whoever reads looks again
            return
        flow.reading = True
        try:
            while flow.behind and flow.has_room and self._flows.get(session) is flow:
                flow.behind = False  # who is offered one from here on says so again
                async with self._reads:
                    if not await self._read_some(session, flow):
                        flow.behind = True
                        return
        except BaseException:
            flow.behind = True
            raise
        finally:
            flow.reading = False

    async def _read_some(self, session: LiveSession, flow: _Flow) -> bool:
        principal, now, last = session.principal, self._clock.now(), flow.last

        def read(tx: Transaction) -> list[QueuedMessage]:
            hub_id, key = principal.hub.id, principal.device_key
            return command_queue.after(tx, hub_id, key, last, now, limit=WINDOW)

        found = await self._store.read(read)
        flow.behind |= len(found) == WINDOW
        return all(self._send(session, flow, queued) for queued in found)


def _take_out(acknowledged: list[tuple[Place, bool]], now: datetime, tx: Transaction) -> None:
    command_queue.remove(tx, (place for place, wants in acknowledged if not wants))
    for place, wants in acknowledged:
        if wants:
            command_queue.finish(tx, place, Outcome.SUCCESS, now)
