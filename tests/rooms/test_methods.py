"""Calls of direct methods: whom they reach, what ends them, and how many may wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import pytest

from fleetroot.errors import (
    BadDeviceAnswer,
    ConnectionClosed,
    DeviceNotOnline,
    InvalidArgument,
    NotFound,
    Throttled,
    TimedOut,
    TooLarge,
    Unavailable,
)
from fleetroot.hub.live import LiveSession
from fleetroot.hub.methods import (
    MAX_PAYLOAD_BYTES,
    MethodAnswer,
    MethodCall,
    MethodRules,
    Methods,
    make_call,
)
from fleetroot.hub.model import Channel, Ending
from workbench import Wire, Workbench

DEVICE = "dev-1"
SOON = 0.01  # seconds, of a time-out that a test waits for
LATE = 30.0  # of one that it does not


class Party:
    """Devices of the hub, and a service that calls them."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.methods = bench.hubs.methods
        self.outcomes: Counter[str] = Counter()

    def rule(self, **rules: int) -> None:
        """Begins anew, under these rules."""
        self.methods = self.bench.hubs.methods = Methods(
            self.bench.store,
            self.bench.hubs.live,
            MethodRules(**rules),
            lambda outcome, _seconds: self.outcomes.update([outcome]),
        )

    def call(self, to: str = DEVICE, **said: Any) -> asyncio.Task[MethodAnswer]:
        """Begins a call."""
        call = MethodCall(**{"name": "reboot", "payload": b"{}", "response_timeout": LATE} | said)
        return asyncio.ensure_future(self.methods.call(self.bench.made.hub, to, call))

    async def connect(
        self, device: str = DEVICE, *, listens: bool = True
    ) -> tuple[LiveSession, Wire]:
        wire = Wire()
        session = await self.bench.connect(device, self.certified[device], wire)
        if listens:
            session.subscriptions[Channel.METHODS] = 1
            self.bench.hubs.go_on(session)
        return session, wire

    async def waiting(self, count: int) -> None:
        """Waits until so many calls wait for a device to come."""
        while sum(map(len, self.methods._absent.values())) < count:
            await asyncio.sleep(0.001)

    async def prepare(self, *devices: str) -> None:
        self.certified = {each: await self.bench.provision(each) for each in devices}


@pytest.fixture
async def party(bench: Workbench) -> Party:
    made = Party(bench)
    made.rule()
    await made.prepare(DEVICE)
    return made


