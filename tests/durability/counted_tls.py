"""A device whose connection counts the bytes of TLS that came from the server.

An observer of the server's sockets sees ciphertext. Which of its writes carried an answer, the
device tells: everything that came after it asked, and nothing that came before.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from fleet import Certified, Fleet, Mqtt


class CountedTls:
    """TLS over a plain connection; both a reader and a writer for `Mqtt`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: ssl.SSLContext,
        hostname: str,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self.received = 0
        own, server = writer.get_extra_info("sockname")[1], writer.get_extra_info("peername")[1]
        self.connection: int = server * 65536 + own  # as `filetrace.c` names it

    async def handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
            else:
                await self.drain()
                return

    async def _exchange(self) -> None:
        """Takes one TLS record (RFC 8446 §5.1), and no byte of the next."""
        await self.drain()
        head = await self._reader.readexactly(5)
        record = head + await self._reader.readexactly(int.from_bytes(head[3:], "big"))
        self.received += len(record)
        self._incoming.write(record)

    async def read(self, most: int) -> bytes:
        while True:
            try:
                return self._tls.read(most)
            except ssl.SSLWantReadError:
                try:
                    await self._exchange()
                except asyncio.IncompleteReadError:
                    return b""

    def write(self, data: bytes) -> None:
        self._tls.write(data)

    async def drain(self) -> None:
        self._writer.write(self._outgoing.read())
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()

    async def wait_closed(self) -> None:
        await self._writer.wait_closed()


def counted(mqtt: Mqtt) -> CountedTls:
    """The TLS of a connection of a `CountedFleet`."""
    return cast("CountedTls", mqtt.reader)


class CountedFleet(Fleet):
    """A fleet whose devices count."""

    async def https(self) -> CountedTls:
        """A connection to the HTTPS port."""
        return await self._dial("httpsPort", self.trust())

    async def tls(self, certified: Certified | None = None, *, whole_chain: bool = False) -> Mqtt:
        context = self.trust()
        if certified is not None:
            certified.load_into(context, whole_chain=whole_chain)
        tls = await self._dial("mqttPort", context)
        return Mqtt(cast("asyncio.StreamReader", tls), cast("asyncio.StreamWriter", tls))

    async def _dial(self, port: str, context: ssl.SSLContext) -> CountedTls:
        reader, writer = await asyncio.open_connection(self.bootstrap["bind"], self.bootstrap[port])
        tls = CountedTls(reader, writer, context, self.bootstrap["hostname"])
        await tls.handshake()
        return tls
