"""Which certificates end soon, over the operator API: those that their devices still stand on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fleet import Fleet
from fleetroot.clock import ManualClock

PATH = "/fleetroot/certificates/expiring"
DAY = 86400


async def ask(fleet: Fleet, path: str = PATH, **query: Any) -> Any:
    answer = await fleet.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def expiring(fleet: Fleet, **query: Any) -> list[str]:
    return [each["deviceId"] for each in (await ask(fleet, **query))["value"]]


async def test_what_ends_within_the_time_is_listed_the_first_to_end_first(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    await timed_fleet.provision("dev-2")
    clock.advance(timedelta(days=3))
    await timed_fleet.provision("dev-1")
    assert await expiring(timed_fleet) == []  # they have thirty days
    assert await expiring(timed_fleet, within=28 * DAY) == ["dev-2"]
    assert await expiring(timed_fleet, within=31 * DAY) == ["dev-2", "dev-1"]
    clock.advance(timedelta(days=28))
    assert await expiring(timed_fleet) == ["dev-1"]  # the other one is over


async def test_device_that_renewed_is_not_listed_by_its_older_certificate(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    await timed_fleet.provision("dev-1")
    await timed_fleet.provision("dev-2")
    clock.advance(timedelta(days=25))
    assert await expiring(timed_fleet) == ["dev-1", "dev-2"]
    await timed_fleet.provision("dev-1")
    assert await expiring(timed_fleet) == ["dev-2"]


@pytest.mark.parametrize(
    "path",
    [
        "/fleetroot/devices/dev-1/revoke",
        "/fleetroot/namespaces/default/policies/default/revokeIssuer",
    ],
)
async def test_what_was_revoked_is_not_listed(fleet: Fleet, path: str) -> None:
    await fleet.provision("dev-1")
    assert await expiring(fleet, within=31 * DAY) == ["dev-1"]
    assert (await fleet.http.post(path)).status_code == 200
    assert await expiring(fleet, within=31 * DAY) == []


async def test_pages_have_each_once(fleet: Fleet, clock: ManualClock) -> None:
    for number in range(5):
        await fleet.provision(f"dev-{number}")
    seen, after = list[str](), None
    while True:
        query = {"after": after} if after else {}
        page = await ask(fleet, within=31 * DAY, limit=2, **query)
        seen += [each["deviceId"] for each in page["value"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [f"dev-{number}" for number in range(5)]


async def test_counts_are_by_day_and_policy(timed_fleet: Fleet, clock: ManualClock) -> None:
    await timed_fleet.http.put("/fleetroot/namespaces/default/policies/other")
    key, _ = await timed_fleet.enroll("dev-3", policy="other")
    await timed_fleet.provision("dev-1")
    first = (await timed_fleet.certificates())[0]["notAfter"][:10]
    clock.advance(timedelta(days=2))
    await timed_fleet.provision("dev-2")
    await timed_fleet.provision("dev-3", token=timed_fleet.provisioning_token("dev-3", key))
    last = (await timed_fleet.certificates())[0]["notAfter"][:10]
    counts = f"{PATH}/counts"
    assert (await ask(timed_fleet, counts, within=31 * DAY))["value"] == [
        {"policy": "default", "day": first, "certificates": 1},
        {"policy": "default", "day": last, "certificates": 1},
        {"policy": "other", "day": last, "certificates": 1},
    ]
    assert await expiring(timed_fleet, within=31 * DAY, policy="OTHER") == ["dev-3"]
    of_other = await ask(timed_fleet, counts, within=31 * DAY, policy="other")
    assert [each["certificates"] for each in of_other["value"]] == [1]


async def test_another_namespace_has_its_own(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    assert (await fleet.http.put("/fleetroot/namespaces/plant")).status_code == 201
    path = "/fleetroot/namespaces/{}/certificates/expiring"
    assert (await ask(fleet, path.format("plant"), within=31 * DAY))["value"] == []
    assert len((await ask(fleet, path.format("default"), within=31 * DAY))["value"]) == 1


@pytest.mark.parametrize("query", ["within=0", "after=x", "after=1.x", "after=-1.1", "limit=0"])
async def test_query_that_makes_no_sense_is_a_bad_request(fleet: Fleet, query: str) -> None:
    assert (await fleet.http.get(f"{PATH}?{query}")).status_code == 400


async def test_unknown_policy_is_not_found(fleet: Fleet) -> None:
    assert (await fleet.http.get(f"{PATH}?policy=none")).status_code == 404
