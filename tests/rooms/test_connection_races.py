"""What happens to a connecting device when somebody else commits at each place on its way in.

The way in: in one unit of work what the device shows is judged and its session epoch is taken; the
session is entered in the live table; the device is told. One that shows a token is judged once
before, too.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from fleet import Fleet, Refused
from fleetroot import sas
from fleetroot.audit import SYSTEM
from fleetroot.bus import OUTBOX
from fleetroot.errors import Unauthorized, Unavailable
from fleetroot.gateway.mqtt import ConnackCode
from fleetroot.hub.model import Ending, Message, TokenProof
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from fleetroot.registry.outbox import OutboxReader
from fleetroot.sas import SasToken
from workbench import Step, Wire, Workbench

DEVICE = "dev-1"


def revoke(bench: Workbench) -> Step:
    return lambda: bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)


def disable(bench: Workbench) -> Step:
    return lambda: bench.registry.set_enabled(bench.made.namespace, DEVICE, False, by=SYSTEM)


def delete(bench: Workbench) -> Step:
    return lambda: bench.delete_device(DEVICE)


def pin_to_keys(bench: Workbench) -> Step:
    """The operator takes the policy off the group, and the device registers again."""

    async def step() -> None:
        group = EnrollmentSettings(policy_id=None)
        await bench.administration.put(
            bench.made.service, EnrollmentKind.GROUP, "default", group, if_match="*", by=SYSTEM
        )
        await bench.register(DEVICE)

    return step


def pin_to_policy(bench: Workbench) -> Step:
    """The operator puts the group under its policy again, and the device registers."""

    async def step() -> None:
        group = EnrollmentSettings(policy_id=bench.made.policy.id)
        await bench.administration.put(
            bench.made.service, EnrollmentKind.GROUP, "default", group, if_match="*", by=SYSTEM
        )
        await bench.register(DEVICE)

    return step


CHANGES = pytest.mark.parametrize("change", [revoke, disable, delete, pin_to_keys])


async def assert_nobody_is_connected(bench: Workbench) -> None:
    await bench.settled()
    identity = await bench.identity(DEVICE)
    assert identity is not None
    assert not identity.connected
    assert len(bench.hubs.live) == 0


# --- on the way in


@CHANGES
async def test_change_before_the_session_begins_refuses_the_device(
    bench: Workbench, change: object
) -> None:
    certified = await bench.provision(DEVICE)
    bench.store.before_write.append(change(bench))  # type: ignore[operator]
    with pytest.raises(Unauthorized):
        await bench.connect(DEVICE, certified)
    await assert_nobody_is_connected(bench)


@pytest.mark.parametrize("change", [disable, delete, pin_to_policy])
@pytest.mark.parametrize("place", ["after_read", "before_write", "after_write"])
async def test_change_after_a_device_with_a_token_was_judged_refuses_it(
    bench: Workbench, change: object, place: str
) -> None:
    await pin_to_keys(bench)()
    key = sas.derive_device_key(bench.made.group.keys.primary, DEVICE)
    host_name, expires_at = bench.made.hub.host_name, bench.clock.now() + timedelta(hours=1)
    token = SasToken.parse(sas.sign_token(f"{host_name}/devices/{DEVICE}", key, expires_at))

    async def step() -> None:
        await change(bench)()  # type: ignore[operator]
        await bench.outbox.drain()

    getattr(bench.store, place).append(step)
    with pytest.raises(Unauthorized):
        await bench.hubs.connect(host_name, DEVICE, TokenProof(token), Wire(), clean_session=True)
    await assert_nobody_is_connected(bench)


@CHANGES
async def test_change_after_the_session_began_and_heard_before_the_answer_refuses_the_device(
    bench: Workbench, change: object
) -> None:
    certified = await bench.provision(DEVICE)

    async def step() -> None:
        await change(bench)()  # type: ignore[operator]
        await bench.outbox.drain()

    bench.store.after_write.append(step)
    with pytest.raises(Unauthorized):
        await bench.connect(DEVICE, certified)
    await assert_nobody_is_connected(bench)


@CHANGES
async def test_change_after_the_session_began_drops_the_connection(
    bench: Workbench, change: object
) -> None:
    certified, wire = await bench.provision(DEVICE), Wire()
    bench.store.after_write.append(change(bench))  # type: ignore[operator]
    session = await bench.connect(DEVICE, certified, wire)
    assert wire.endings == []
    await bench.outbox.drain()
    expected = {
        revoke: Ending.REVOKED,
        delete: Ending.REVOKED,
        disable: Ending.DISABLED,
        pin_to_keys: Ending.IDENTITY_CHANGED,
    }
    assert session.ended is expected[change]  # type: ignore[index]
    assert wire.endings == [session.ended]


async def test_database_that_fails_as_the_session_begins_lets_nobody_in(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)

    async def fail() -> None:
        raise Unavailable("away")

    bench.store.before_write.append(fail)
    with pytest.raises(Unavailable):
        await bench.connect(DEVICE, certified)
    await assert_nobody_is_connected(bench)


@pytest.mark.parametrize("when", ["begins", "has begun"])
async def test_device_that_goes_away_while_its_session_begins_is_not_connected(
    bench: Workbench, when: str
) -> None:
    certified = await bench.provision(DEVICE)

    async def cancel() -> None:
        connecting.cancel()
        await asyncio.sleep(0)

    async def cancel_soon() -> None:
        asyncio.get_running_loop().call_soon(connecting.cancel)

    if when == "begins":
        bench.store.before_write.append(cancel_soon)
    else:
        bench.store.after_write.append(cancel)
    connecting = asyncio.create_task(bench.connect(DEVICE, certified))
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await assert_nobody_is_connected(bench)


# --- what a device asked for before it lost its ground


@CHANGES
async def test_message_of_a_device_that_lost_its_ground_is_not_logged(
    bench: Workbench, change: object
) -> None:
    session = await bench.connect(DEVICE, await bench.provision(DEVICE))
    await change(bench)()  # type: ignore[operator]
    await bench.outbox.drain()
    with pytest.raises(Unauthorized):
        await bench.hubs.send(session, Message(b"late", {}, {}))
    await bench.settled()
    assert bench.contents()["events"] == []


@CHANGES
async def test_twin_of_a_device_that_lost_its_ground_is_not_patched(
    bench: Workbench, change: object
) -> None:
    session = await bench.connect(DEVICE, await bench.provision(DEVICE))
    await change(bench)()  # type: ignore[operator]
    await bench.outbox.drain()
    with pytest.raises(Unauthorized):
        await bench.hubs.report(session, b'{"late":true}')
    assert (await bench.hubs.twin(session)).reported == "{}"


# --- a live connection


async def test_hint_of_a_revocation_ends_the_connection(bench: Workbench) -> None:
    wire = Wire()
    await bench.connect(DEVICE, await bench.provision(DEVICE), wire)
    ended = asyncio.Event()
    wire.end = lambda why: ended.set()  # type: ignore[method-assign, misc]
    async with bench.reading_the_outbox():
        await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
        await asyncio.wait_for(ended.wait(), 10)


async def test_connection_ends_though_the_hint_was_lost(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire()
    await bench.connect(DEVICE, await bench.provision(DEVICE), wire)
    ended = asyncio.Event()
    wire.end = lambda why: ended.set()  # type: ignore[method-assign, misc]
    monkeypatch.setattr(bench.bus, "hint", lambda topic: None)
    async with bench.reading_the_outbox():
        await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
        await asyncio.wait_for(ended.wait(), 10)


async def test_late_notice_does_not_end_a_connection_that_began_after_it(
    bench: Workbench,
) -> None:
    await bench.provision(DEVICE)
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    session = await bench.connect(DEVICE, await bench.provision(DEVICE))
    await bench.outbox.drain()  # hears of the revocation only now
    assert session.ended is None


async def test_revocation_of_another_device_leaves_the_connection_alone(
    bench: Workbench,
) -> None:
    session = await bench.connect(DEVICE, await bench.provision(DEVICE))
    await bench.provision("dev-2")
    await bench.registry.revoke(bench.made.namespace, "dev-2", by=SYSTEM)
    await bench.outbox.drain()
    assert session.ended is None


async def test_provisioning_again_leaves_the_connection_alone(bench: Workbench) -> None:
    session = await bench.connect(DEVICE, await bench.provision(DEVICE))
    await bench.provision(DEVICE)
    await bench.outbox.drain()
    assert session.ended is None


async def test_connection_whose_standing_cannot_be_read_ends(bench: Workbench) -> None:
    session = await bench.connect(DEVICE, await bench.provision(DEVICE))
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)

    async def fail() -> None:
        raise Unavailable("away")

    async def fail_at_the_next_read() -> None:
        bench.store.before_read.append(fail)

    bench.store.after_read.append(fail_at_the_next_read)  # behind the outbox's own read
    await bench.outbox.drain()
    assert session.ended is Ending.LEASE_LOST


async def test_node_that_cannot_read_for_its_lease_time_drops_its_sessions(
    bench: Workbench,
) -> None:
    session = await bench.connect(DEVICE, await bench.provision(DEVICE))
    tried, dropped = asyncio.Event(), asyncio.Event()
    session.connection.end = lambda why: dropped.set()  # type: ignore[method-assign]

    async def fail() -> None:
        bench.store.before_read.append(fail)
        tried.set()
        raise Unavailable("away")

    bench.store.before_read.append(fail)
    async with bench.reading_the_outbox():
        await asyncio.wait_for(tried.wait(), 10)
        assert session.ended is None  # not yet
        bench.clock.advance(timedelta(seconds=11))
        bench.bus.hint(OUTBOX)
        await asyncio.wait_for(dropped.wait(), 10)
    assert session.ended is Ending.LEASE_LOST


# --- two connections of one device


async def test_of_two_connections_the_one_that_began_last_survives(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)
    others = []

    async def other_connects() -> None:
        others.append(await bench.connect(DEVICE, certified))

    bench.store.before_write.append(other_connects)
    session = await bench.connect(DEVICE, certified)
    assert session.ended is None
    assert [other.ended for other in others] == [Ending.REPLACED]


async def test_connection_that_began_earlier_and_arrives_later_replaces_nobody(
    bench: Workbench,
) -> None:
    certified = await bench.provision(DEVICE)
    others = []

    async def other_connects() -> None:
        others.append(await bench.connect(DEVICE, certified))

    bench.store.after_write.append(other_connects)  # begun, and not in the live table yet
    with pytest.raises(Unauthorized):
        await bench.connect(DEVICE, certified)
    assert [other.ended for other in others] == [None]
    assert list(bench.hubs.live) == others
    await bench.settled()
    identity = await bench.identity(DEVICE)
    assert identity is not None
    assert identity.connected


async def test_lease_that_is_lost_while_a_session_begins_lets_nobody_in(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)

    async def lose_lease() -> None:
        bench.hubs.live.lease_lost()

    bench.store.after_write.append(lose_lease)
    with pytest.raises(Unauthorized):
        await bench.connect(DEVICE, certified)
    await assert_nobody_is_connected(bench)


async def test_of_many_connections_at_once_exactly_one_survives(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)
    connects = [bench.connect(DEVICE, certified) for _ in range(10)]
    results = await asyncio.gather(*connects, return_exceptions=True)
    sessions = [result for result in results if not isinstance(result, BaseException)]
    assert len([session for session in sessions if session.ended is None]) == 1
    assert all(isinstance(r, Unauthorized) for r in results if isinstance(r, BaseException))
    assert len(bench.hubs.live) == 1


async def test_the_connection_that_survives_has_the_highest_epoch(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)
    connects = [bench.connect(DEVICE, certified) for _ in range(10)]
    results = await asyncio.gather(*connects, return_exceptions=True)
    [survivor] = [r for r in results if not isinstance(r, BaseException) and r.ended is None]
    await bench.settled()
    identity = await bench.identity(DEVICE)
    assert identity is not None
    assert survivor.epoch == identity.session_epoch
    assert identity.connected


async def test_every_connection_has_an_epoch_of_its_own(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)
    sessions = [await bench.connect(DEVICE, certified) for _ in range(3)]
    epochs = [session.epoch for session in sessions]
    assert epochs == sorted(set(epochs))


async def test_replaced_connection_that_goes_away_leaves_its_successor_connected(
    bench: Workbench,
) -> None:
    certified = await bench.provision(DEVICE)
    first = await bench.connect(DEVICE, certified)
    second = await bench.connect(DEVICE, certified)
    bench.hubs.disconnect(first)
    await bench.settled()
    identity = await bench.identity(DEVICE)
    assert identity is not None
    assert identity.connected
    assert bench.hubs.live.of(bench.made.namespace.id, DEVICE) == [second]


async def test_connection_that_goes_away_is_not_connected(bench: Workbench) -> None:
    bench.hubs.disconnect(await bench.connect(DEVICE, await bench.provision(DEVICE)))
    await assert_nobody_is_connected(bench)


async def test_epochs_go_on_after_a_restart(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)
    before = await bench.connect(DEVICE, certified)
    await bench.hubs.start()
    assert (await bench.connect(DEVICE, certified)).epoch > before.epoch


async def test_nobody_is_let_in_while_the_node_cannot_tell_who_was_revoked(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified = await fleet.provision("dev-1")
    monkeypatch.setattr(OutboxReader, "has_lease", False)
    with pytest.raises(Refused) as refused:
        await fleet.connect("dev-1", certified)
    assert refused.value.code is ConnackCode.SERVER_UNAVAILABLE


async def test_notice_of_an_unknown_kind_is_looked_into_all_the_same(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    namespace = await fleet.server.registry.namespace("default")
    await fleet.execute("UPDATE devices SET enabled = false")
    await fleet.execute(
        "INSERT INTO outbox (at, kind, namespace_id, subject) "
        f"VALUES (0, 'device.of-a-newer-program', '{namespace.id}', 'dev-1')"
    )
    await mqtt.wait_closed()
