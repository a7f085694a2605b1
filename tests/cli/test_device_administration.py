"""`fleetroot devices create` and `delete`, as people type them."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_authority_commands import ok, refused, shown
from test_command_line import run

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


async def test_device_is_described_in_the_words_of_the_management_api(
    data: Path, fleet: Fleet
) -> None:
    said = ("--manufacturer", "Contoso", "--operating-system", "Linux", "--attribute", "line=7")
    await ok("device", "create", "dev-1", *said, "--tag", "site=yard", data=data)
    words = ("--manufacturer", "", "--operating-system-version", "6.1", "--external-device-id", "x")
    changed = await shown("device", "update", "dev-1", *words, "--disabled", data=data)
    assert changed == await shown("device", "update", "dev-1", "--disabled", data=data) | {
        name: changed[name] for name in ("etag", "version", "updatedAt")
    }
    there = await shown("namespace", "show", "default", data=data)
    path = (
        f"/subscriptions/{there['subscriptionId']}/resourceGroups/{there['resourceGroup']}"
        "/providers/Microsoft.DeviceRegistry/namespaces/default/devices/dev-1"
    )
    found = (await fleet.http.get(path, params={"api-version": "2025-10-01"})).json()
    properties = found["properties"]
    assert found["tags"] == {"site": "yard"}
    assert properties["enabled"] is False
    assert "manufacturer" not in properties
    for name, value in {
        "operatingSystem": "Linux",
        "operatingSystemVersion": "6.1",
        "externalDeviceId": "x",
        "attributes": {"line": "7"},
    }.items():
        assert properties[name] == changed[name] == value
    table = (await ok("devices", "show", "dev-1", data=data)).out
    assert "Operating system version  6.1" in table
    assert "site=yard" in table


async def test_tags_are_replaced_as_a_whole_or_removed(data: Path, fleet: Fleet) -> None:
    await ok("device", "create", "dev-1", "--tag", "a=1", "--tag", "b=2", data=data)
    changed = await shown("device", "update", "dev-1", "--tag", "c=3", data=data)
    assert changed["tags"] == {"c": "3"}
    assert (await shown("device", "update", "dev-1", "--tag", "", data=data))["tags"] == {}


async def test_older_version_of_a_device_is_not_changed(data: Path, fleet: Fleet) -> None:
    etag = (await shown("device", "create", "dev-1", data=data))["etag"]
    change = ("device", "update", "dev-1", "--if-match", etag, "--model")
    await ok(*change, "M1", data=data)
    assert "another version" in await refused(*change, "M2", data=data)


async def test_update_that_changes_nothing_is_a_usage_error(data: Path) -> None:
    assert (await run("device", "update", "dev-1", data=data)).code == 2
