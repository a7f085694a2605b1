"""Queries by the unmodified service SDKs."""

from __future__ import annotations

from typing import Any

from test_azure_iot_device import PYTHON
from test_azure_node_sdk import MODULES, NODE
from test_azure_service_clients import run
from test_twin_clients import HERE, node_sdk, python_sdk

from fleet import Fleet

QUERY = "SELECT * FROM devices WHERE tags.row IN [0, 1, 2]"


async def pages(fleet: Fleet, *command: object) -> list[Any]:
    """Those of two queries, as an SDK sees them."""
    for number in range(4):
        await fleet.provision(f"dev-{number}")
        await fleet.http.patch(f"/twins/dev-{number}", json={"tags": {"row": number}})
    return await run(
        *command,
        order={
            "connectionString": fleet.bootstrap["hub"]["connectionString"],
            "queries": [[QUERY, 2], ["SELECT COUNT() AS n FROM devices", 10]],
        },
        NODE_PATH=str(MODULES),
        NODE_EXTRA_CA_CERTS=fleet.bootstrap["serverCaFile"],
        REQUESTS_CA_BUNDLE=fleet.bootstrap["serverCaFile"],
    )


@python_sdk
async def test_python_goes_through_pages(public_fleet: Fleet) -> None:
    twins, counted = await pages(public_fleet, PYTHON, HERE / "query_client.py")
    assert twins == {"type": "Twin", "pages": [["dev-0", "dev-1"], ["dev-2"]]}
    assert counted == {"type": "Raw", "pages": [[{"n": 4}]]}


@node_sdk
async def test_node_goes_through_pages(public_fleet: Fleet) -> None:
    twins, counted = await pages(public_fleet, NODE, HERE / "node" / "query.js")
    assert twins == [["dev-0", "dev-1"], ["dev-2"]]
    assert counted == [[{"n": 4}]]
