"""What the tests of renewal share: requests, and a barrier in the middle of one."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet import Certified, Fleet, Mqtt, device_csr
from fleetroot.storage import Transaction

ANSWERS = "$iothub/credentials/res/#"
ISSUE = "$iothub/credentials/POST/issueCertificate/"


def request(device_id: str = "dev-1", **fields: Any) -> bytes:
    return json.dumps({"id": device_id, "csr": device_csr("dev-1")[1], **fields}).encode()


async def renewed(mqtt: Mqtt, *, rid: str = "1") -> Certified:
    """Renews, and checks the two answers."""
    key, csr = device_csr("dev-1")
    body = json.dumps({"id": "dev-1", "csr": csr}).encode()
    assert (await mqtt.ask(ISSUE, body, rid=rid)).status == 202
    answer = await mqtt.answer()
    assert answer.status == 200, answer.body
    return Certified(tuple(base64.b64decode(der) for der in answer.body["certificates"]), key)


class Barrier:
    """Holds the unit of work that records a certificate until it is let go."""

    def __init__(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        self._store = fleet.server.store
        self._write = self._store.write
        self.reached = asyncio.Event()
        self._open = asyncio.Event()
        monkeypatch.setattr(self._store, "write", self._held)

    async def _held(self, unit: Callable[[Transaction], Any]) -> Any:
        if "_issue" in unit.__qualname__ or "_fail" in unit.__qualname__:
            self.reached.set()
            await self._open.wait()
        return await self._write(unit)

    def let_go(self) -> None:
        self._open.set()
