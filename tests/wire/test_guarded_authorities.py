"""Revoking an issuer and deleting a root CA, where a second person must approve them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from test_roles import bearer

from fleet import Fleet
from fleetroot.access import Role

REVOKE = "/fleetroot/namespaces/default/policies/default/revokeIssuer"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    guarded = ["revoke-issuer", "delete-authority"]
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
