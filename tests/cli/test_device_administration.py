"""`fleetroot devices create` and `delete`, as people type them."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_authority_commands import ok, refused, shown

from fleet import Fleet


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def test_device_is_created_under_a_policy_and_comes(data: Path, fleet: Fleet) -> None:
    made = await shown("devices", "create", "dev-1", "--policy", "default", data=data)
    assert (made["deviceId"], made["enabled"], made["policy"]) == ("dev-1", True, "default")
    certified = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", certified)).close()
    found = await shown("devices", "show", "dev-1", data=data)
    assert found["uuid"] == made["uuid"]


async def test_device_that_is_created_disabled_is_refused(data: Path, fleet: Fleet) -> None:
    await ok("devices", "create", "dev-1", "--disabled", data=data)
    assert (await fleet.register("dev-1")).status == 401


async def test_device_that_is_there_is_not_created(data: Path, fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    assert "exists" in await refused("devices", "create", "dev-1", data=data)
    assert [c["status"] for c in await fleet.certificates()] == ["valid"]


async def test_device_is_deleted_with_its_certificates(data: Path, fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    await ok("devices", "delete", "dev-1", data=data)
    await mqtt.wait_closed()
    assert [c["status"] for c in await fleet.certificates()] == ["revoked"]
    assert "not registered" in await refused("devices", "delete", "dev-1", data=data)


async def test_commands_reach_the_namespace_that_is_named(data: Path, fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    await ok("namespace", "create", "plant", data=data)
    there = ("--namespace", "plant")
    made = await shown("device", "create", "dev-1", *there, data=data)
    [listed] = await shown("device", "list", *there, data=data)
    assert made["uuid"] == listed["uuid"]
    for command in ("show", "timeline", "explain", "disable", "enable", "revoke"):
        await ok("device", command, "dev-1", *there, data=data)
    assert await shown("certificates", "list", *there, data=data) == []
    [certificate] = await shown("certificates", "list", data=data)
    name = certificate["sha256"]
    assert "no certificate" in await refused("certificates", "show", name, *there, data=data)
    assert certificate["status"] == "valid"
    await ok("device", "delete", "dev-1", *there, data=data)
    assert [device["deviceId"] for device in await fleet.devices()] == ["dev-1"]
