"""Devices that come for the first time at the same time share a unit of work, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fleet import device_csr
from fleetroot.audit import SYSTEM
from fleetroot.errors import TokenInvalid, Unavailable
from fleetroot.provisioning import registrations
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from fleetroot.provisioning.service import Provisioning
from workbench import Workbench

DEVICES = [f"sensor-{number}" for number in range(20)]


def count_writes(bench: Workbench) -> list[None]:
    """Grows by one with every unit of work that is written from now on."""
    written: list[None] = []

    async def note() -> None:
        written.append(None)
        bench.store.before_write.append(note)

    bench.store.before_write.append(note)
    return written


def count_reads(bench: Workbench) -> list[None]:
    """Grows by one with every snapshot that is read from now on."""
    read: list[None] = []

    async def note() -> None:
        read.append(None)
        bench.store.after_read.append(note)

    bench.store.after_read.append(note)
    return read


async def test_devices_that_come_together_are_one_unit_of_work(bench: Workbench) -> None:
    await bench.provision("warmed-up")
    written = count_writes(bench)
    await asyncio.gather(*map(bench.provision, DEVICES))
    assert len(written) == 1


async def test_devices_that_come_together_are_looked_for_in_one_snapshot(bench: Workbench) -> None:
    await bench.provision("warmed-up")
    read = count_reads(bench)
    await asyncio.gather(*map(bench.provision, DEVICES))
    assert len(read) == 1


async def test_one_that_may_not_come_does_not_hold_up_the_others(bench: Workbench) -> None:
    await bench.provision("warmed-up")
    stranger = replace(
        bench.registration("stranger"), credential=bench.registration("other").credential
    )
    given = await asyncio.gather(
        bench.provisioning.register(stranger),
        *map(bench.provision, DEVICES),
        return_exceptions=True,
    )
    assert isinstance(given[0], TokenInvalid)
    assert [len(await bench.inventory(device)) for device in DEVICES] == [1] * len(DEVICES)


async def test_each_of_them_gets_a_certificate_of_its_own(bench: Workbench) -> None:
    given = await asyncio.gather(*map(bench.provision, DEVICES))
    for device, certified in zip(DEVICES, given, strict=True):
        [certificate] = await bench.inventory(device)
        assert certificate.certificate == certified.chain[0]


async def test_each_of_them_has_an_identity_that_it_can_connect_as(bench: Workbench) -> None:
    given = await asyncio.gather(*map(bench.provision, DEVICES))
    for device, certified in zip(DEVICES, given, strict=True):
        await bench.connect(device, certified)


async def test_one_that_is_known_does_not_hold_up_the_others(bench: Workbench) -> None:
    """The same device twice among them: one of the two is not the first after all."""
    await bench.provision("warmed-up")
    written = count_writes(bench)
    both = (*DEVICES, DEVICES[0].upper())
    given = await asyncio.gather(*map(bench.provision, both), return_exceptions=True)
    assert len(written) > len(DEVICES)  # the unit that they shared, and one for each
    [refused] = [each for each in given if isinstance(each, BaseException)]
    assert isinstance(refused, TokenInvalid)  # the other spelling has another key
    for device in DEVICES:
        assert len(await bench.inventory(device)) == 1


async def test_an_identity_that_is_there_already_is_kept(bench: Workbench) -> None:
    """Of a device whose row in the registry is gone."""
    await bench.provision(DEVICES[0])
    before = await bench.identity(DEVICES[0])
    with bench.sql() as connection:
        connection.exec_driver_sql("DELETE FROM registrations")
        connection.exec_driver_sql("DELETE FROM devices")
    await asyncio.gather(*map(bench.provision, DEVICES))
    assert before is not None
    after = await bench.identity(DEVICES[0])
    assert after is not None
    assert after.generation_id == before.generation_id


async def test_what_fails_for_all_is_told_to_all(bench: Workbench) -> None:
    async def fail() -> None:
        raise Unavailable("the database cannot answer now")

    await bench.provision("warmed-up")
    before = bench.contents()
    bench.store.before_write.append(fail)
    given = await asyncio.gather(*map(bench.provision, DEVICES), return_exceptions=True)
    assert {type(each) for each in given} == {Unavailable}
    assert bench.contents() == before


async def test_nothing_of_a_unit_that_breaks_is_kept(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("power is gone")

    before = bench.contents()
    monkeypatch.setattr(registrations, "save", fail)
    given = await asyncio.gather(*map(bench.provision, DEVICES), return_exceptions=True)
    assert {type(each) for each in given} == {OSError}
    assert bench.contents() == before


async def test_a_device_that_hung_up_is_provisioned_with_the_others(bench: Workbench) -> None:
    await bench.provision("warmed-up")
    tasks = [asyncio.create_task(bench.provision(device)) for device in DEVICES]

    async def hang_up() -> None:
        tasks[0].cancel()
        await asyncio.sleep(0)

    bench.store.before_write.append(hang_up)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[0].cancelled()
    assert [len(await bench.inventory(device)) for device in DEVICES] == [1] * len(DEVICES)


# --- what is kept in memory is never older than the database


async def other_node(bench: Workbench) -> Provisioning:
    """Another process's provisioning on the same database, which has answered already."""
    node = Provisioning(
        bench.store,
        bench.issuance,
        bench.directory,
        bench.sealer,
        bench.bus,
        bench.clock,
    )
    await node.register(bench.registration("warmed-up"))
    return node


