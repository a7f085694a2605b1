"""Queues of cloud-to-device messages: what is delivered, when a message leaves, and what its sender
hears.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fleetroot.audit import SYSTEM
from fleetroot.errors import (
    DeviceQueueFull,
    InvalidArgument,
    MessageLockLost,
    NotFound,
    TooLarge,
    Unavailable,
)
from fleetroot.hub import command_queue, identities
from fleetroot.hub.cloud_to_device import Ack, Outcome
from fleetroot.hub.commands import LOCK, CommandRules, Commands, Locked
from fleetroot.hub.deliveries import WINDOW
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import Channel, Ending
from workbench import Wire, Workbench

DEVICE = "dev-1"


class Party:
    """A device of the hub, and a service that sends to it."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.hub = bench.made.hub
        self.commands = bench.hubs.commands

    async def send(self, *bodies: bytes, to: str = DEVICE, **said: Any) -> None:
        for body in bodies:
            message = self.commands.message(body, {}, {}, **said)
            await self.commands.send(self.hub, to, message)

    async def connect(self, qos: int | None = 1, device: str = DEVICE) -> tuple[LiveSession, Wire]:
        """Connects, and listens."""
        wire = Wire()
        session = await self.bench.connect(device, self.certified[device], wire)
        if qos is not None:
            session.subscriptions[Channel.COMMANDS] = qos
            await self.commands.deliveries.begin(session)
        return session, wire

    async def waiting(self, device: str = DEVICE) -> int:
        await self.settled()
        now = self.bench.clock.now()
        return await self.bench.store.read(
            lambda tx: command_queue.count(tx, self.hub.id, device, now)
        )

    async def settled(self) -> None:
        await self.bench.settled()
        while self.commands.deliveries._reading:
            await asyncio.gather(*self.commands.deliveries._reading)

    async def told(self) -> list[tuple[str, Outcome]]:
        """What the sender heard, and then no more."""
        await self.settled()
        found = await self.commands.feedback(self.hub)
        if found is None:
            return []
        await self.commands.complete_feedback(self.hub, found.token)
        return [(each.message_id, each.outcome) for each in found.records]

    async def receive(self, device: str = DEVICE) -> Locked | None:
        session = self.sessions[device]
        return await self.commands.receive(session.principal)

    async def prepare(self, *devices: str) -> None:
        self.certified = {each: await self.bench.provision(each) for each in devices}
        self.sessions = {
            each: await self.bench.connect(each, held) for each, held in self.certified.items()
        }
        for session in self.sessions.values():
            self.bench.hubs.disconnect(session)


@pytest.fixture
async def party(bench: Workbench) -> Party:
    made = Party(bench)
    await made.prepare(DEVICE)
    return made


# --- over a connection


async def test_messages_wait_while_the_device_is_away_and_come_in_order(party: Party) -> None:
    await party.send(b"1", b"2", b"3")
    assert await party.waiting() == 3
    _, wire = await party.connect()
    assert wire.bodies == [b"1", b"2", b"3"]


async def test_message_leaves_the_queue_when_it_is_acknowledged(party: Party) -> None:
    _, wire = await party.connect()
    await party.send(b"1", b"2")
    assert wire.bodies == [b"1", b"2"]
    assert await party.waiting() == 2
    wire.acknowledge(0)
    assert await party.waiting() == 1


async def test_message_at_qos_0_leaves_the_queue_when_it_is_sent(party: Party) -> None:
    _, wire = await party.connect(qos=0)
    await party.send(*(b"%d" % number for number in range(WINDOW + 5)))
    assert len(wire.bodies) == WINDOW + 5
    assert await party.waiting() == 0


async def test_device_that_does_not_listen_gets_nothing(party: Party) -> None:
    _, wire = await party.connect(qos=None)
    await party.send(b"1")
    assert (wire.bodies, await party.waiting()) == ([], 1)


async def test_what_was_not_acknowledged_comes_again_first(party: Party) -> None:
    session, wire = await party.connect()
    await party.send(b"1", b"2", b"3")
    wire.acknowledge(1)
    party.bench.hubs.disconnect(session)
    await party.send(b"4")
    _, again = await party.connect()
    assert again.bodies == [b"1", b"3", b"4"]


