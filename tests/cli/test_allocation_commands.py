"""`fleetroot provisioning-service region` and `webhook-secret`, as people type them."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_hub_commands import ok, refused, shown

from fleet import Fleet

PS = "provisioning-service"


@pytest.fixture
def data(fleet: Fleet) -> Path:
    return fleet.server.settings.data


async def test_region_is_put_listed_and_deleted(fleet: Fleet, data: Path) -> None:
    latency = f"{fleet.hub_host}=12"
    network = ("--network", "192.0.2.0/24", "--network", "2001:db8::/48")
    put = (PS, "region", "put", "default", "West Europe", *network, "--latency", latency)
    made = await shown(*put, data=data)
    assert made["networks"] == ["192.0.2.0/24", "2001:db8::/48"]
    listed = (await ok(PS, "region", "list", "default", data=data)).out
    assert "westeurope" in listed
    assert "12 ms" in listed
    await ok(PS, "region", "delete", "default", "westeurope", data=data)
    assert await shown(PS, "region", "list", "default", data=data) == []
    gone = await refused(PS, "region", "delete", "default", "westeurope", data=data)
    assert "has no region westeurope" in gone


async def test_secret_is_shown_and_rotated(data: Path) -> None:
    first = await shown(PS, "webhook-secret", "show", "default", data=data)
    rotate = (PS, "webhook-secret", "rotate", "default", "--key", "secondary")
    second = await shown(*rotate, data=data)
    assert second["primary"] == first["primary"]
    assert second["secondary"] != first["secondary"]
    assert second["secondary"] in (await ok(PS, "webhook-secret", "show", "default", data=data)).out
