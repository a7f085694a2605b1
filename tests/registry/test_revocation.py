"""Revocation: certificates marked, generation rotated, an outbox row, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from fleetroot.audit import SYSTEM
from fleetroot.errors import NotFound
from fleetroot.registry import devices, inventory, outbox
from fleetroot.registry.outbox import Kind, Notice
from workbench import Workbench

DEVICE = "dev-1"


async def notices(bench: Workbench) -> list[Notice]:
    return await bench.store.read(lambda tx: tx.all(outbox._AFTER, seq=0))


async def test_every_certificate_of_the_device_is_marked(bench: Workbench) -> None:
    for _ in range(3):
        await bench.provision(DEVICE)
    revocation = await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    assert revocation.certificates == 3
    now = bench.clock.now()
    assert {c.revoked_at for c in await bench.inventory(DEVICE)} == {now}
    assert {c.status(now) for c in await bench.inventory(DEVICE)} == {"revoked"}


async def test_certificates_of_other_devices_stay(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    await bench.provision("dev-2")
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    assert [c.revoked_at for c in await bench.inventory("dev-2")] == [None]


async def test_generation_rotates(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    before = await bench.registry.device(bench.made.namespace, DEVICE)
    revocation = await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    assert revocation.device.generation != before.generation


async def test_device_keeps_who_it_is(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    before = await bench.registry.device(bench.made.namespace, DEVICE)
    after = (await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)).device
    assert (after.uuid, after.device_id, after.enabled) == (before.uuid, DEVICE, True)


async def test_etag_and_version_change(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    before = await bench.registry.device(bench.made.namespace, DEVICE)
    after = (await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)).device
    assert after.etag != before.etag
    assert after.version == before.version + 1


async def test_outbox_tells_of_it(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    [notice] = await notices(bench)
    assert (notice.kind, notice.namespace_id, notice.subject) == (
        Kind.DEVICE_REVOKED,
        bench.made.namespace.id,
        DEVICE,
    )


@pytest.mark.parametrize(
    ("module", "step"),
    [(inventory, "revoke_all_of"), (devices, "rotate_generation"), (outbox, "append")],
    ids=["marking", "rotating", "telling"],
)
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_failure_at_any_step_leaves_nothing(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, module: object, step: str, moment: str
) -> None:
    await bench.provision(DEVICE)
    before = bench.contents()
    real: Callable[..., object] = getattr(module, step)

    def fail(*arguments: object, **more: object) -> None:
        if moment == "after":
            real(*arguments, **more)
        raise OSError("power is gone")

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(OSError, match="power"):
        await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    assert bench.contents() == before


async def test_failed_revocation_hints_nobody(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.provision(DEVICE)
    hints: list[str] = []
    monkeypatch.setattr(bench.bus, "hint", hints.append)
    monkeypatch.setattr(outbox, "append", lambda *_, **__: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    assert hints == []


async def test_hint_comes_after_the_commit(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.provision(DEVICE)
    seen: list[int] = []
    monkeypatch.setattr(
        bench.bus, "hint", lambda topic: seen.append(len(bench.contents()["outbox"]))
    )
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    assert seen == [1]


async def test_second_revocation_finds_nothing_to_mark(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    assert (await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)).certificates == 0


async def test_second_revocation_does_not_move_the_time_of_the_first(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    first = bench.clock.now()
    bench.clock.advance(timedelta(hours=1))
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    assert [c.revoked_at for c in await bench.inventory(DEVICE)] == [first]


async def test_device_is_revoked_in_any_spelling(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    assert (await bench.registry.revoke(bench.made.namespace, "DEV-1", by=SYSTEM)).certificates == 1


async def test_unknown_device_cannot_be_revoked(bench: Workbench) -> None:
    with pytest.raises(NotFound):
        await bench.registry.revoke(bench.made.namespace, "unknown", by=SYSTEM)
    assert await notices(bench) == []


async def test_revoked_device_may_provision_again(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    await bench.registry.revoke(bench.made.namespace, DEVICE, by=SYSTEM)
    await bench.provision(DEVICE)
    newest, oldest = await bench.inventory(DEVICE)
    assert (newest.revoked_at is None, oldest.revoked_at is None) == (True, False)


async def test_revocation_disables_the_device_when_asked(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    revocation = await bench.registry.revoke(bench.made.namespace, DEVICE, disable=True, by=SYSTEM)
    assert not revocation.device.enabled
    assert [n.kind for n in await notices(bench)] == [Kind.DEVICE_REVOKED, Kind.DEVICE_DISABLED]


async def test_disabling_leaves_the_certificates_as_they_are(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    await bench.registry.set_enabled(bench.made.namespace, DEVICE, False, by=SYSTEM)
    assert [c.revoked_at for c in await bench.inventory(DEVICE)] == [None]
    assert [n.kind for n in await notices(bench)] == [Kind.DEVICE_DISABLED]


async def test_disabling_a_disabled_device_changes_nothing(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    first = await bench.registry.set_enabled(bench.made.namespace, DEVICE, False, by=SYSTEM)
    assert await bench.registry.set_enabled(bench.made.namespace, DEVICE, False, by=SYSTEM) == first
    assert len(await notices(bench)) == 1


async def test_enabling_is_told_to_nobody(bench: Workbench) -> None:
    await bench.provision(DEVICE)
    await bench.registry.set_enabled(bench.made.namespace, DEVICE, False, by=SYSTEM)
    await bench.registry.set_enabled(bench.made.namespace, DEVICE, True, by=SYSTEM)
    assert [n.kind for n in await notices(bench)] == [Kind.DEVICE_DISABLED]