async def test_device_that_acknowledges_nothing_has_a_window_in_flight(party: Party) -> None:
    _, wire = await party.connect()
    await party.send(*(b"%d" % number for number in range(WINDOW + 15)))
    assert len(wire.bodies) == WINDOW
    wire.acknowledge(*range(WINDOW // 2))
    await party.settled()
    assert wire.bodies == [b"%d" % number for number in range(WINDOW + WINDOW // 2)]


async def test_window_is_bounded_in_bytes_too(party: Party) -> None:
    _, wire = await party.connect()
    await party.send(*[bytes(60_000)] * 10)
    assert len(wire.bodies) == 5


async def test_device_that_does_not_read_is_sent_nothing_until_it_does(party: Party) -> None:
    session, wire = await party.connect(qos=0)
    wire.reads = False
    await party.send(b"1", b"2")
    wire.reads = True
    await party.send(b"3")
    assert wire.bodies == []  # nothing overtakes what waits
    party.commands.deliveries.go_on(session)
    await party.settled()
    assert wire.bodies == [b"1", b"2", b"3"]


async def test_message_that_is_sent_while_the_queue_is_read_is_neither_lost_nor_twice(
    party: Party,
) -> None:
    await party.send(b"1")
    party.bench.store.after_read.append(lambda: party.send(b"2"))
    session, wire = await party.connect()
    assert wire.bodies == [b"1", b"2"]
    await party.send(b"3")
    assert wire.bodies == [b"1", b"2", b"3"]
    assert session.ended is None


async def test_message_that_a_reader_sees_before_its_sender_hears_is_sent_once(
    party: Party,
) -> None:
    session, wire = await party.connect()
    wire.reads = False
    await party.send(b"1")
    wire.reads = True

    async def read() -> None:
        party.commands.deliveries.go_on(session)
        await asyncio.gather(*party.commands.deliveries._reading)

    party.bench.store.after_write.append(read)  # committed, and its sender is not told yet
    await party.send(b"2")
    assert wire.bodies == [b"1", b"2"]
    await party.send(b"3")
    assert wire.bodies == [b"1", b"2", b"3"]


async def test_queue_that_could_not_be_read_is_read_again(party: Party) -> None:
    session, wire = await party.connect()
    wire.reads = False
    await party.send(b"1")
    wire.reads = True

    async def fail() -> None:
        raise Unavailable("away")

    party.bench.store.before_read.append(fail)
    party.commands.deliveries.go_on(session)
    await party.settled()
    assert wire.bodies == []
    await party.commands.look()
    await party.settled()
    assert wire.bodies == [b"1"]


async def test_message_goes_to_its_device_alone(bench: Workbench) -> None:
    party = Party(bench)
    await party.prepare(DEVICE, "dev-2")
    wires = {device: (await party.connect(device=device))[1] for device in (DEVICE, "dev-2")}
    await party.send(b"1", to="dev-2")
    assert [wires[device].bodies for device in (DEVICE, "dev-2")] == [[], [b"1"]]


# --- limits


async def test_51st_message_is_refused_and_fits_when_one_left(party: Party) -> None:
    _, wire = await party.connect()
    await party.send(*[b"x"] * 50)
    with pytest.raises(DeviceQueueFull, match="50 messages wait"):
        await party.send(b"y")
    wire.acknowledge(0)
    assert await party.waiting() == 49
    await party.send(b"y")


async def test_many_senders_at_once_do_not_overfill_a_queue(party: Party) -> None:
    sent = await asyncio.gather(*(party.send(b"x") for _ in range(60)), return_exceptions=True)
    assert sum(isinstance(each, DeviceQueueFull) for each in sent) == 10
    assert await party.waiting() == 50


async def test_expired_messages_make_room(party: Party) -> None:
    await party.send(*[b"x"] * 50)
    party.bench.clock.advance(timedelta(hours=1))
    await party.send(b"y")
    assert await party.waiting() == 1


async def test_message_for_a_device_that_the_hub_does_not_know_is_refused(party: Party) -> None:
    with pytest.raises(NotFound):
        await party.send(b"x", to="nobody")


async def test_message_for_a_device_that_is_deleted_meanwhile_takes_no_other_along(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    party = Party(bench)
    await party.prepare(DEVICE, "dev-2")
    monkeypatch.setattr("fleetroot.hub.commands._known", lambda *_: "")  # it was, a moment ago
    sent = await asyncio.gather(
        party.send(b"1", to="nobody"), party.send(b"2", to="dev-2"), return_exceptions=True
    )
    assert [type(each) for each in sent] == [NotFound, type(None)]
    assert await party.waiting("dev-2") == 1


ACCENT = {"name": "é"}


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"body": bytes(65_537)}, TooLarge),
        ({"properties": {"a": "x" * 8192}}, TooLarge),
        ({"properties": {f"n{i}": "" for i in range(65)}}, InvalidArgument),
        ({"properties": {"a b": ""}}, InvalidArgument),
        ({"properties": {"$.mid": "x"}}, InvalidArgument),
        ({"properties": {"iothub-ack": "full"}}, InvalidArgument),
        ({"properties": ACCENT}, InvalidArgument),
        ({"properties": {"a": "two\nlines"}}, InvalidArgument),
        ({"system_properties": {"userId": "x" * 129}}, InvalidArgument),
        ({"message_id": "a b"}, InvalidArgument),
        ({"message_id": ""}, InvalidArgument),
        ({"lifetime": timedelta(0)}, InvalidArgument),
        ({"lifetime": timedelta(days=2, seconds=1)}, InvalidArgument),
    ],
)
async def test_message_that_is_over_a_limit_is_refused(
    party: Party, said: dict[str, Any], error: type[Exception]
) -> None:
    given = {"body": b"", "properties": {}, "system_properties": {}} | said
    with pytest.raises(error):
        party.commands.message(**given)


def test_message_lives_an_hour_if_nothing_is_said(party: Party) -> None:
    made = party.commands.message(b"", {}, {})
    assert made.expires_at == party.bench.clock.now() + timedelta(hours=1)


# --- expiry, deaths, purge


async def test_expired_message_is_not_delivered_and_is_removed(party: Party) -> None:
    await party.send(b"1", lifetime=timedelta(minutes=1))
    await party.send(b"2")
    party.bench.clock.advance(timedelta(minutes=1))
    _, wire = await party.connect()
    assert wire.bodies == [b"2"]
    await party.commands.look()
    assert len(party.bench.contents()["commands"]) == 1


async def test_message_that_ten_connections_did_not_acknowledge_is_dead(party: Party) -> None:
    await party.send(b"1", ack=Ack.FULL, message_id="bad")
    for _ in range(10):
        session, wire = await party.connect()
        assert wire.bodies == [b"1"]
        party.bench.hubs.disconnect(session)
        await party.settled()
        party.bench.clock.advance(timedelta(seconds=2))
    _, wire = await party.connect()
    assert wire.bodies == []
    assert await party.told() == [("bad", Outcome.DELIVERY_COUNT_EXCEEDED)]


@pytest.mark.parametrize(
    "leave",
    [
        lambda party, session: session.end(Ending.LEASE_LOST),
        lambda party, session: party.bench.hubs.stop_waiting(),
    ],
    ids=["lease lost", "shutdown"],
)
async def test_delivery_that_the_server_ended_does_not_count(
    party: Party, leave: Callable[[Party, LiveSession], None]
) -> None:
    await party.send(b"1")
    session, _ = await party.connect()
    leave(party, session)
    party.bench.hubs.disconnect(session)
    await party.settled()
    locked = await party.receive()
    assert locked is not None
    assert locked.queued.delivery_count == 0


async def test_purge_empties_the_queue_and_says_how_many_there_were(party: Party) -> None:
    await party.send(b"1", message_id="loud", ack=Ack.NEGATIVE)
    await party.send(b"2")
    purged = await party.commands.purge(party.hub, DEVICE, by=SYSTEM)
    assert (purged.messages, purged.device_id) == (2, DEVICE)
    assert await party.waiting() == 0
    assert await party.told() == [("loud", Outcome.PURGED)]


async def test_messages_go_with_their_identity(party: Party) -> None:
    await party.send(b"1", ack=Ack.FULL)
    identity = await party.bench.identity(DEVICE)
    assert identity is not None
    await party.bench.store.write(lambda tx: identities.remove(tx, identity))
    assert party.bench.contents()["commands"] == []


# --- feedback


@pytest.mark.parametrize("ack", Ack)
@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.EXPIRED, Outcome.REJECTED])
async def test_sender_hears_of_what_it_asked_for(party: Party, ack: Ack, outcome: Outcome) -> None:
    await party.send(b"1", ack=ack, message_id="m")
    match outcome:
        case Outcome.SUCCESS:
            (await party.connect())[1].acknowledge(0)
        case Outcome.EXPIRED:
            party.bench.clock.advance(timedelta(hours=1))
            await party.commands.look()
        case _:
            locked = await party.receive()
            assert locked is not None
            await party.commands.finish(party.sessions[DEVICE].principal, locked.token, outcome)
    heard = ack is Ack.FULL or ack is (Ack.POSITIVE if outcome is Outcome.SUCCESS else Ack.NEGATIVE)
    assert await party.told() == ([("m", outcome)] if heard else [])


