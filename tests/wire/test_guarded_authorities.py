"""Revoking issuers and incidents and deleting a root CA, where a second person must approve."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from test_roles import bearer

from fleet import Fleet
from fleetroot.access import Role

INCIDENTS = "/fleetroot/namespaces/default/incidents"
REVOKE = "/fleetroot/namespaces/default/policies/default/revokeIssuer"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    guarded = ["revoke-issuer", "delete-authority", "revoke-incident"]
    async with Fleet.running(tmp_path / "data", second_person_for=guarded) as running:
        yield running


async def test_issuer_is_revoked_once_somebody_else_approved(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    answer = await fleet.http.post(REVOKE)
    assert answer.status_code == 403
    await (await fleet.connect("dev-1", certified)).close()
    [asked] = (await fleet.http.get("/fleetroot/approvals")).json()["value"]
    assert (asked["action"], asked["subject"]) == ("revoke-issuer", "policy/default/default")
    async with await bearer(fleet, Role.CREDENTIALS_CONTRIBUTOR) as second:
        await second.post(f"/fleetroot/approvals/{asked['id']}/approve")
    assert (await fleet.http.post(REVOKE)).status_code == 200
    assert (await fleet.http.post(REVOKE)).status_code == 403


async def test_root_ca_is_not_deleted_by_one_alone(fleet: Fleet) -> None:
    await fleet.http.put("/fleetroot/namespaces/plant", json={})
    path = "/fleetroot/namespaces/plant/credential"
    assert (await fleet.http.delete(path)).status_code == 403
    assert (await fleet.http.get(path)).status_code == 200


async def approve_all(fleet: Fleet) -> list[str]:
    """Has somebody else approve what waits; what that is about."""
    asked = (await fleet.http.get("/fleetroot/approvals")).json()["value"]
    waiting = [each for each in asked if each["status"] == "pending"]
    async with await bearer(fleet, Role.CREDENTIALS_CONTRIBUTOR) as second:
        for each in waiting:
            await second.post(f"/fleetroot/approvals/{each['id']}/approve")
    return [each["subject"] for each in waiting]


async def test_incident_is_revoked_once_somebody_else_approved(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    scope = {"devices": ["dev-1"], "reason": "keyCompromise"}
    path = INCIDENTS + "/revocations"
    assert (await fleet.http.post(path, json=scope)).status_code == 403
    assert (await fleet.http.get(path)).json()["value"] == []
    [subject] = await approve_all(fleet)
    assert subject.startswith("incident/default/devices=dev-1 reason=keyCompromise sha256=")
    assert (await fleet.http.post(path, json=scope | {"pace": 1})).status_code == 201
    assert (await fleet.http.post(path, json=scope)).status_code == 403


@pytest.mark.parametrize(
    "other",
    [
        {"devices": ["dev-1", "dev-3"]},
        {"devices": ["dev-1", "dev-2"], "from": "2026-01-01T00:00:00Z"},
        {"devices": ["dev-1", "dev-2"], "reason": "superseded"},
        {"enrollment": "dev-1"},
    ],
)
async def test_approval_is_good_for_the_certificates_that_were_approved_only(
    fleet: Fleet, other: dict[str, object]
) -> None:
    path = INCIDENTS + "/revocations"
    await fleet.http.post(path, json={"devices": ["dev-1", "dev-2"]})
    await approve_all(fleet)
    assert (await fleet.http.post(path, json=other)).status_code == 403


async def test_incident_that_cannot_be_is_not_asked_to_be_approved(fleet: Fleet) -> None:
    answer = await fleet.http.post(INCIDENTS + "/revocations", json={"authority": "none"})
    assert answer.status_code == 404
    assert await approve_all(fleet) == []


async def test_looking_into_an_incident_needs_nobody_else(fleet: Fleet) -> None:
    answer = await fleet.http.post(INCIDENTS + "/summary", json={"devices": ["dev-1"]})
    assert answer.status_code == 200
