"""The one statement that lets a device in by certificate: it asks for everything that counts."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from fleet import Certified
from fleetroot.audit import SYSTEM
from fleetroot.errors import Unauthorized, Unavailable
from fleetroot.hub import sessions
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import CertificateProof, Channel
from fleetroot.hub.sessions import Begun
from workbench import Workbench

DEVICE = "dev-1"
OTHER_NAMESPACE = (
    "INSERT INTO namespaces SELECT 'other', 'other', 'other', subscription_id, resource_group, "
    "created_at, tags, etag, updated_at, deleted_at, location FROM namespaces"
)


async def begin(bench: Workbench, certified: Certified, **changed: object) -> Begun | None:
    arguments = {
        "hub": bench.made.hub,
        "device_key": DEVICE,
        "proof": CertificateProof(certified.chain[:1]),
        "now": bench.clock.now(),
        "persistent": True,
        "unless": lambda: False,
    } | changed
    departures = sessions.Departures(bench.store.store)
    beginnings = sessions.Beginnings(bench.store.store, departures)
    return await beginnings.add(sessions.Beginning(**arguments))  # type: ignore[arg-type]


async def test_device_that_is_let_in_has_a_session(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)
    begun = await begin(bench, certified)
    assert begun is not None
    [certificate] = await bench.inventory(DEVICE)
    identity = await bench.identity(DEVICE)
    assert identity is not None
    assert identity.connected
    assert begun.epoch == identity.session_epoch
    principal = begun.principal
    assert principal.generation == certificate.generation
    assert principal.expires_at == certificate.not_after
    assert principal.pin_etag == identity.pin_etag


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE identities SET enabled = false",
        "UPDATE identities SET pin = 'keys'",
        "UPDATE identities SET policy_id = NULL",
        "UPDATE devices SET enabled = false",
        "UPDATE devices SET generation = '00000000-0000-4000-8000-000000000000'",
        "UPDATE devices SET device_key = 'another'",
        f"{OTHER_NAMESPACE}; UPDATE devices SET namespace_id = 'other'",
        "UPDATE certificates SET revoked_at = 0",
        "UPDATE certificates SET expired_at = 0",
        "UPDATE certificates SET device_key = 'another'",
        "UPDATE certificates SET generation = '00000000-0000-4000-8000-000000000000'",
        f"{OTHER_NAMESPACE}; UPDATE certificates SET namespace_id = 'other'",
        "DELETE FROM certificates",
        "DELETE FROM hub_authorities",
        "UPDATE hubs SET host_name = 'another.example'",
        f"{OTHER_NAMESPACE}; UPDATE hubs SET namespace_id = 'other'",
    ],
)
async def test_device_of_which_anything_does_not_hold_is_not_let_in(
    bench: Workbench, change: str
) -> None:
    certified = await bench.provision(DEVICE)
    with bench.sql() as connection:
        for statement in change.split("; "):
            connection.execute(text(statement))
    assert await begin(bench, certified) is None
    with pytest.raises(Unauthorized):  # nor in the other way, which says why
        await bench.connect(DEVICE, certified)
    with bench.sql() as connection:
        found = connection.execute(text("SELECT session_epoch, connected FROM identities"))
        assert [tuple(row) for row in found] == [(0, False)]


async def test_certificate_counts_from_its_first_to_its_last_moment(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)
    [certificate] = await bench.inventory(DEVICE)
    moment = timedelta(microseconds=1)
    times = {
        certificate.not_before - moment: False,
        certificate.not_before: True,
        certificate.not_after: True,
        certificate.not_after + moment: False,
    }
    for now, counts in times.items():
        assert (await begin(bench, certified, now=now) is not None) == counts


async def test_certificate_of_another_device_does_not_let_in(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    assert await begin(bench, await bench.provision("dev-2")) is None


async def test_device_on_another_hub_is_not_let_in(bench: Workbench) -> None:
    """The other hub trusts the same CAs, and does not know the device."""
    certified = await bench.provision(DEVICE)
    other = await bench.hubs.create(bench.made.namespace, "other-hub", "other.example")
    await bench.hubs.synchronize(bench.made.namespace)
    assert await begin(bench, certified, hub=other) is None


@pytest.mark.parametrize("persistent", [True, False])
async def test_what_a_device_listens_to_is_its_own_and_cleared_when_it_wants(
    bench: Workbench, persistent: bool
) -> None:
    certified = {name: await bench.provision(name) for name in (DEVICE, "dev-2")}
    for name, each in certified.items():
        session = await bench.connect(name, each)
        session.persistent = True
        await bench.hubs.subscribe(session, {Channel.TWIN: 0} if name == DEVICE else {})
    begun = await begin(bench, certified[DEVICE], persistent=persistent)
    assert begun is not None
    assert begun.subscriptions == ({Channel.TWIN: 0} if persistent else {})
    rows = bench.contents()["subscriptions"]
    assert len(rows) == persistent


# --- many at once


async def test_sessions_that_begin_while_others_do_share_a_unit_of_work(bench: Workbench) -> None:
    names = [f"dev-{number}" for number in range(5)]
    certified = [await bench.provision(name) for name in names]
    await bench.connect(names[0], certified[0])  # so that the hub is known
    units = []
    write = bench.store.write
    bench.store.write = lambda unit: (units.append(unit), write(unit))[1]  # type: ignore
    connecting = zip(names, certified, strict=True)
    found = await asyncio.gather(*(bench.connect(*each) for each in connecting))
    assert all(session.ended is None for session in found)
    assert len(units) == 1


async def test_device_that_is_refused_takes_nobody_along(bench: Workbench) -> None:
    certified = [await bench.provision(name) for name in ("dev-1", "dev-2")]
    await bench.registry.revoke(bench.made.namespace, "dev-1", by=SYSTEM)
    connects = zip(("dev-1", "dev-2"), certified, strict=True)
    refused, session = await asyncio.gather(
        *(bench.connect(*each) for each in connects), return_exceptions=True
    )
    assert isinstance(refused, Unauthorized)
    assert isinstance(session, LiveSession)
    assert session.ended is None


async def test_database_that_fails_refuses_every_device_of_the_unit(bench: Workbench) -> None:
    certified = [await bench.provision(name) for name in ("dev-1", "dev-2")]
    await bench.connect("dev-1", certified[0])  # so that the hub is known

    async def fail() -> None:
        raise Unavailable("away")

    bench.store.before_write.append(fail)
    connects = zip(("dev-1", "dev-2"), certified, strict=True)
    found = await asyncio.gather(
        *(bench.connect(*each) for each in connects), return_exceptions=True
    )
    assert [type(each) for each in found] == [Unavailable, Unavailable]


# --- departures


async def test_departures_of_a_while_are_one_unit_of_work(bench: Workbench) -> None:
    connected = [await bench.connect(n, await bench.provision(n)) for n in ("dev-1", "dev-2")]
    submitted = []
    submit = bench.store.submit
    bench.store.submit = lambda unit: (submitted.append(unit), submit(unit))  # type: ignore
    for session in connected:
        bench.hubs.disconnect(session)
    assert submitted == []
    await bench.settled()
    assert len([unit for unit in submitted if unit.func is sessions._end]) == 1
    for name in ("dev-1", "dev-2"):
        identity = await bench.identity(name)
        assert identity is not None
        assert not identity.connected


async def test_device_that_is_back_before_its_departure_was_written_stays_connected(
    bench: Workbench,
) -> None:
    certified = await bench.provision(DEVICE)
    bench.hubs.disconnect(await bench.connect(DEVICE, certified))
    await bench.connect(DEVICE, certified)
    await bench.settled()
    identity = await bench.identity(DEVICE)
    assert identity is not None
    assert identity.connected