async def test_message_has_one_outcome(party: Party) -> None:
    """It is acknowledged, though its time was over and it was removed."""
    await party.send(b"1", ack=Ack.FULL, message_id="m")
    _, wire = await party.connect()
    party.bench.clock.advance(timedelta(hours=1))
    await party.commands.look()
    wire.acknowledge(0)
    assert await party.told() == [("m", Outcome.EXPIRED)]


async def test_feedback_is_locked_for_a_minute_and_comes_again(party: Party) -> None:
    await party.send(b"1", ack=Ack.FULL)
    (await party.connect())[1].acknowledge(0)
    await party.settled()
    first = await party.commands.feedback(party.hub)
    assert first is not None
    assert await party.commands.feedback(party.hub) is None
    party.bench.clock.advance(LOCK)
    with pytest.raises(MessageLockLost):
        await party.commands.complete_feedback(party.hub, first.token)
    second = await party.commands.feedback(party.hub)
    assert second is not None
    assert second.records == first.records
    await party.commands.abandon_feedback(party.hub, second.token)
    assert len(await party.told()) == 1


async def test_feedback_that_nobody_fetches_is_removed_in_time(party: Party) -> None:
    await party.send(b"1", ack=Ack.FULL)
    (await party.connect())[1].acknowledge(0)
    await party.settled()
    party.bench.clock.advance(timedelta(hours=1, seconds=1))
    await party.commands.look()
    assert party.bench.contents()["command_feedback"] == []


