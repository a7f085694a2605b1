"""Which CAs end soon, and how often the log says so."""

from __future__ import annotations

from datetime import timedelta

from structlog.testing import capture_logs

from fleetroot.audit import SYSTEM
from fleetroot.registry import authorities
from fleetroot.registry.expiry import ExpiryWatch
from workbench import Workbench

DAY = timedelta(days=1)


def watch(bench: Workbench, days: int = 30) -> ExpiryWatch:
    return ExpiryWatch(bench.store, bench.clock, days * DAY)


async def found(bench: Workbench) -> list[tuple[str, str]]:
    watching = watch(bench)
    await watching.look()
    return [(each.what, each.name) for each in watching.soon]


async def test_ca_that_signs_and_ends_soon_is_found(bench: Workbench) -> None:
    bench.clock.advance(authorities.ISSUING_VALIDITY - 30 * DAY)
    assert await found(bench) == [("issuing CA", "default/default")]
    bench.clock.advance(60 * DAY)
    assert await found(bench) == [("issuing CA", "default/default")]


async def test_ca_that_was_followed_by_another_ends_in_silence(bench: Workbench) -> None:
    bench.clock.advance(authorities.ISSUING_VALIDITY - 30 * DAY)
    await bench.lifecycle.renew_due()
    assert await found(bench) == []


async def test_ca_of_a_deleted_policy_ends_in_silence(bench: Workbench) -> None:
    bench.clock.advance(authorities.ISSUING_VALIDITY - 30 * DAY)
    await bench.policies.delete(bench.made.namespace, "default", by=SYSTEM)
    assert await found(bench) == []


async def test_root_that_ends_soon_is_found_with_what_it_cuts_short(bench: Workbench) -> None:
    bench.clock.advance(authorities.ROOT_VALIDITY - 20 * DAY)
    await bench.lifecycle.renew_due()
    assert sorted(await found(bench)) == [
        ("issuing CA", "default/default"),
        ("root CA", "default"),
    ]


async def test_log_says_it_once_a_day(bench: Workbench) -> None:
    watching = watch(bench, days=3000)
    days = set()
    with capture_logs() as logs:
        for _ in range(6):
            await watching.look()
            days.add(bench.clock.now().date())
            bench.clock.advance(timedelta(hours=8))
    assert [line["event"] for line in logs] == ["expires soon"] * len(days)


async def test_log_says_that_it_is_too_late(bench: Workbench) -> None:
    bench.clock.advance(authorities.ISSUING_VALIDITY + DAY)
    with capture_logs() as logs:
        await watch(bench).look()
    assert [line["event"] for line in logs] == ["has expired"]
