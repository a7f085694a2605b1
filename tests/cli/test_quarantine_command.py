"""`fleetroot quarantine`, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_tokens_and_audit import ok

from fleet import Fleet
from fleetroot import sas


@pytest.fixture
async def data(fleet: Fleet) -> Path:
    """Where the server is; two devices wait there."""
    key, _ = await fleet.enroll("gate", group=True, quarantine=True)
    for name in ("dev-1", "dev-2"):
        token = fleet.provisioning_token(name, sas.derive_device_key(key, name))
        await fleet.register(name, token=token)
    return fleet.server.settings.data


async def test_devices_are_listed_and_decided_about(data: Path) -> None:
    listed = await ok("quarantine", "list", data=data)
    assert all(name in listed.out for name in ("dev-1", "dev-2", "gate", "127.0.0.1"))
    assert max(map(len, listed.out.splitlines())) <= 80
    assert (await ok("quarantine", "reject", "dev-1", data=data)).out == "rejected: 1\n"
    rejected = await ok("quarantine", "list", "--rejected", "--json", data=data)
    assert [each["registrationId"] for each in json.loads(rejected.out)] == ["dev-1"]
    approved = await ok("quarantine", "approve", "--enrollment-group", "gate", data=data)
    assert approved.out == "approved: 1\n"
    assert "nobody waits" in (await ok("quarantine", "list", data=data)).out


async def test_explanation_says_that_a_device_waits(data: Path) -> None:
    assert "waits for approval" in (await ok("registration", "explain", "dev-1", data=data)).out
    await ok("quarantine", "reject", "dev-1", data=data)
    assert "rejected" in (await ok("registration", "explain", "dev-1", data=data)).out