# --- over HTTPS


async def test_device_locks_one_message_after_the_other(party: Party) -> None:
    await party.send(b"1", b"2")
    first, second = await party.receive(), await party.receive()
    assert first is not None
    assert second is not None
    assert [first.queued.message.body, second.queued.message.body] == [b"1", b"2"]
    assert await party.receive() is None


async def test_lock_that_runs_out_is_a_delivery_that_came_to_nothing(party: Party) -> None:
    await party.send(b"1")
    first = await party.receive()
    assert first is not None
    party.bench.clock.advance(LOCK)
    principal = party.sessions[DEVICE].principal
    with pytest.raises(MessageLockLost):
        await party.commands.finish(principal, first.token, Outcome.SUCCESS)
    again = await party.receive()
    assert again is not None
    assert (first.queued.delivery_count, again.queued.delivery_count) == (0, 1)
    await party.commands.finish(principal, again.token, Outcome.SUCCESS)
    assert await party.waiting() == 0


async def test_message_that_is_abandoned_comes_again_until_it_is_dead(party: Party) -> None:
    await party.send(b"1", ack=Ack.NEGATIVE, message_id="bad")
    for count in range(10):
        locked = await party.receive()
        assert locked is not None
        assert locked.queued.delivery_count == count
        await party.commands.abandon(party.sessions[DEVICE].principal, locked.token)
    assert await party.receive() is None
    assert await party.told() == [("bad", Outcome.DELIVERY_COUNT_EXCEEDED)]


async def test_message_whose_last_lock_ran_out_makes_way_for_the_next(bench: Workbench) -> None:
    party = Party(bench)
    rules = CommandRules(deliveries=1)
    party.commands = Commands(bench.store, bench.hubs.live, bench.clock, rules)
    await party.prepare(DEVICE)
    await party.send(b"1", b"2")
    assert await party.receive() is not None
    bench.clock.advance(LOCK)
    locked = await party.receive()
    assert locked is not None
    assert locked.queued.message.body == b"2"


async def test_device_does_not_finish_the_message_of_another(bench: Workbench) -> None:
    party = Party(bench)
    await party.prepare(DEVICE, "dev-2")
    await party.send(b"1")
    locked = await party.receive()
    assert locked is not None
    with pytest.raises(MessageLockLost):
        await party.commands.finish(
            party.sessions["dev-2"].principal, locked.token, Outcome.SUCCESS
        )
    assert await party.waiting() == 1


async def test_what_is_in_flight_over_a_connection_is_not_handed_out_beside_it(
    party: Party,
) -> None:
    await party.connect()
    await party.send(b"1")
    assert await party.receive() is None


# --- failures


async def test_sender_is_told_when_the_database_is_away(party: Party) -> None:
    async def fail() -> None:
        raise Unavailable("away")

    party.bench.store.before_write.append(fail)
    with pytest.raises(Unavailable):
        await party.send(b"1")
    await party.send(b"2")
    _, wire = await party.connect()
    assert wire.bodies == [b"2"]


async def test_sender_that_goes_away_does_not_hold_up_the_others(party: Party) -> None:
    sending = asyncio.create_task(party.send(b"1"))
    await asyncio.sleep(0)
    sending.cancel()
    await party.send(b"2")
    _, wire = await party.connect()
    assert wire.bodies == [b"1", b"2"]
