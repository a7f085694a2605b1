"""What became of a device: each thing once, in order, in pages, for as long as it is kept."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet import device_csr
from fleetroot.audit import SYSTEM, Actor, ActorKind, Entry, Outcome
from fleetroot.errors import NotFound
from fleetroot.hub.connections import KEPT
from fleetroot.hub.model import CredentialWish
from fleetroot.hub.timeline import Moment
from fleetroot.registry.incidents import Scope
from fleetroot.registry.revocation_jobs import RevocationJobs
from workbench import Wire, Workbench

DEVICE = "Dev-1"


async def timeline(bench: Workbench, device: str = DEVICE, limit: int = 1000) -> list[Moment]:
    """Everything, oldest first, read in pages."""
    await bench.settled()
    await bench.audit_log.write()
    found, before = [], None
    while True:
        page, before = await bench.hubs.timeline(
            bench.made.namespace, device, before=before, limit=limit
        )
        found += page
        if before is None:
            return found[::-1]


def later(bench: Workbench) -> None:
    bench.clock.advance(timedelta(seconds=10))


def refused(bench: Workbench, subject: str) -> Entry:
    actor = Actor(ActorKind.UNKNOWN, "", "192.0.2.1:5", "trace-r")
    return Entry(bench.clock.now(), actor, "connect", subject, None, Outcome.REFUSED, "no key")


async def live(bench: Workbench) -> None:
    """A life: registered, issued, connected, renewed, refused, disabled, enabled, revoked."""
    certified = await bench.provision(DEVICE)
    later(bench)
    session = await bench.connect(DEVICE, certified, Wire(peer="192.0.2.9:1", trace_id="trace-c"))
    later(bench)
    await bench.renew(session, "1", CredentialWish(DEVICE, device_csr(DEVICE)[1], None))
    later(bench)
    bench.audit_log.note_refusal(refused(bench, f"device/{DEVICE}"), "no key")
    later(bench)
    for enabled in (False, True):
        await bench.registry.set_enabled(bench.made.namespace, DEVICE, enabled, by=SYSTEM)
        later(bench)
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)


LIFE = [
    "registered",
    "issued",
    "connected",
    "renewed",
    "refused",
    "changed",
    "changed",
    "revoked",
    "revoked",
    "changed",
]


async def test_life_of_a_device_is_told_in_order(bench: Workbench) -> None:
    await live(bench)
    found = await timeline(bench)
    assert [moment.kind for moment in found] == LIFE
    assert [moment.at for moment in found] == sorted(moment.at for moment in found)
    assert [m.action for m in found if m.kind == "changed"] == [
        "device.disable",
        "device.enable",
        "device.revoke",
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_have_everything_once(bench: Workbench, limit: int) -> None:
    await live(bench)
    assert await timeline(bench, limit=limit) == await timeline(bench)


async def test_connection_says_by_what_and_from_where(bench: Workbench) -> None:
    await live(bench)
    [connected] = [m for m in await timeline(bench) if m.kind == "connected"]
    [issued] = [m for m in await timeline(bench) if m.kind == "issued"]
    assert (connected.peer, connected.trace_id) == ("192.0.2.9:1", "trace-c")
    assert (connected.hub, connected.sha256) == (bench.made.hub.name, issued.sha256)


async def test_id_is_found_in_any_spelling(bench: Workbench) -> None:
    await live(bench)
    bench.audit_log.note_refusal(refused(bench, "registration/DEV-1"), "no key")
    found = await timeline(bench, "dEV-1")
    assert [moment.kind for moment in found] == [*LIFE, "refused"]


async def test_life_outlasts_a_restart(bench: Workbench) -> None:
    """All of it is in the database, and nothing is in this process."""
    await live(bench)
    before = await timeline(bench)
    await bench.hubs.start()
    assert await timeline(bench) == before


async def test_only_the_last_connections_are_kept(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)
    times = []
    for _ in range(KEPT + 3):
        bench.clock.advance(timedelta(minutes=1))
        times.append(bench.clock.now())
        bench.hubs.disconnect(await bench.connect(DEVICE, certified))
        await bench.settled()
    connected = [m.at for m in await timeline(bench) if m.kind == "connected"]
    assert connected == times[-KEPT:]


async def test_device_that_was_refused_connected_not(bench: Workbench) -> None:
    certified = await bench.provision(DEVICE)
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    with pytest.raises(Exception, match="Unauthorized"):
        await bench.connect(DEVICE, certified)
    assert "connected" not in [m.kind for m in await timeline(bench)]


async def test_certificate_that_was_revoked_with_its_ca_was_revoked_then(
    bench: Workbench,
) -> None:
    await bench.provision(DEVICE)
    later(bench)
    await bench.lifecycle.revoke_issuer(bench.made.namespace, "default", by=SYSTEM)
    revoked = (await timeline(bench))[-1]
    assert (revoked.kind, revoked.at) == ("revoked", bench.clock.now())


async def test_certificate_that_an_incident_revoked_is_told_once(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    jobs = RevocationJobs(bench.store, bench.bus, bench.clock)
    later(bench)
    scope = Scope(bench.made.namespace.id, device_keys=("dev-1",))
    await jobs.start(scope, pace=1, by=SYSTEM)
    await jobs.work()
    assert [m.kind for m in await timeline(bench)] == ["registered", "issued", "revoked"]


async def test_device_of_another_id_has_no_part_in_it(bench: Workbench) -> None:
    await live(bench)
    await bench.provision("dev-10")
    assert [moment.kind for moment in await timeline(bench)] == LIFE


async def test_device_that_nobody_heard_of_is_not_found(bench: Workbench) -> None:
    with pytest.raises(NotFound):
        await bench.hubs.timeline(bench.made.namespace, "nobody")


async def test_device_that_was_never_registered_may_have_been_refused(bench: Workbench) -> None:
    bench.audit_log.note_refusal(refused(bench, "device/ghost"), "no key")
    assert [moment.kind for moment in await timeline(bench, "ghost")] == ["refused"]
