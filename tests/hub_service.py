"""Services that speak to a hub: callers with a token of its shared access policies."""

from __future__ import annotations

from datetime import timedelta

import httpx

from fleet import HTTP_SECONDS, Fleet
from fleetroot import sas
from fleetroot.registry import shared_access
from fleetroot.registry.shared_access import Right


async def hub_token(fleet: Fleet, policy: str = "iothubowner", host: str | None = None) -> str:
    """A token that one of the hub's shared access policies signed."""
    server = fleet.server
    hub = await server.hub_access.addressed(host or fleet.hub_host)
    found = await server.hubs.shared_access_policy(hub, policy)
    assert found is not None
    return sas.sign_token(
        hub.host_name, found.primary_key, server.clock.now() + timedelta(hours=1), policy
    )


async def one_right_token(fleet: Fleet, right: Right) -> str:
    """A token of a policy that has this right alone."""
    server = fleet.server
    hub = await server.hub_access.addressed(fleet.hub_host)
    await server.store.write(
        lambda tx: shared_access.create(tx, server._sealer, hub.id, {"one": frozenset({right})})
    )
    return await hub_token(fleet, "one")


def hub_client(fleet: Fleet, token: str) -> httpx.AsyncClient:
    """A client of the hub's service API."""
    return httpx.AsyncClient(
        base_url=f"https://{fleet.bootstrap['hostname']}:{fleet.bootstrap['httpsPort']}",
        headers={"authorization": token},
        verify=fleet.trust(),
        timeout=HTTP_SECONDS,
    )
