"""A webhook of a test's own: a real TLS server on a free port that answers what the test says,
byte for byte, so that it can lie, too.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    line: str
    headers: dict[str, str]
    body: bytes
    server_name: str | None

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


Answer = bytes | Callable[[Asked], "bytes | Awaitable[bytes]"]


def answer(body: Any = None, status: int = 200, **headers: str) -> bytes:
    """The bytes of an answer; a body that is no bytes is JSON."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    head = {"content-type": "application/json", "content-length": str(len(content))}
    head |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 {status} x\r\n{lines}\r\n".encode() + content


@dataclass
class WebhookServer:
    """A running server.

    Attributes:
        answers: one for each request; the last stays.
        asked: what came.
    """

    port: int
    ca: Path
    answers: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def running(
        cls, folder: Path, *names: str, tls: bool = True
    ) -> AsyncIterator[WebhookServer]:
        """Serves on 127.0.0.1 with a certificate for `names`, signed by itself."""
        context, ca = _certified(folder, names or ("localhost",))
        seen: dict[ssl.SSLObject, str | None] = {}

        def note(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            seen[connection] = name

        context.sni_callback = note
        made = cls(0, ca)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await made._serve(reader, writer, seen)
            except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context if tls else None)
        made.port = server.sockets[0].getsockname()[1]
        try:
            yield made
        finally:
            server.close()

    def url(self, host: str = "localhost", path: str = "/allocate") -> str:
        return f"https://{host}:{self.port}{path}"

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        seen: dict[ssl.SSLObject, str | None],
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.split("\r\n")[:-2]
        headers = {
            name.lower(): value for name, _, value in (field.partition(": ") for field in fields)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(line, headers, body, seen.get(writer.get_extra_info("ssl_object")))
        self.asked.append(asked)
        how = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(how):
            made = how(asked)
            how = made if isinstance(made, bytes) else await made
        writer.write(how)
        await writer.drain()


def _certified(folder: Path, names: tuple[str, ...]) -> tuple[ssl.SSLContext, Path]:
    folder.mkdir(exist_ok=True)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    hosts: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    hosts.append(x509.IPAddress(ip_address("127.0.0.1")))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    file, ca = folder / "webhook.pem", folder / "webhook-ca.pem"
    ca.write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + ca.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, ca
