"""`fleetroot devices timeline`, as people type it."""

from __future__ import annotations

import json

from test_tokens_and_audit import ok

from fleet import Fleet


async def test_timeline_is_shown(fleet: Fleet) -> None:
    data = fleet.server.settings.data
    certified = await fleet.provision("dev-1")
    await (await fleet.connect("dev-1", certified)).close()
    fleet.server.hubs._connections.flush()
    told = json.loads((await ok("devices", "timeline", "dev-1", "--json", data=data)).out)
    assert [moment["kind"] for moment in told] == ["connected", "issued", "registered"]
    shown = (await ok("devices", "timeline", "dev-1", "--limit", "2", data=data)).out
    assert "connected" in shown
    assert "registered" not in shown
