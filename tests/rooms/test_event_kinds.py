"""What happens to devices is in the event log of their hub: what was committed, in its order."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from fleetroot.audit import SYSTEM
from fleetroot.errors import InvalidArgument, Unauthorized
from fleetroot.hub import events, sessions
from fleetroot.hub.model import Event, Message
from fleetroot.hub.service_twins import SectionChange, TwinChange
from fleetroot.registry import announcements, inventory
from fleetroot.registry.announcements import ALL_KINDS, GROUPS, EventKind, parse_kinds
from fleetroot.storage import Transaction
from workbench import Workbench


async def logged(bench: Workbench, *, after: int = 0, kind: str = "all") -> list[Event]:
    await bench.hubs.event_log.move()
    _, found = await bench.hubs.events(
        bench.made.hub, after=after, kinds=parse_kinds([kind]), limit=1000
    )
    return found


def told(found: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.device_id) for event in found]


def body(event: Event) -> Any:
    return json.loads(event.body)


async def test_onboarding_tells_of_identity_and_certificate(bench: Workbench) -> None:
    certified = await bench.provision("dev-1")

    found = await logged(bench)

    assert sorted(told(found)) == [("certificate.issued", "dev-1"), ("identity.created", "dev-1")]
    issued = body(next(e for e in found if e.kind == "certificate.issued"))
    assert issued["serialNumber"] == format(certified.leaf.serial_number, "x")
    assert issued["origin"] == "provisioning"
    assert issued["notAfter"].endswith("Z")


async def test_connection_is_told_before_what_it_sends(bench: Workbench) -> None:
    certified = await bench.provision("dev-1")
    before = len(await logged(bench))
    session = await bench.connect("dev-1", certified)
    await bench.hubs.send(session, Message(b"one", {}, {}))
    bench.hubs.disconnect(session)
    bench.hubs.finish()
    await bench.store.write(lambda tx: None)  # behind what it handed over

    found = (await logged(bench))[before:]

    assert [e.kind for e in found] == ["device.connected", "telemetry", "device.disconnected"]
    assert body(found[0]) == {"sessionEpoch": session.epoch, "authentication": "policy"}
    assert body(found[2]) == {"sessionEpoch": session.epoch}


async def test_replaced_connection_is_not_told_to_be_over(bench: Workbench) -> None:
    certified = await bench.provision("dev-1")
    first = await bench.connect("dev-1", certified)
    await bench.connect("dev-1", certified)
    bench.hubs.disconnect(first)
    bench.hubs.finish()
    await bench.store.write(lambda tx: None)  # behind what it handed over

    found = [e.kind for e in await logged(bench, kind="lifecycle") if e.kind.startswith("device.")]

    assert found == ["device.connected", "device.connected"]


async def test_who_was_connected_when_the_server_died_is_told_to_be_gone(bench: Workbench) -> None:
    await bench.connect("dev-1", await bench.provision("dev-1"))

    await bench.hubs.start()
    await bench.hubs.start()

    gone = [e for e in await logged(bench) if e.kind == EventKind.DISCONNECTED]
    assert [body(e) for e in gone] == [{"reason": "the server stopped"}]


async def test_refused_connection_is_not_told(bench: Workbench) -> None:
    certified = await bench.provision("dev-1")
    await bench.registry.revoke(bench.made.namespace, "dev-1", disable=False, by=SYSTEM)
    with pytest.raises(Unauthorized):
        await bench.connect("dev-1", certified)

    assert EventKind.CONNECTED not in [e.kind for e in await logged(bench)]


async def test_twin_changes_of_both_sides_are_told(bench: Workbench) -> None:
    session = await bench.connect("dev-1", await bench.provision("dev-1"))
    version = await bench.hubs.report(session, b'{"firmware": {"version": 2}}')
    await bench.hubs.twins.change(
        bench.made.hub,
        "dev-1",
        TwinChange(SectionChange({"site": "a"}, whole=True), SectionChange({"rate": 5})),
        by=SYSTEM,
    )

    reported, changed = await logged(bench, kind="twin")

    assert reported.kind == EventKind.TWIN_REPORTED
    assert body(reported) == {
        "version": version,
        "properties": {"reported": {"firmware": {"version": 2}}},
    }
    assert changed.kind == EventKind.TWIN_CHANGED
    assert body(changed) == {
        "desiredVersion": 2,
        "tags": {"value": {"site": "a"}, "replaced": True},
        "desired": {"value": {"rate": 5}, "replaced": False},
    }


async def test_refused_twin_change_is_not_told(bench: Workbench) -> None:
    session = await bench.connect("dev-1", await bench.provision("dev-1"))
    with pytest.raises(InvalidArgument):
        await bench.hubs.report(session, b'{"a.b": 1}')
    large = {f"key{n}": "x" * 4000 for n in range(9)}
    with pytest.raises(InvalidArgument):
        await bench.hubs.report(session, json.dumps(large).encode())

    assert await logged(bench, kind="twin") == []


async def test_revocation_tells_of_each_certificate_once(bench: Workbench) -> None:
    certified = await bench.provision("dev-1")
    await bench.registry.revoke(bench.made.namespace, "dev-1", disable=False, by=SYSTEM)
    await bench.registry.revoke(bench.made.namespace, "dev-1", disable=False, by=SYSTEM)

    revoked = [e for e in await logged(bench, kind="certificate") if "revoked" in e.kind]

    serial = format(certified.leaf.serial_number, "x")
    assert [body(e) for e in revoked] == [{"serialNumber": serial, "reason": "unspecified"}]


async def test_chosen_certificates_are_told_to_be_revoked(bench: Workbench) -> None:
    await bench.provision("dev-1")
    [certificate] = await bench.store.read(
        lambda tx: inventory.page(tx, bench.made.namespace.id, limit=5)
    )
    reason, now = inventory.RevocationReason.KEY_COMPROMISE, bench.clock.now()
    for _ in range(2):
        await bench.store.write(lambda tx: inventory.revoke(tx, [certificate.id], reason, now))

    revoked = [e for e in await logged(bench) if e.kind == EventKind.CERTIFICATE_REVOKED]
    assert [body(e)["reason"] for e in revoked] == ["keyCompromise"]


async def test_only_the_end_of_a_devices_newest_certificate_is_told(bench: Workbench) -> None:
    await bench.provision("dev-1")
    bench.clock.advance(timedelta(days=1))
    newest = await bench.provision("dev-1")
    await bench.provision("dev-2")
    await bench.registry.revoke(bench.made.namespace, "dev-2", disable=False, by=SYSTEM)
    bench.clock.advance(timedelta(days=40))
    await bench.registry.mark_expired()
    await bench.registry.mark_expired()

    ended = [e for e in await logged(bench) if e.kind == EventKind.CERTIFICATE_EXPIRED]

    serial = format(newest.leaf.serial_number, "x")
    assert [(e.device_id, body(e)) for e in ended] == [("dev-1", {"serialNumber": serial})]


async def test_what_is_undone_is_not_told(bench: Workbench) -> None:
    def unit(tx: Transaction) -> None:
        sessions.none_connected(tx, bench.clock.now())
        announcements.append(
            tx,
            announcements.Announcement(
                EventKind.CONNECTED, bench.clock.now(), "d", "d", "{}", bench.made.hub.id
            ),
        )
        raise InvalidArgument("no")

    with pytest.raises(InvalidArgument):
        await bench.store.write(unit)

    assert await logged(bench) == []


async def test_more_announcements_than_one_unit_takes_are_all_moved_in_order(
    bench: Workbench,
) -> None:
    now, hub = bench.clock.now(), bench.made.hub.id
    new = [
        announcements.Announcement(EventKind.CONNECTED, now, f"d{n}", f"d{n}", "{}", hub)
        for n in range(700)
    ]
    await bench.store.write(lambda tx: announcements.append_many(tx, new))

    assert [e.device_id for e in await logged(bench)] == [f"d{n}" for n in range(700)]
    assert not await bench.store.read(announcements.wait)


async def test_kinds_are_found_behind_thousands_of_others(bench: Workbench) -> None:
    now, hub = bench.clock.now(), bench.made.hub.id
    many = [
        announcements.Announcement(EventKind.CONNECTED, now, "d", "d", "{}", hub)
        for _ in range(5200)
    ]
    last = announcements.Announcement(EventKind.TWIN_CHANGED, now, "d", "d", "{}", hub)
    await bench.store.write(lambda tx: announcements.append_many(tx, [*many, last]))

    found = await logged(bench, kind="twin")
    _, newest = await bench.hubs.newest_events(bench.made.hub, kinds=GROUPS["twin"], limit=5)

    assert [e.kind for e in found] == ["twin.changed"] == [e.kind for e in newest]


async def test_look_for_a_kind_goes_on_behind_all_others(bench: Workbench) -> None:
    session = await bench.connect("dev-1", await bench.provision("dev-1"))
    await bench.hubs.send(session, Message(b"one", {}, {}))
    after, found = await bench.hubs.events(
        bench.made.hub,
        after=0,
        kinds=GROUPS["twin"],
    )

    assert found == []
    assert after == await bench.store.read(lambda tx: events.last_seq(tx, bench.made.hub.id))


def test_every_kind_is_of_a_group() -> None:
    assert frozenset().union(*(kinds for name, kinds in GROUPS.items() if name != "all")) == (
        ALL_KINDS
    )


def test_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="'lifecicle'"):
        parse_kinds(["telemetry", "lifecicle"])
