"""Jobs with the unmodified Azure SDKs for Python and Node, over devices that answer."""

from __future__ import annotations

from typing import Any

from test_azure_iot_device import PYTHON
from test_azure_node_sdk import MODULES, NODE
from test_azure_service_clients import run
from test_method_clients import HERE, device, node_sdk, python_sdk

from fleet import Fleet

TWINS, METHODS = "scheduleUpdateTwin", "scheduleDeviceMethod"


async def ask(fleet: Fleet, *command: object) -> list[Any]:
    ca = fleet.bootstrap["serverCaFile"]
    return await run(
        *command,
        order={"connectionString": fleet.bootstrap["hub"]["connectionString"]},
        REQUESTS_CA_BUNDLE=ca,
        NODE_EXTRA_CA_CERTS=ca,
        NODE_PATH=str(MODULES),
    )


async def tags(fleet: Fleet) -> list[Any]:
    return [(await fleet.http.get(f"/twins/dev-{n}")).json()["tags"] for n in (1, 2)]


@python_sdk
async def test_python_service_makes_shows_and_cancels_jobs(public_fleet: Fleet) -> None:
    await public_fleet.provision("dev-2")
    async with device(public_fleet, PYTHON, HERE / "sdk_methods.py", websockets=False):
        found = await ask(public_fleet, PYTHON, HERE / "job_client.py")
    assert found == [
        ["twins", TWINS],
        ["twins", TWINS, "completed", [2, 2, 0]],
        ["methods", METHODS, "completed", [2, 1, 1]],
        ["later", TWINS, "scheduled", [0, 0, 0]],
        ["later", TWINS, "cancelled", [0, 0, 0]],
    ]
    assert await tags(public_fleet) == [{"site": "plant"}] * 2


@python_sdk
@node_sdk
async def test_node_service_makes_shows_lists_and_cancels_jobs(public_fleet: Fleet) -> None:
    await public_fleet.provision("dev-2")
    async with device(public_fleet, PYTHON, HERE / "sdk_methods.py", websockets=False):
        found = await ask(public_fleet, NODE, HERE / "node/job_service.js")
    assert found == [
        ["twins", TWINS, "completed", [2, 2, 0]],
        ["methods", METHODS, "completed", [2, 1, 1]],
        ["later", TWINS, "scheduled", [0, 0, 0]],
        ["later", TWINS, "cancelled", [0, 0, 0]],
        ["later", "twins"],
        [404, 409],
    ]
    assert await tags(public_fleet) == [{"site": "plant"}] * 2
