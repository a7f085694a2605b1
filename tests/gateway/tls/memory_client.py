"""A TLS client made of pyOpenSSL and a plain asyncio stream, which can also misbehave."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from OpenSSL import SSL, crypto

from .certificates import Credential, Key
from .service import Service


def client_ssl(
    credential: Credential | None = None, version: ssl.TLSVersion | None = None
) -> SSL.Context:
    """A client that trusts every server and takes any key."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(b"DEFAULT@SECLEVEL=0")
    if version:
        context.set_min_proto_version(version.value)
        context.set_max_proto_version(version.value)
    if credential:
        context.use_certificate(credential.certificate)
        context.use_privatekey(credential.key)
        for issuer in credential.issuers:
            context.add_extra_chain_cert(issuer)
    return context


def use_stolen_certificate(context: SSL.Context, victim: Credential) -> None:
    """Shows the victim's certificate and signs with another key.

    OpenSSL compares the public halves only, so a private key is made that claims the victim's.
    """
    mine = ec.generate_private_key(ec.SECP384R1())
    forged = _sec1(mine).replace(_point(mine), _point(victim.key))
    context.use_certificate(victim.certificate)
    with pytest.warns(DeprecationWarning, match="PKey"):
        context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_ASN1, forged))


def _sec1(key: ec.EllipticCurvePrivateKey) -> bytes:
    traditional = PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.DER, traditional, NoEncryption())


def _point(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


class MemoryClient:
    """One connection."""

    def __init__(
        self, context: SSL.Context, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.ssl = SSL.Connection(context)
        self.ssl.set_connect_state()
        self.ssl.set_tlsext_host_name(b"localhost")

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, service: Service, context: SSL.Context, *, session: SSL.Session | None = None
    ) -> AsyncIterator[MemoryClient]:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        client = cls(context, reader, writer)
        if session is not None:
            client.ssl.set_session(session)
        try:
            async with asyncio.timeout(10):
                await client.handshake()
            yield client
        finally:
            writer.close()

    def flight(self) -> bytes:
        """What OpenSSL wants to send."""
        try:
            return self.ssl.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""

    async def handshake(self) -> None:
        while True:
            try:
                self.ssl.do_handshake()
            except SSL.WantReadError:
                await self._exchange()
            else:
                self.writer.write(self.flight())
                return

    async def _exchange(self) -> None:
        self.writer.write(self.flight())
        received = await self.reader.read(65536)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        self.ssl.bio_write(received)

    def send(self, data: bytes) -> None:
        self.ssl.sendall(data)
        self.writer.write(self.flight())

    async def read(self) -> bytes:
        """The next plaintext; empty after close_notify."""
        async with asyncio.timeout(10):
            while True:
                try:
                    return self.ssl.recv(65536)
                except SSL.ZeroReturnError:
                    return b""
                except SSL.WantReadError:
                    await self._exchange()

    async def echo(self, data: bytes) -> None:
        self.send(data)
        received = b""
        while len(received) < len(data):
            piece = await self.read()
            assert piece
            received += piece
        assert received == data
