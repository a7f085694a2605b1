"""Incidents over the operator API, with devices that are connected meanwhile."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from test_roles import bearer

from fleet import Fleet, Refused
from fleetroot.access import Role

PATH = "/fleetroot/namespaces/default/incidents"


async def authority(fleet: Fleet) -> str:
    """The id of the CA that issues."""
    status = (await fleet.http.get("/fleetroot/status")).json()
    return str(status["policies"][0]["issuingAuthority"])


@pytest.fixture
async def issued(fleet: Fleet) -> dict[str, Any]:
    """The scope of three certificates."""
    for n in range(3):
        await fleet.provision(f"dev-{n}")
    return {"authority": await authority(fleet)}


async def done(fleet: Fleet, job: dict[str, Any]) -> dict[str, Any]:
    """The job, once it is over; the test moves the rounds."""
    for _ in range(100):
        await fleet.server.revocation_jobs.work()
        job = (await fleet.http.get(f"{PATH}/revocations/{job['id']}")).json()
        if job["state"] != "running":
            return job
    raise AssertionError("it does not end")


async def test_certificates_are_listed_in_pages(fleet: Fleet, issued: dict[str, Any]) -> None:
    first = (await fleet.http.post(f"{PATH}/certificates", json=issued | {"limit": 2})).json()
    rest = (
        await fleet.http.post(
            f"{PATH}/certificates", json=issued | {"limit": 2, "after": first["next"]}
        )
    ).json()
    names = [each["deviceId"] for each in first["value"] + rest["value"]]
    assert (names, rest["next"]) == (["dev-0", "dev-1", "dev-2"], None)
    assert first["value"][0]["enrollment"] == "group/default"


async def test_export_has_the_same_as_csv_and_as_json_lines(
    fleet: Fleet, issued: dict[str, Any]
) -> None:
    listed = (await fleet.http.post(f"{PATH}/certificates", json=issued)).json()["value"]
    lines = await fleet.http.post(f"{PATH}/export?format=jsonl", json=issued)
    table = await fleet.http.post(f"{PATH}/export?format=csv", json=issued)
    assert [json.loads(line) for line in lines.text.splitlines()] == listed
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert rows == [{k: v or "" for k, v in each.items()} for each in listed]
    assert table.headers["content-type"].startswith("text/csv")


async def test_enrollment_is_named_as_its_api_names_it(
    fleet: Fleet, issued: dict[str, Any]
) -> None:
    of_group = await fleet.http.post(f"{PATH}/certificates", json={"enrollmentGroup": "Default"})
    of_device = await fleet.http.post(f"{PATH}/certificates", json={"enrollment": "default"})
    assert len(of_group.json()["value"]) == 3
    assert of_device.json()["value"] == []


async def test_dry_run_revokes_nothing(fleet: Fleet, issued: dict[str, Any]) -> None:
    found = (await fleet.http.post(f"{PATH}/summary", json=issued)).json()
    assert found == {"certificates": 3, "toRevoke": 3, "revoked": 0, "expired": 0}
    assert (await fleet.http.post(f"{PATH}/summary", json=issued)).json() == found


async def test_connected_devices_lose_their_connections_and_do_not_come_back(
    fleet: Fleet,
) -> None:
    certified = {n: await fleet.provision(f"dev-{n}") for n in range(2)}
    live = {n: await fleet.connect(f"dev-{n}", certified[n]) for n in range(2)}
    scope = {"authority": await authority(fleet), "pace": 1000, "reason": "keyCompromise"}
    answer = await fleet.http.post(f"{PATH}/revocations", json=scope)
    assert answer.status_code == 201
    job = await done(fleet, answer.json())
    assert (job["state"], job["revoked"], job["toRevoke"]) == ("done", 2, 2)
    for n in range(2):
        await live[n].wait_closed()
        with pytest.raises(Refused):
            await fleet.connect(f"dev-{n}", certified[n])
    listed = (await fleet.http.post(f"{PATH}/certificates", json=scope_only(scope))).json()
    assert {each["revocationReason"] for each in listed["value"]} == {"keyCompromise"}


def scope_only(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("pace", "reason")}


async def test_server_goes_on_by_itself_after_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with Fleet.running(data) as fleet:
        for n in range(3):
            await fleet.provision(f"dev-{n}")
        scope = {"authority": await authority(fleet), "pace": 1}
        job = (await fleet.http.post(f"{PATH}/revocations", json=scope)).json()
    async with Fleet.running(data) as fleet:
        for _ in range(3):
            await fleet.server.revocation_jobs.work()
        await fleet.server.revocation_jobs.work()
        over = (await fleet.http.get(f"{PATH}/revocations/{job['id']}")).json()
        assert (over["state"], over["revoked"]) == ("done", 3)


async def test_revocation_can_be_cancelled(fleet: Fleet, issued: dict[str, Any]) -> None:
    job = (await fleet.http.post(f"{PATH}/revocations", json=issued | {"pace": 1})).json()
    cancelled = (await fleet.http.post(f"{PATH}/revocations/{job['id']}/cancel")).json()
    assert cancelled["state"] == "cancelled"
    assert (await done(fleet, job))["revoked"] == cancelled["revoked"]
    [listed] = (await fleet.http.get(f"{PATH}/revocations")).json()["value"]
    assert listed["id"] == job["id"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"from": "2026-01-01T00:00:00Z"},
        {"authority": "x", "from": "2026-01-01T00:00:00"},
        {"enrollment": "a", "enrollmentGroup": "b"},
        {"devices": ["d"] * 1001},
        {"devices": [""]},
        {"devices": ["d"], "from": "0001-01-01T00:00:00+10:00"},  # not a time of UTC
        {"devices": ["d"], "from": 1},
        {"devices": ["d"], "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"devices": ["d"], "pace": 0},
        {"devices": ["d"], "reason": "because"},
        {"devices": ["d"], "unknown": True},
    ],
)
async def test_scope_that_makes_no_sense_is_a_bad_request(
    fleet: Fleet, body: dict[str, Any]
) -> None:
    assert (await fleet.http.post(f"{PATH}/revocations", json=body)).status_code == 400


@pytest.mark.parametrize("after", ["x", "1.", "1.x", "-1.-1", "9" * 40 + ".1", "1." + "9" * 30])
async def test_place_that_no_page_gave_is_a_bad_request(fleet: Fleet, after: str) -> None:
    body = {"devices": ["d"], "after": after}
    assert (await fleet.http.post(f"{PATH}/certificates", json=body)).status_code == 400


@pytest.mark.parametrize("job", ["none", "a/b"])
async def test_unknown_revocation_is_not_found(fleet: Fleet, job: str) -> None:
    assert (await fleet.http.get(f"{PATH}/revocations/{job}")).status_code == 404


async def test_reader_sees_and_revokes_nothing(fleet: Fleet, issued: dict[str, Any]) -> None:
    async with await bearer(fleet, Role.READER) as reader:
        assert (await reader.post(f"{PATH}/certificates", json=issued)).status_code == 200
        assert (await reader.post(f"{PATH}/revocations", json=issued)).status_code == 403
    async with await bearer(fleet, Role.CREDENTIALS_CONTRIBUTOR) as security:
        assert (await security.post(f"{PATH}/revocations", json=issued)).status_code == 201
