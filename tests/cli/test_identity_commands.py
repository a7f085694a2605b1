"""`fleetroot hub identity`, as people type it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from test_hub_commands import ok, refused, shown

from fleet import Fleet

PRINT = "AB" * 32
OF = ("hub", "identity")


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def test_device_connects_with_the_key_that_is_shown(data: Path, fleet: Fleet) -> None:
    made = await shown(*OF, "create", "dev-1", data=data)
    key = base64.b64decode(made["authentication"]["symmetricKey"]["primaryKey"])
    out = (await ok(*OF, "show", "dev-1", data=data)).out
    assert base64.b64encode(key).decode() in out
    assert all(len(line) <= 80 for line in out.splitlines())
    token = fleet.hub_token("dev-1", key)
    mqtt = await fleet.connect("dev-1", token=token)
    out = (await ok(*OF, "disable", "dev-1", "--reason", "stolen", data=data)).out
    assert "stolen" in out
    await mqtt.wait_closed()
    await ok(*OF, "enable", "dev-1", data=data)
    async with await fleet.connect("dev-1", token=token):
        assert "connected" in (await ok(*OF, "list", data=data)).out


async def test_identity_is_created_by_every_kind_of_proof(data: Path) -> None:
    await ok(*OF, "create", "own-1", "--thumbprint", PRINT, "--thumbprint", PRINT, data=data)
    await ok(*OF, "create", "ca-1", "--certificate-authority", "--disabled", data=data)
    listed = await shown(*OF, "list", data=data)
    seen = [(each["deviceId"], each["status"], each["authentication"]["type"]) for each in listed]
    assert seen == [
        ("ca-1", "disabled", "certificateAuthority"),
        ("own-1", "enabled", "selfSigned"),
    ]
    assert "exists already" in await refused(*OF, "create", "ca-1", data=data)


async def test_list_goes_on_behind_an_id(data: Path) -> None:
    for device in "a", "b", "c":
        await ok(*OF, "create", device, data=data)
    listed = await shown(*OF, "list", "--after", "A", "--limit", "1", data=data)
    assert [each["deviceId"] for each in listed] == ["b"]


async def test_module_is_created_listed_and_deleted(data: Path) -> None:
    await ok(*OF, "create", "dev-1", data=data)
    made = await shown(*OF, "create", "dev-1", "--module", "mod-1", data=data)
    assert made["moduleId"] == "mod-1"
    assert "mod-1" in (await ok(*OF, "list", "--modules-of", "dev-1", data=data)).out
    assert "Module" in (await ok(*OF, "show", "dev-1", "--module", "mod-1", data=data)).out
    await ok(*OF, "delete", "dev-1", "--module", "mod-1", data=data)
    assert await shown(*OF, "list", "--modules-of", "dev-1", data=data) == []
    await ok(*OF, "delete", "dev-1", data=data)
    assert "no device dev-1" in await refused(*OF, "show", "dev-1", data=data)
