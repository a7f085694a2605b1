"""A device that provisions by its certificate over any of the wires."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from fleet import PROVISIONING_VERSION, Certified, Fleet

WIRES = ("mqtt", "websocket", "https")
over_every_wire = pytest.mark.parametrize("wire", WIRES)


@dataclass(frozen=True)
class Outcome:
    """What a device was answered."""

    status: int
    body: Any

    @property
    def state(self) -> dict[str, Any]:
        """The registrationState of a device that was provisioned."""
        assert self.status == 200, self.body
        assert self.body["status"] == "assigned"
        state: dict[str, Any] = self.body["registrationState"]
        return state


async def register(
    fleet: Fleet,
    wire: str,
    registration_id: str,
    certified: Certified | None,
    *,
    token: bytes | None = None,
    version: str = PROVISIONING_VERSION,
    **body: Any,
) -> Outcome:
    """Registers a device that shows a certificate with its chain, or a token, or both."""
    said = {"registrationId": registration_id} | body
    if wire == "https":
        return await _over_https(fleet, registration_id, certified, token, version, said)
    fleet.devices_use_websocket = wire == "websocket"
    # Zero bytes: the flag of the password is set, as some libraries do.
    how = {"token": token or b"", "certified": certified, "version": version}
    answer = await fleet.register(registration_id, said, **how)
    return Outcome(answer.status, answer.body)


async def _over_https(
    fleet: Fleet,
    registration_id: str,
    certified: Certified | None,
    token: bytes | None,
    version: str,
    body: dict[str, Any],
) -> Outcome:
    async with https_device(fleet, certified, token) as device:
        answer = await device.put(
            f"/{fleet.id_scope}/registrations/{registration_id}/register",
            params={"api-version": version},
            content=json.dumps(body),
        )
    return Outcome(answer.status_code, answer.json())


def https_device(
    fleet: Fleet, certified: Certified | None, token: bytes | None = None
) -> httpx.AsyncClient:
    """A device's HTTPS client."""
    context = fleet.trust()
    if certified is not None:
        certified.load_into(context, whole_chain=True)
    return httpx.AsyncClient(
        base_url=f"https://{fleet.bootstrap['hostname']}:{fleet.bootstrap['httpsPort']}",
        headers={"authorization": token.decode()} if token else {},
        verify=context,
    )
