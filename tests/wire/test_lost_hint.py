"""A revocation over the wire when the hint of it is lost: the outbox is read all the same."""

from __future__ import annotations

import time

import pytest

from fleet import Fleet, refusal
from fleetroot.gateway.mqtt import ConnackCode

# A second is promised, from the commit; a busy machine is given more to notice, and no more than a
# connection that nobody ended would need to show itself.
BOUND_SECONDS = 5.0


@pytest.mark.parametrize("what", ["revoke", "disable"])
async def test_connection_ends_within_the_interval_without_the_hint(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    hints: list[str] = []
    monkeypatch.setattr(fleet.server.registry._bus, "hint", hints.append)
    await fleet.http.post(f"/fleetroot/devices/dev-1/{what}")
    committed = time.monotonic()
    await mqtt.wait_closed()
    assert time.monotonic() - committed < BOUND_SECONDS
    assert hints == ["outbox"]  # it was given, and lost
    assert await refusal(fleet.connect("dev-1", certified)) is ConnackCode.NOT_AUTHORIZED
