"""Cloud-to-device messages: sent by services, kept until their device has them, or their time is
over.

Each device has a queue of its own, the hub's and durable: a sender that has its answer may forget
the message, whatever happens to the server, and the device may get it twice. Over MQTT a message
leaves the queue when the device acknowledged it (QoS 1) or it was sent (QoS 0): `deliveries`. Over
HTTPS it is locked for a minute, in which the device completes, rejects or abandons it. What is in
flight over MQTT is not handed out over HTTPS; what is locked over HTTPS goes to a device that
begins to listen over MQTT all the same.

Messages are data, as telemetry is: they are not in the audit log, but for their removal by hand.

Source: Azure IoT Hub, "Send cloud-to-device messages from an IoT hub".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.errors import (
    DeviceQueueFull,
    FleetrootError,
    MessageLockLost,
    NotFound,
)
from fleetroot.hub import command_queue, feedback_log
from fleetroot.hub.cloud_to_device import (
    Ack,
    CloudToDeviceMessage,
    Feedback,
    Outcome,
    QueuedMessage,
    make_message,
)
from fleetroot.hub.deliveries import Deliveries
from fleetroot.hub.live import LiveSession, LiveTable
from fleetroot.hub.model import Hub, Principal
from fleetroot.ids import new_uuid
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated

LOCK: Final = timedelta(minutes=1)
_SEND_AT_ONCE: Final = 256  # messages in one unit


@dataclass(frozen=True, slots=True)
class CommandRules:
    """What a hub does with messages.

    Attributes:
        lifetime: of a message that says none; at most two days.
        depth: messages that may wait for one device.
        deliveries: that may come to nothing before a message is dead.
        feedback_lifetime: how long feedback waits for somebody to fetch it.
    """

    lifetime: timedelta = timedelta(hours=1)
    depth: int = 50
    deliveries: int = 10
    feedback_lifetime: timedelta = timedelta(hours=1)


class Locked(NamedTuple):
    """A message that a device has for a minute, by this token."""

    queued: QueuedMessage
    token: str


class LockedFeedback(NamedTuple):
    """Feedback that a service has for a minute, by this token."""

    records: list[Feedback]
    token: str


class Purged(NamedTuple):
    """How many messages were removed, and the id of their device as its identity spells it."""

    messages: int
    device_id: str


class _Sending(NamedTuple):
    hub: Hub
    device_key: str
    message: CloudToDeviceMessage
    at: datetime
    queued: asyncio.Future[None]


class Commands:
    """The queues of all devices."""

    def __init__(
        self, store: Store, live: LiveTable, clock: Clock, rules: CommandRules | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules or CommandRules()
        self.deliveries = Deliveries(store, live, clock, self._rules.deliveries)
        self._waiting: list[_Sending] = []
        self._writing: asyncio.Task[None] | None = None

    # --- what services do

    def message(
        self,
        body: bytes,
        properties: dict[str, str],
        system_properties: dict[str, str],
        *,
        message_id: str | None = None,
        ack: Ack = Ack.NONE,
        expires_at: datetime | None = None,
        lifetime: timedelta | None = None,
    ) -> CloudToDeviceMessage:
        """A message from what its sender says; see `cloud_to_device.make_message`."""
        now = self._clock.now()
        if expires_at is None and lifetime is not None:
            expires_at = now + lifetime
        return make_message(
            body,
            properties,
            system_properties,
            now=now,
            lifetime=self._rules.lifetime,
            message_id=message_id,
            ack=ack,
            expires_at=expires_at,
        )

    async def send(self, hub: Hub, device_key: str, message: CloudToDeviceMessage) -> None:
        """Puts a message into its device's queue; when this returns it is durable.

        Raises:
            NotFound: the hub does not know the device.
            DeviceQueueFull: too many messages wait for it.
            Unavailable: the database cannot answer now.
        """
        queued: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Sending(hub, device_key, message, self._clock.now(), queued))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await queued

    async def purge(self, hub: Hub, device_key: str, *, by: Actor) -> Purged:
        """Removes every message that waits for a device.

        Raises:
            NotFound: the hub does not know the device.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> Purged:
            device_id = _known(tx, hub, device_key)
            count = command_queue.purge(tx, hub.id, device_key, now)
            about, details = f"device/{device_id}", {"hub": hub.name, "messages": count}
            action, of = Action.PURGE_MESSAGES, hub.namespace_id
            audit.append(tx, Entry(now, by, action, about, of, details=details))
            return Purged(count, device_id)

        return await self._store.write(unit)

    async def feedback(self, hub: Hub) -> LockedFeedback | None:
        """Locks the oldest feedback of the hub's messages; None if there is none."""
        now, token = self._clock.now(), new_uuid()

        def unit(tx: Transaction) -> list[Feedback]:
            most = self._rules.deliveries
            return feedback_log.lock_some(
                tx, hub.id, token=token, until=now + LOCK, most=most, now=now
            )

        if not await self._store.read(lambda tx: feedback_log.is_there(tx, hub.id, now)):
            return None
        found = await self._store.write(unit)
        return LockedFeedback(found, token) if found else None

    async def complete_feedback(self, hub: Hub, token: str) -> None:
        """Removes feedback that is locked.

        Raises:
            MessageLockLost: it is not, or not any more.
        """
        now = self._clock.now()
        _check_locked(
            await self._store.write(lambda tx: feedback_log.remove(tx, hub.id, token, now))
        )

    async def abandon_feedback(self, hub: Hub, token: str) -> None:
        """Gives feedback back that is locked.

        Raises:
            MessageLockLost: it is not, or not any more.
        """
        now = self._clock.now()
        _check_locked(
            await self._store.write(lambda tx: feedback_log.unlock(tx, hub.id, token, now))
        )

    # --- what devices do over HTTPS

    async def receive(self, device: Principal) -> Locked | None:
        """Locks the device's next message for a minute; None if there is none."""
        now, token = self._clock.now(), new_uuid()
        hub, key = device.hub, device.device_key
        skip = frozenset(self.deliveries.in_flight(hub, key))

        def unit(tx: Transaction) -> QueuedMessage | None:
            most, until = self._rules.deliveries, now + LOCK
            return command_queue.lock_next(
                tx, hub.id, key, skip, token=token, until=until, most=most, now=now
            )

        if not await self._store.read(lambda tx: command_queue.is_next(tx, hub.id, key, skip, now)):
            return None
        queued = await self._store.write(unit)
        return None if queued is None else Locked(queued, token)

    async def finish(self, device: Principal, token: str, outcome: Outcome) -> None:
        """Takes a message out that the device has locked: `SUCCESS` or `REJECTED`.

        Raises:
            MessageLockLost: it has not, or not any more.
        """
        hub_id, key, now = device.hub.id, device.device_key, self._clock.now()
        _check_locked(
            await self._store.write(
                lambda tx: command_queue.finish_locked(tx, hub_id, key, token, outcome, now)
            )
        )

    async def abandon(self, device: Principal, token: str) -> None:
        """Gives a message back that the device has locked.

        Raises:
            MessageLockLost: it has not, or not any more.
        """
        hub_id, key, now = device.hub.id, device.device_key, self._clock.now()
        most = self._rules.deliveries
        _check_locked(
            await self._store.write(
                lambda tx: command_queue.unlock(tx, hub_id, key, token, most=most, now=now)
            )
        )

    # --- duties

    async def look(self) -> None:
        """To be called once a minute: removes what is expired, and goes on with deliveries that a
        failure of the database interrupted.
        """
        now = self._clock.now()
        old = now - self._rules.feedback_lifetime
        while await self._store.write(lambda tx: command_queue.remove_expired(tx, now)):
            await asyncio.sleep(0)
        while await self._store.write(lambda tx: feedback_log.remove_old(tx, old)):
            await asyncio.sleep(0)
        self.deliveries.go_on_all()

    def left(self, session: LiveSession) -> None:
        """A device's connection is over."""
        self.deliveries.left(session)

    def finish_all(self) -> None:
        """Hands over what is still to be written, when nobody is connected any more."""
        self.deliveries.flush()

    # --- inside

    async def _write(self) -> None:
        """Writes what was sent, many messages in one unit, one unit at a time: the order of places
        is that of commits, and of offers.
        """
        while self._waiting:
            batch, self._waiting = self._waiting[:_SEND_AT_ONCE], self._waiting[_SEND_AT_ONCE:]
            try:
                results = await self._insert(batch)
            except Exception as error:  # noqa: BLE001 - each sender is told
                results = [error] * len(batch)
            for each, result in zip(batch, results, strict=True):
                if isinstance(result, QueuedMessage):
                    self.deliveries.offer(each.hub, each.device_key, result)
                if each.queued.done():  # cancelled: nobody waits
                    continue
                if isinstance(result, QueuedMessage):
                    each.queued.set_result(None)
                else:
                    each.queued.set_exception(result)
        self._writing = None

    async def _insert(self, batch: list[_Sending]) -> list[QueuedMessage | Exception]:
        try:
            return await self._store.write(partial(_insert_all, batch, self._rules.depth))
        except ConstraintViolated:  # a device was deleted meanwhile
            if len(batch) == 1:
                return [_unknown()]
            return [result for each in batch for result in await self._insert([each])]


def _insert_all(
    batch: list[_Sending], depth: int, tx: Transaction
) -> list[QueuedMessage | Exception]:
    results: list[QueuedMessage | Exception] = []
    for hub, key, message, at, _ in batch:
        try:
            _known(tx, hub, key)
            if command_queue.count(tx, hub.id, key, at) >= depth:
                raise DeviceQueueFull(f"{depth} messages wait for the device")
            results.append(command_queue.insert(tx, hub.id, key, message, at))
        except FleetrootError as error:
            results.append(error)
    return results


def _known(tx: Transaction, hub: Hub, device_key: str) -> str:
    device_id = command_queue.device_id(tx, hub.id, device_key)
    if device_id is None:
        raise _unknown()
    return device_id


def _unknown() -> NotFound:
    return NotFound("no such device on this hub")


def _check_locked(was_locked: bool) -> None:
    if not was_locked:
        raise MessageLockLost("the lock token is not, or no longer, that of a locked message")