async def turn() -> None:
    """Lets whoever can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def refused(call: Awaitable[object], error: type[Exception]) -> str:
    with pytest.raises(error) as info:
        await call
    return str(info.value)


# --- calls that are answered


async def test_device_that_listens_is_called_and_its_answer_is_handed_over(party: Party) -> None:
    session, wire = await party.connect()
    call = party.call(payload=b'{"delay":3}')
    await turn()
    [(request_id, name, payload)] = wire.calls
    assert (name, payload) == ("reboot", b'{"delay":3}')
    party.methods.answer(session, request_id, "200", b'{"ok":true}')
    assert await call == (200, b'{"ok":true}')
    assert len(party.methods) == 0
    assert party.outcomes == {"answered": 1}


async def test_device_that_listens_is_called_without_a_look_at_the_database(party: Party) -> None:
    session, wire = await party.connect()

    async def never() -> None:
        raise AssertionError("the database was asked")

    party.bench.store.before_read.append(never)
    call = party.call()
    await turn()
    party.methods.answer(session, wire.calls[0][0], "200", b"")
    assert await call == (200, b"null")


async def test_answers_find_their_calls_in_any_order(party: Party) -> None:
    session, wire = await party.connect()
    calls = [party.call(name=f"m{number}") for number in range(5)]
    await turn()
    assert len({request_id for request_id, _, _ in wire.calls}) == 5
    for request_id, name, _ in reversed(wire.calls):
        party.methods.answer(session, request_id, "200", b'"%b"' % name.encode())
    assert [(await call).payload for call in calls] == [b'"m%d"' % n for n in range(5)]


@pytest.mark.parametrize("status", ["0", "-1", "2147483647", "-2147483648", "404"])
async def test_status_is_the_devices_own(party: Party, status: str) -> None:
    session, wire = await party.connect()
    call = party.call()
    await turn()
    party.methods.answer(session, wire.calls[0][0], status, b"[1]")
    assert (await call).status == int(status)


# --- answers that are none


@pytest.mark.parametrize(
    ("status", "payload", "why"),
    [
        ("", b"{}", "32-bit integer"),
        ("ok", b"{}", "32-bit integer"),
        ("2147483648", b"{}", "32-bit integer"),
        ("1" * 5000, b"{}", "32-bit integer"),
        ("\u0662\u0660\u0660", b"{}", "32-bit integer"),
        ("200", b"{", "not JSON"),
        ("200", b"NaN", "not JSON"),
        ("200", b"\xff", "not JSON"),
        ("200", b"[" * 100_000, "not JSON"),
        ("200", b'"%b"' % (b"x" * MAX_PAYLOAD_BYTES), "more than 131072 bytes"),
    ],
)
async def test_answer_that_is_none_ends_the_call(
    party: Party, status: str, payload: bytes, why: str
) -> None:
    session, wire = await party.connect()
    call = party.call()
    await turn()
    with pytest.raises(BadDeviceAnswer, match=why):
        party.methods.answer(session, wire.calls[0][0], status, payload)
    assert why in await refused(call, BadDeviceAnswer)
    assert session.ended is None


async def test_answer_to_no_call_changes_nothing(party: Party) -> None:
    session, wire = await party.connect()
    for request_id in ("", "0", "x" * 256):
        with pytest.raises(InvalidArgument, match="answer to no call"):
            party.methods.answer(session, request_id, "200", b"{}")
    call = party.call()
    await turn()
    with pytest.raises(InvalidArgument):
        party.methods.answer(session, "0", "200", b"{}")
    assert not call.done()
    party.methods.answer(session, wire.calls[0][0], "200", b"{}")
    await call


async def test_second_answer_is_to_no_call(party: Party) -> None:
    session, wire = await party.connect()
    call = party.call()
    await turn()
    request_id = wire.calls[0][0]
    party.methods.answer(session, request_id, "200", b"1")
    for _ in range(2):  # before and after its caller has the first
        with pytest.raises(InvalidArgument, match="answer to no call"):
            party.methods.answer(session, request_id, "500", b"2")
        assert await call == (200, b"1")


async def test_answer_of_another_device_is_to_no_call(party: Party) -> None:
    await party.prepare(DEVICE, "dev-2")
    session, wire = await party.connect()
    other, _ = await party.connect("dev-2")
    call, of_other = party.call(), party.call("dev-2")
    await turn()
    with pytest.raises(InvalidArgument, match="answer to no call"):
        party.methods.answer(other, wire.calls[0][0], "200", b'"mine"')
    assert not call.done()
    assert not of_other.done()
    party.methods.answer(session, wire.calls[0][0], "200", b'"right"')
    assert (await call).payload == b'"right"'
    of_other.cancel()


async def test_late_answer_is_to_no_call(party: Party) -> None:
    session, wire = await party.connect()
    assert "in time" in await refused(party.call(response_timeout=SOON), TimedOut)
    with pytest.raises(InvalidArgument, match="answer to no call"):
        party.methods.answer(session, wire.calls[0][0], "200", b"{}")
    assert party.outcomes == {"timed_out": 1}
    assert len(party.methods) == 0


# --- devices that are not there


async def test_device_that_is_unknown_is_not_found_however_long_one_would_wait(
    party: Party,
) -> None:
    await refused(party.call("nobody", connect_timeout=LATE), NotFound)


@pytest.mark.parametrize("connected", [False, True])
async def test_device_that_does_not_listen_is_not_online(party: Party, connected: bool) -> None:
    if connected:
        await party.connect(listens=False)
    await refused(party.call(), DeviceNotOnline)
    await refused(party.call(connect_timeout=SOON), DeviceNotOnline)
    assert party.outcomes == {"device_not_online": 2}
    assert not party.methods._absent


async def test_device_that_connects_in_time_is_called_then(party: Party) -> None:
    calls = [party.call(connect_timeout=LATE) for _ in range(3)]
    session, wire = await party.connect(listens=False)
    await party.waiting(3)
    assert not wire.calls
    session.subscriptions[Channel.METHODS] = 0
    party.bench.hubs.go_on(session)
    await turn()
    assert len(wire.calls) == 3
    for request_id, _, _ in wire.calls:
        party.methods.answer(session, request_id, "200", b"{}")
    await asyncio.gather(*calls)


async def test_device_that_connects_while_it_is_looked_up_is_called(party: Party) -> None:
    connected: list[tuple[LiveSession, Wire]] = []

    async def connect() -> None:
        connected.append(await party.connect())

    party.bench.store.after_read.append(connect)
    call = party.call(connect_timeout=SOON)
    while not connected or not connected[0][1].calls:
        await asyncio.sleep(0)
    session, wire = connected[0]
    party.methods.answer(session, wire.calls[0][0], "200", b"{}")
    await call


async def test_device_that_comes_and_goes_is_waited_for_again(party: Party) -> None:
    call = party.call(connect_timeout=LATE)
    await party.waiting(1)
    first, first_wire = await party.connect()
    party.bench.hubs.disconnect(first)  # before the caller's turn
    await turn()
    assert not first_wire.calls
    session, wire = await party.connect()
    await turn()
    party.methods.answer(session, wire.calls[0][0], "200", b"{}")
    await call


async def test_session_that_was_ended_is_not_called(party: Party) -> None:
    session, wire = await party.connect()
    session.end(Ending.REVOKED)
    await refused(party.call(), DeviceNotOnline)
    assert not wire.calls


async def test_connection_that_ends_ends_its_calls(party: Party) -> None:
    session, wire = await party.connect()
    calls = [party.call(), party.call()]
    await turn()
    party.bench.hubs.disconnect(session)
    for call in calls:
        await refused(call, ConnectionClosed)
    with pytest.raises(InvalidArgument, match="answer to no call"):
        party.methods.answer(session, wire.calls[0][0], "200", b"{}")
    assert not party.methods._calls


async def test_newer_connection_does_not_answer_for_an_older_one(party: Party) -> None:
    session, wire = await party.connect()
    call = party.call()
    await turn()
    newer, newer_wire = await party.connect()
    of_newer = party.call()
    await turn()
    with pytest.raises(InvalidArgument, match="answer to no call"):
        party.methods.answer(newer, wire.calls[0][0], "200", b"{}")
    party.bench.hubs.disconnect(session)
    await refused(call, ConnectionClosed)
    party.methods.answer(newer, newer_wire.calls[0][0], "200", b"{}")
    await of_newer


# --- devices that do not read


async def test_device_that_does_not_read_is_sent_nothing_until_it_does(party: Party) -> None:
    session, wire = await party.connect()
    wire.reads = False
    calls = [party.call(name=f"m{number}") for number in range(3)]
    await turn()
    wire.reads = True
    later = party.call(name="m3")
    await turn()
    assert not wire.calls  # those before it come first
    party.bench.hubs.go_on(session)
    assert [name for _, name, _ in wire.calls] == ["m0", "m1", "m2", "m3"]
    for request_id, _, _ in wire.calls:
        party.methods.answer(session, request_id, "200", b"{}")
    await asyncio.gather(*calls, later)


async def test_call_that_could_not_be_sent_times_out_and_is_not_sent_later(party: Party) -> None:
    session, wire = await party.connect()
    wire.reads = False
    await refused(party.call(response_timeout=SOON), TimedOut)
    wire.reads = True
    party.bench.hubs.go_on(session)
    assert not wire.calls


# --- how many may wait


async def test_calls_of_one_device_are_bounded(party: Party) -> None:
    party.rule(of_device=2)
    await party.prepare(DEVICE, "dev-2")
    session, wire = await party.connect()
    await party.connect("dev-2")
    calls = [party.call(), party.call()]
    await turn()
    await refused(party.call(), Throttled)
    of_other = party.call("dev-2")
    await turn()
    party.methods.answer(session, wire.calls[0][0], "200", b"{}")
    await calls[0]
    again = party.call()
    await turn()
    assert len(wire.calls) == 3
    for call in (calls[1], of_other, again):
        assert not call.done()
        call.cancel()
    await asyncio.gather(calls[1], of_other, again, return_exceptions=True)
    assert len(party.methods) == 0
    assert party.outcomes == {"throttled": 1, "answered": 1, "cancelled": 3}


async def test_calls_in_all_are_bounded_also_of_devices_that_are_away(party: Party) -> None:
    party.rule(in_all=3)
    await party.prepare("dev-1", "dev-2")
    calls = [party.call(f"dev-{n}", connect_timeout=LATE) for n in (1, 2, 2)]
    await turn()
    await refused(party.call(), Throttled)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await refused(party.call(), DeviceNotOnline)


async def test_bytes_that_wait_are_bounded(party: Party) -> None:
    party.rule(of_device=10_000)
    await party.connect()
    payload = b'"%b"' % (b"x" * (MAX_PAYLOAD_BYTES - 2))
    calls = [party.call(payload=payload) for _ in range(512)]
    await turn()
    await refused(party.call(payload=b"{}"), Throttled)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert party.methods._bytes == 0


async def test_server_that_stops_lets_nobody_wait_for_a_device(party: Party) -> None:
    session, wire = await party.connect()
    call = party.call()
    await party.prepare("dev-2")
    absent = party.call("dev-2", connect_timeout=LATE)
    await party.waiting(1)
    party.bench.hubs.stop_waiting()
    await refused(absent, Unavailable)
    await refused(party.call(), Unavailable)
    party.methods.answer(session, wire.calls[0][0], "200", b"{}")  # what was sent may be answered
    await call


# --- what a call is


@pytest.mark.parametrize("name", ["reboot", "a", "x" * 128, "sensor1*reboot", "a-b_c.d!e~f*g'(h)"])
def test_name_of_url_safe_characters_is_one(name: str) -> None:
    assert make_call(name, b"{}").name == name


@pytest.mark.parametrize(
    "name", ["", "x" * 129, "a/b", "a b", "a+b", "#", "a%20", "ä", "a\n", "a?b", "$a", "a\x00"]
)
def test_other_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="methodName"):
        make_call(name, b"{}")


@pytest.mark.parametrize(
    ("response", "connect", "accepted"),
    [
        (None, None, True),
        (5, 0, True),
        (300, 300, True),
        (4, 0, False),
        (301, 0, False),
        (5, -1, False),
        (5, 301, False),
    ],
)
def test_time_outs_are_bounded(response: int | None, connect: int | None, accepted: bool) -> None:
    if accepted:
        made = make_call("m", b"{}", response, connect)
        assert made.response_timeout == (response or 30)
        assert made.connect_timeout == (connect or 0)
    else:
        with pytest.raises(InvalidArgument, match="TimeoutInSeconds"):
            make_call("m", b"{}", response, connect)


def test_payload_is_bounded_and_never_empty() -> None:
    assert make_call("m", b"").payload == b"null"
    assert make_call("m", b"1" * MAX_PAYLOAD_BYTES)
    with pytest.raises(TooLarge):
        make_call("m", b"1" * (MAX_PAYLOAD_BYTES + 1))
