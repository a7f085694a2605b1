"""The alert for a certificate that one of our CAs signed and nobody issued here."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from test_hub_admission import refusal, stolen

import database
from fleet import Fleet
from fleetroot.hub import alerts


async def outbox(fleet: Fleet) -> list[tuple[str, str]]:
    data = fleet.server.settings.data
    return [
        (kind, subject)
        for kind, subject in database.rows(data, "SELECT kind, subject FROM outbox ORDER BY seq")
        if kind == "certificate.notInInventory"
    ]


async def alerts_of(fleet: Fleet, device: str) -> list[dict[str, object]]:
    answer = await fleet.http.get(
        "/fleetroot/audit/entries", params={"subject": f"device/{device}"}
    )
    return [e for e in answer.json()["value"] if str(e["action"]).startswith("alert.")]


async def count(fleet: Fleet) -> float:
    metrics = (await fleet.http.get("/metrics")).text
    name = 'fleetroot_alerts_total{kind="certificateNotInInventory"} '
    found = [line for line in metrics.splitlines() if line.startswith(name)]
    return float(found[0].removeprefix(name)) if found else 0.0


async def test_alert_is_an_event_an_entry_and_a_metric(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    certified = await stolen(fleet, "dev-1")
    await refusal(fleet.connect("dev-1", certified))
    assert await outbox(fleet) == [("certificate.notInInventory", "dev-1")]
    [entry] = await alerts_of(fleet, "dev-1")
    assert entry["outcome"] == "refused"
    assert str(entry["peer"]).startswith("127.0.0.1:")
    details = entry["details"]
    assert isinstance(details, dict)
    assert details["serialNumber"] == format(certified.leaf.serial_number, "x")
    status = (await fleet.http.get("/fleetroot/status")).json()
    assert details["issuingAuthority"] == status["policies"][0]["issuingAuthority"]
    assert await count(fleet) == 1


async def test_device_that_is_named_keeps_its_connection(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        await refusal(fleet.connect("dev-1", await stolen(fleet, "dev-1")))
        await fleet.server._outbox.drain()
        await mqtt.subscribe("$iothub/twin/res/#")


async def test_issued_certificate_raises_none(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", certified)).close()
    await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    await refusal(fleet.connect("dev-1", certified))
    assert await outbox(fleet) == []
    assert await count(fleet) == 0


async def test_of_a_flood_the_rest_is_counted(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet.server.hubs._alerts._pace, "_burst", 2.0)
    await fleet.provision("dev-1")
    with capture_logs() as logs:
        for _ in range(5):
            await refusal(fleet.connect("dev-1", await stolen(fleet, "dev-1")))
    assert len(await outbox(fleet)) == len(await alerts_of(fleet, "dev-1")) == 2
    assert len([line for line in logs if line.get("alert")]) == 2
    assert await count(fleet) == 5


async def test_the_next_that_is_told_says_how_many_were_not(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = fleet.server.hubs._alerts._pace
    monkeypatch.setattr(pace, "_burst", 1.0)
    await fleet.provision("dev-1")
    for _ in range(3):
        await refusal(fleet.connect("dev-1", await stolen(fleet, "dev-1")))
    monkeypatch.setattr(pace, "_left", type(pace._left)())
    await refusal(fleet.connect("dev-1", await stolen(fleet, "dev-1")))
    newest, _ = await alerts_of(fleet, "dev-1")
    assert newest["details"]["notToldBefore"] == 2  # type: ignore[index]


def test_a_flood_of_a_year_is_no_gigabyte() -> None:
    """At some 700 bytes an entry and a notice."""
    year = 365 * 86_400 / alerts._EVERY.total_seconds() + alerts._BURST
    assert year * 700 < 1 << 29
