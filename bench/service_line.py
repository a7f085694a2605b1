"""A service's kept-alive HTTPS connection to the hub's service API."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Self

from bench.devices import Door
from bench.floor import client_context

_BODY: Final = b'{"methodName":"reboot","payload":{"delay":3},"responseTimeoutInSeconds":60}'


class ServiceLine:
    """Asks one thing after the other."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._token = token

    @classmethod
    async def open(cls, door: Door, trust: str, bootstrap: dict[str, Any]) -> Self:
        """Connects, as the operator."""
        reader, writer = await asyncio.open_connection(
            door.address, door.port, ssl=client_context(trust), server_hostname=door.host_name
        )
        return cls(reader, writer, bootstrap["adminToken"])

    async def call_method(self, device_id: str) -> None:
        """Calls a method, and waits for the answer."""
        self._writer.write(
            f"POST /twins/{device_id}/methods?api-version=2021-04-12 HTTP/1.1\r\n"
            f"Host: localhost\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n".encode()
            + _BODY
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        answer = await self._reader.readexactly(length)
        assert head.startswith("http/1.1 200"), answer
