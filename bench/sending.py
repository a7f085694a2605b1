"""A server that sends to every device that listens, from within: what it costs to send over REST is
no part of what is measured.

Its data folder is on its command line. Then a line on stdin says how many messages to send, evenly;
a line on stdout tells that all of them were sent, delivered and acknowledged.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

import uvloop

from fleetroot.app import Server, quiet_collector
from fleetroot.errors import DeviceQueueFull
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import Channel
from fleetroot.settings import Settings
from fleetroot.storage import Query
from fleetroot.storage.schema import commands

_BODY: Final = bytes(100)
_AT_ONCE: Final = 64  # messages that are being sent; a device's queue takes 50
_BETWEEN_TRIES: Final = 0.002  # seconds, where a queue is full
_ANY: Final = Query(commands.select().with_only_columns(commands.c.seq).limit(1), int)


async def _send(server: Server, session: LiveSession) -> None:
    hub, key = session.principal.hub, session.principal.device_key
    message = server.hubs.commands.message(_BODY, {}, {})
    while True:
        try:
            await server.hubs.commands.send(hub, key, message)
        except DeviceQueueFull:
            await asyncio.sleep(_BETWEEN_TRIES)
        else:
            return


async def _send_all(server: Server, count: int) -> None:
    listening = [each for each in server.hubs.live if Channel.COMMANDS in each.subscriptions]
    due = [listening[number % len(listening)] for number in reversed(range(count))]

    async def sender() -> None:
        while due:
            await _send(server, due.pop())

    await asyncio.gather(*(sender() for _ in range(_AT_ONCE)))
    while await server.store.read(lambda tx: tx.first(_ANY)) is not None:
        await asyncio.sleep(_BETWEEN_TRIES)


async def _main() -> None:
    settings = Settings(
        data=Path(sys.argv[1]),
        mqtt_port=0,
        https_port=0,
        console_port=0,
        http_port=0,
        max_handshakes_per_source=100_000,
        requests_per_source=1_000_000,
        log_level="warning",
    )
    server = Server(settings)
    await server.start()
    quiet_collector()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    try:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await _send_all(server, int(line))
            print("done", flush=True)
    finally:
        await server.stop()


if __name__ == "__main__":
    uvloop.run(_main())
