"""Regions of a provisioning service, and devices that go to the hub that is nearest."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from fleet import Fleet

SECOND = "second.localhost"
SERVICE = "/fleetroot/provisioning-services/default"
HERE = ["127.0.0.0/8", "::1/128"]


@pytest.fixture
async def fleet(fleet: Fleet) -> Fleet:
    """A running server with a second hub."""
    for path in ("hubs/second", f"provisioning-services/default/hubs/{SECOND}"):
        assert (await fleet.http.put(f"/fleetroot/{path}")).is_success
    return fleet


async def put(fleet: Fleet, name: str, **body: Any) -> httpx.Response:
    return await fleet.http.put(f"{SERVICE}/regions/{name}", json=body)


async def regions(fleet: Fleet) -> list[dict[str, Any]]:
    return list((await fleet.http.get(f"{SERVICE}/regions")).json()["value"])


async def assigned(fleet: Fleet, id_: str) -> str:
    answer = await fleet.register(id_)
    assert answer.status == 200, answer.body
    return str(answer.body["registrationState"]["assignedHub"])


async def by_latency(fleet: Fleet) -> None:
    await fleet.enroll("default", group=True, again=True, allocationPolicy="geoLatency")


async def test_region_is_put_replaced_listed_and_deleted(fleet: Fleet) -> None:
    latencies = {SECOND.upper(): 20}
    made = await put(fleet, "West%20Europe", networks=["192.0.2.0/24"], latencies=latencies)
    assert made.json() == {
        "name": "westeurope",
        "networks": ["192.0.2.0/24"],
        "latencies": {SECOND: 20},
    }
    await put(fleet, "westeurope", networks=["2001:db8::/32", "198.51.100.0/24"])
    [found] = await regions(fleet)
    assert found["networks"] == ["198.51.100.0/24", "2001:db8::/32"]
    assert found["latencies"] == {}
    assert (await fleet.http.delete(f"{SERVICE}/regions/WestEurope")).status_code == 204
    assert await regions(fleet) == []
    assert (await fleet.http.delete(f"{SERVICE}/regions/westeurope")).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "needs networks or latencies"),
        ({"networks": ["192.0.2.1/24"]}, 400, "is no network"),
        ({"networks": ["example"]}, 400, "is no network"),
        ({"networks": ["192.0.2.0/25", "10.0.0.0/8"]}, 409, "10.0.0.0/8 is in the region east"),
        ({"latencies": {"evil.example": 1}}, 400, "evil.example is not linked"),
        ({"latencies": {SECOND: -1}}, 400, "greater than or equal to 0"),
        ({"latencies": {SECOND: 1.5}}, 400, "integer"),
        ({"networks": "10.0.0.0/8"}, 400, "list"),
    ],
)
async def test_region_that_cannot_be_is_refused(
    fleet: Fleet, body: dict[str, Any], status: int, message: str
) -> None:
    await put(fleet, "east", networks=["10.0.0.0/8"])
    refused = await put(fleet, "west", **body)
    assert refused.status_code == status
    assert message in refused.json()["message"]
    assert [region["name"] for region in await regions(fleet)] == ["east"]


async def test_regions_are_in_the_audit_log(fleet: Fleet) -> None:
    await put(fleet, "west", networks=["192.0.2.0/24"])
    await fleet.http.delete(f"{SERVICE}/regions/west")
    query = {"subject": "provisioning-service/default"}
    entries = (await fleet.http.get("/fleetroot/audit/entries", params=query)).json()["value"]
    assert [entry["action"] for entry in entries[:2]] == ["region.delete", "region.put"]
    assert entries[0]["details"] == {"region": "west"}


async def test_device_goes_to_the_hub_that_is_nearest_to_where_it_calls_from(fleet: Fleet) -> None:
    await by_latency(fleet)
    await put(fleet, "here", networks=HERE, latencies={SECOND: 5, fleet.hub_host: 50})
    assert {await assigned(fleet, f"dev-{n}") for n in range(6)} == {SECOND}
    await put(fleet, "here", networks=HERE, latencies={SECOND: 50, fleet.hub_host: 5})
    assert {await assigned(fleet, f"pump-{n}") for n in range(6)} == {fleet.hub_host}


async def test_device_that_comes_again_moves_to_what_is_nearest_now(fleet: Fleet) -> None:
    await by_latency(fleet)
    await put(fleet, "here", networks=HERE, latencies={SECOND: 5})
    assert await assigned(fleet, "dev-1") == SECOND
    await put(fleet, "here", networks=HERE, latencies={fleet.hub_host: 5})
    answer = await fleet.register("dev-1")
    state = answer.body["registrationState"]
    assert (state["assignedHub"], state["substatus"]) == (fleet.hub_host, "deviceDataMigrated")


async def test_hub_that_is_unlinked_takes_its_latencies_with_it(fleet: Fleet) -> None:
    await by_latency(fleet)
    await put(fleet, "here", networks=HERE, latencies={SECOND: 5, fleet.hub_host: 50})
    assert (await fleet.http.delete(f"{SERVICE}/hubs/{SECOND}")).status_code == 204
    [region] = await regions(fleet)
    assert region["latencies"] == {fleet.hub_host: 50}
    assert await assigned(fleet, "dev-1") == fleet.hub_host


async def test_provisioning_service_is_deleted_with_its_regions_and_secrets(fleet: Fleet) -> None:
    path = "/fleetroot/provisioning-services/plant"
    assert (await fleet.http.put(path)).status_code == 201
    await fleet.http.put(f"{path}/regions/west", json={"networks": ["192.0.2.0/24"]})
    await fleet.http.post(f"{path}/webhookSecrets")
    assert (await fleet.http.delete(path)).status_code == 204
    assert fleet.rows("region_networks") == fleet.rows("webhook_secrets") == []
