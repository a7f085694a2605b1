"""Refusals in the audit log: who, what, why, from where; a flood of them leaves a number."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetroot.audit import SYSTEM, Actor, ActorKind, Entry, Outcome, append
from fleetroot.errors import Unavailable
from fleetroot.storage import Transaction
from workbench import Workbench


def refusal(bench: Workbench, peer: str = "192.0.2.1:5") -> Entry:
    actor = Actor(ActorKind.UNKNOWN, "", peer, "trace")
    return Entry(
        bench.clock.now(), actor, "connect", "device/dev-1", None, Outcome.REFUSED, "no such key"
    )


async def written(bench: Workbench) -> list[dict[str, Any]]:
    await bench.audit_log.write()
    page = await bench.audit_log.page(limit=5000)
    return [e for e in map(json.loads, (entry.line for entry in page)) if e["outcome"] == "refused"]


async def test_refusal_is_an_entry(bench: Workbench) -> None:
    bench.audit_log.note_refusal(refusal(bench), "wrong key")
    [entry] = await written(bench)
    assert (entry["action"], entry["subject"], entry["reason"]) == (
        "connect",
        "device/dev-1",
        "no such key",
    )
    assert (entry["peer"], entry["traceId"]) == ("192.0.2.1:5", "trace")


async def test_of_a_flood_the_rest_is_counted(bench: Workbench) -> None:
    for _ in range(100_000):
        bench.audit_log.note_refusal(refusal(bench), "wrong key")
    entries = await written(bench)
    assert len(entries) <= 1000
    [summary] = await summaries(bench)
    assert summary["reason"] == "wrong key"
    assert summary["details"]["count"] + 1000 == 100_000


async def summaries(bench: Workbench) -> list[dict[str, Any]]:
    page = await bench.audit_log.page(subject="refusals")
    return [json.loads(entry.line) for entry in page]


async def test_what_the_database_did_not_take_is_written_the_next_time(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.audit_log.note_refusal(refusal(bench), "wrong key")

    async def away(_: Any) -> None:
        raise Unavailable("the database cannot answer now")

    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "write", away)
        with pytest.raises(Unavailable):
            await bench.audit_log.write()
    assert len(await written(bench)) == 1


async def test_entry_and_change_are_one_unit(bench: Workbench) -> None:
    """A change that fails behind its entry leaves neither."""

    def unit(tx: Transaction) -> None:
        append(tx, Entry(bench.clock.now(), SYSTEM, "device.revoke", "device/dev-1"))
        raise Unavailable("no")

    with pytest.raises(Unavailable):
        await bench.store.write(unit)
    assert await bench.audit_log.page(subject="device/dev-1") == []
