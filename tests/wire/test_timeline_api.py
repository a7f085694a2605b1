"""The timeline of a device over the API, from a life over real wires."""

from __future__ import annotations

import pytest
from test_hub_admission import refusal
from test_roles import bearer

from fleet import Fleet
from fleetroot.access import Role

PATH = "/fleetroot/devices/dev-1/timeline"


async def live(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", certified)).close()
    await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    await refusal(fleet.connect("dev-1", certified))
    fleet.server.hubs._connections.flush()
    await fleet.server.audit_log.write()


async def test_life_is_told_newest_first_in_pages(fleet: Fleet) -> None:
    await live(fleet)
    whole = (await fleet.http.get(PATH)).json()["value"]
    kinds = [moment["kind"] for moment in whole]
    assert kinds == ["refused", "changed", "revoked", "connected", "issued", "registered"]
    assert whole[0]["reason"] == "certificate revoked"
    assert whole[3]["peer"].startswith("127.0.0.1:")
    paged, before = [], None
    while True:
        query = {"limit": "2"} | ({"before": before} if before else {})
        page = (await fleet.http.get(PATH, params=query)).json()
        paged += page["value"]
        before = page["next"]
        if before is None:
            break
    assert paged == whole


@pytest.mark.parametrize("before", ["x", "1", "1.2", "1.2.x", "9" * 30 + ".1.1", "1.1.-1"])
async def test_place_that_no_page_gave_is_a_bad_request(fleet: Fleet, before: str) -> None:
    assert (await fleet.http.get(PATH, params={"before": before})).status_code == 400


async def test_unknown_device_is_not_found(fleet: Fleet) -> None:
    assert (await fleet.http.get(PATH)).status_code == 404


async def test_reader_may_see_it(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    async with await bearer(fleet, Role.READER) as reader:
        assert (await reader.get(PATH)).status_code == 200
    fleet.http.headers.pop("authorization")
    assert (await fleet.http.get(PATH)).status_code == 401
