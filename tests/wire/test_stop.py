"""SIGTERM's work: what was accepted is answered, and only then everything ends."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from fleet import Fleet
from fleetroot.gateway.mqtt import Puback, Publish, Will

TOPIC = "devices/dev-1/messages/events/"


class Gate:
    """Holds the store's commits until it is opened."""

    def __init__(self, store: Any) -> None:
        self._opened = threading.Event()
        self.reached = threading.Event()
        commit = store._commit

        def held(connection: Any) -> None:
            self.reached.set()
            assert self._opened.wait(10)
            commit(connection)

        store._commit = held

    def open(self) -> None:
        self._opened.set()


async def test_message_that_was_accepted_is_acknowledged_before_the_end(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", drain_seconds=5) as fleet:
        certified = await fleet.provision("dev-1")
        mqtt = await fleet.connect("dev-1", certified)
        gate = Gate(fleet.server.store)
        await mqtt.send(Publish(TOPIC, b"last", 1, False, False, 7))
        await asyncio.to_thread(gate.reached.wait, 10)
        stopping = asyncio.create_task(fleet.server.stop())
        await asyncio.sleep(0.05)
        gate.open()
        puback = await mqtt.expect(Puback)
        assert puback.packet_id == 7
        await mqtt.wait_closed()
        await stopping


async def test_request_that_was_accepted_is_answered_before_the_end(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data", drain_seconds=5) as fleet:
        request = asyncio.create_task(
            fleet.http.get("/fleetroot/events", params={"after": 0, "wait": 0.5})
        )
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(fleet.server.stop())
        assert (await request).status_code == 200
        await stopping


async def test_wills_are_for_devices_that_leave_not_for_a_server_that_does(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path / "data") as fleet:
        certified = await fleet.provision("dev-1")
        mqtt = await fleet.connect("dev-1", certified, will=Will(TOPIC, b"gone", 1, False))
        await fleet.server.stop()
        await mqtt.wait_closed()
    async with Fleet.running(tmp_path / "data") as fleet:
        assert await fleet.events() == []