async def test_a_policy_that_another_node_changed_counts_at_once(bench: Workbench) -> None:
    node = await other_node(bench)
    policy = await bench.policies.create(bench.made.namespace, "other", by=SYSTEM)
    await bench.administration.put(
        bench.made.service,
        EnrollmentKind.GROUP,
        bench.made.group.enrollment.id,
        EnrollmentSettings(policy_id=policy.id),
        if_match="*",
        by=SYSTEM,
    )
    await node.register(bench.registration(DEVICES[0], device_csr(DEVICES[0])[1]))
    [certificate] = await bench.inventory(DEVICES[0])
    assert certificate.policy_id == policy.id


async def test_a_group_that_another_node_disabled_refuses_at_once(bench: Workbench) -> None:
    node = await other_node(bench)
    settings = replace(bench.made.group.enrollment.settings, enabled=False)
    await bench.administration.put(
        bench.made.service,
        EnrollmentKind.GROUP,
        bench.made.group.enrollment.id,
        settings,
        if_match="*",
        by=SYSTEM,
    )
    with pytest.raises(Exception, match="disabled"):
        await node.register(bench.registration(DEVICES[0]))


async def test_a_group_that_another_node_made_admits_at_once(bench: Workbench) -> None:
    node = await other_node(bench)
    await bench.administration.delete(
        bench.made.service, EnrollmentKind.GROUP, bench.made.group.enrollment.id, by=SYSTEM
    )
    keys = bench.made.group.keys
    await bench.administration.put(
        bench.made.service,
        EnrollmentKind.GROUP,
        "new",
        EnrollmentSettings(policy_id=bench.made.policy.id),
        primary_key=keys.primary,
        by=SYSTEM,
    )
    result = await node.register(bench.registration(DEVICES[0]))
    assert result.registration.enrollment_id == "new"


async def test_a_group_that_changes_while_a_device_is_signed_for_is_asked_again(
    bench: Workbench,
) -> None:
    async def disable() -> None:
        settings = replace(bench.made.group.enrollment.settings, enabled=False)
        await bench.administration.put(
            bench.made.service,
            EnrollmentKind.GROUP,
            bench.made.group.enrollment.id,
            settings,
            if_match="*",
            by=SYSTEM,
        )

    await bench.register("warmed-up")
    bench.store.before_write.append(disable)
    with pytest.raises(Exception, match="disabled"):
        await bench.provision(DEVICES[0])
    assert await bench.inventory(DEVICES[0]) == []
