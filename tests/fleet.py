"""A running server for tests, and devices that speak its wires with the codec of our own.

The server is the whole program in this process and event loop, on free ports. Devices are real TLS
connections. What is tested against foreign clients (SDKs, paho, openssl) is in files of its own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import websockets.asyncio.client as websocket
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.exceptions import ConnectionClosed

import api_document
import database
from fleetroot import sas
from fleetroot.app import Server
from fleetroot.clock import Clock
from fleetroot.gateway.mqtt import (
    Connack,
    ConnackCode,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Puback,
    Publish,
    Suback,
    SubackCode,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
    encode,
)
from fleetroot.settings import Settings

SECONDS = 10.0  # that a test waits for what must come
# The first call builds the APIs, which takes a busy machine longer than httpx waits by itself.
HTTP_SECONDS = 60.0
PROVISIONING_VERSION = "2026-11-01"
HUB_VERSION = "2025-08-01-preview"
_ANY_PORTS = {"mqtt_port": 0, "https_port": 0, "console_port": 0, "http_port": 0}


def device_csr(
    common_name: str,
    key: ec.EllipticCurvePrivateKey | None = None,
    curve: ec.EllipticCurve | None = None,
) -> tuple[ec.EllipticCurvePrivateKey, str]:
    """A key and a CSR for it, base64 of DER."""
    key = key or ec.generate_private_key(curve or ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA384())
    return key, base64.b64encode(csr.public_bytes(Encoding.DER)).decode()


@dataclass(frozen=True)
class Certified:
    """A device's operational certificate: the leaf and its chain (DER), and its key."""

    chain: tuple[bytes, ...]
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.chain[0])

    def load_into(self, context: ssl.SSLContext, *, whole_chain: bool = False) -> None:
        """Makes a TLS client show the certificate."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for der in self.chain if whole_chain else self.chain[:1]:
            pem += x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        context.set_ciphers("DEFAULT@SECLEVEL=0")  # what is weak is for the server to refuse
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)


class Refused(Exception):
    """CONNECT was refused."""

    def __init__(self, code: ConnackCode) -> None:
        super().__init__(code.name)
        self.code = code


class Closed(Exception):
    """The server closed the connection."""


@dataclass(frozen=True)
class Answer:
    """An answer on a `$dps` or `$iothub` topic."""

    topic: str
    status: int
    query: dict[str, str]
    body: Any

    @property
    def error_code(self) -> int:
        return int(self.body["errorCode"])


class WebSocketStream:
    """A WebSocket as a stream of bytes, both its reader and its writer: what is written between two
    turns of the loop is one message.
    """

    def __init__(self, websocket: websocket.ClientConnection) -> None:
        self.websocket = websocket
        self._written = bytearray()

    async def read(self, _: int) -> bytes:
        try:
            data = await self.websocket.recv()
        except ConnectionClosed:
            return b""
        assert isinstance(data, bytes)
        return data

    def write(self, data: bytes) -> None:
        self._written += data

    async def drain(self) -> None:
        data, self._written = bytes(self._written), bytearray()
        try:
            await self.websocket.send(data)
        except ConnectionClosed as closed:
            raise ConnectionResetError from closed

    def close(self) -> None:
        """`wait_closed` closes."""

    async def wait_closed(self) -> None:
        await self.websocket.close()


class Mqtt:
    """One device's MQTT connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader | WebSocketStream,
        writer: asyncio.StreamWriter | WebSocketStream,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = Decoder(1024 * 1024)
        self._packets: list[Packet] = []
        self._messages: list[Publish] = []
        self._packet_id = 0
        self.session_present = False

    def next_id(self) -> int:
        self._packet_id += 1
        return self._packet_id

    async def send(self, *packets: Packet) -> None:
        self.writer.write(b"".join(encode(packet) for packet in packets))
        await self.writer.drain()

    async def receive(self) -> Packet:
        """The next packet.

        Raises:
            Closed: there is none any more.
        """
        while not self._packets:
            try:
                async with asyncio.timeout(SECONDS):
                    data = await self.reader.read(65536)
            except (ConnectionError, ssl.SSLError) as error:
                raise Closed from error
            if not data:
                raise Closed
            self._packets += self._decoder.feed(data)
        packet = self._packets.pop(0)
        if isinstance(packet, Publish) and packet.qos == 1:
            assert packet.packet_id is not None
            await self.send(Puback(packet.packet_id))
        return packet

    async def expect(self, kind: type[Packet]) -> Any:
        """The next packet that is no message; messages on the way are kept for `message`."""
        while True:
            packet = await self.receive()
            if isinstance(packet, Publish) and kind is not Publish:
                self._messages.append(packet)
                continue
            assert isinstance(packet, kind), packet
            return packet

    async def message(self) -> Publish:
        """The next message."""
        if self._messages:
            return self._messages.pop(0)
        message = await self.expect(Publish)
        assert isinstance(message, Publish)
        return message

    async def connect(self, connect: Connect) -> None:
        """Raises:
        Refused: by CONNACK.
        """
        await self.send(connect)
        connack: Connack = await self.expect(Connack)
        if connack.code is not ConnackCode.ACCEPTED:
            raise Refused(connack.code)
        self.session_present = connack.session_present

    async def subscribe(self, *filters: str, qos: int = 0) -> tuple[SubackCode, ...]:
        packet_id = self.next_id()
        await self.send(Subscribe(packet_id, tuple((f, qos) for f in filters)))
        suback: Suback = await self.expect(Suback)
        assert suback.packet_id == packet_id
        return suback.codes

    async def unsubscribe(self, *filters: str) -> None:
        await self.send(Unsubscribe(self.next_id(), filters))
        await self.expect(Unsuback)

    async def publish(self, topic: str, payload: bytes = b"", qos: int = 1) -> None:
        """Publishes; at QoS 1, waits until it is acknowledged."""
        packet_id = self.next_id() if qos else None
        await self.send(Publish(topic, payload, qos, False, False, packet_id))
        if qos:
            puback: Puback = await self.expect(Puback)
            assert puback.packet_id == packet_id

    async def ask(self, topic: str, payload: bytes = b"", *, rid: str = "1") -> Answer:
        """Publishes a request and waits for its answer."""
        await self.publish(f"{topic}?$rid={rid}", payload, qos=0)
        answer = await self.answer()
        assert answer.query["$rid"] == rid
        return answer

    async def answer_to(self, topic: str, payload: bytes = b"") -> Answer:
        """Like `ask`, with the query already in the topic."""
        await self.publish(topic, payload, qos=0)
        return await self.answer()

    async def answer(self) -> Answer:
        """The next answer."""
        message = await self.message()
        path, _, tail = message.topic.rpartition("/?")
        query = dict(part.split("=", 1) for part in tail.split("&"))
        status = int(path.rpartition("/")[2])
        body = json.loads(message.payload) if message.payload else None
        return Answer(message.topic, status, query, body)

    async def wait_closed(self) -> None:
        """Waits until the server closes the connection; messages on the way are dropped."""
        try:
            while True:
                await self.receive()
        except Closed:
            return

    async def close(self) -> None:
        try:
            await self.send(Disconnect())
            self.writer.close()
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@dataclass
class Fleet:
    """A running server and its bootstrap file."""

    server: Server
    bootstrap: dict[str, Any]
    devices_use_websocket: bool = False  # and otherwise the MQTT port
    _http: httpx.AsyncClient | None = field(default=None)

    @classmethod
    @asynccontextmanager
    async def running(
        cls, data: Path, *, clock: Clock | None = None, **settings: Any
    ) -> AsyncIterator[Self]:
        if not data.exists():
            data.mkdir(mode=0o700, parents=True)
        own = {"database_url": database.url_of(data), "drain_seconds": 0.5}
        server = Server(
            Settings(data=data, **(_ANY_PORTS | own | settings)),
            clock,
        )
        try:
            await server.start()
            bootstrap = json.loads((data / "bootstrap.json").read_text())
            fleet = cls(server, bootstrap)
            try:
                yield fleet
            finally:
                if fleet._http is not None:
                    await fleet._http.aclose()
        finally:
            await server.stop()

    # --- names

    @property
    def id_scope(self) -> str:
        return str(self.bootstrap["provisioning"]["idScope"])

    @property
    def hub_host(self) -> str:
        return str(self.bootstrap["hub"]["hostName"])

    @property
    def group_key(self) -> bytes:
        return base64.b64decode(self.bootstrap["enrollmentGroup"]["primaryKey"])

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.bootstrap["serverCaFile"])

    @property
    def http(self) -> httpx.AsyncClient:
        """The operator's HTTPS client, which takes no answer that the API's description has not."""
        if self._http is None:
            self._http = httpx.AsyncClient(
                base_url=f"https://{self.bootstrap['hostname']}:{self.bootstrap['httpsPort']}",
                headers={"authorization": f"Bearer {self.bootstrap['adminToken']}"},
                verify=self.trust(),
                timeout=HTTP_SECONDS,
                event_hooks={"response": [api_document.check]},
            )
        return self._http

    # --- tokens

    def device_key(self, registration_id: str) -> bytes:
        """The key that the group `default` gives a device."""
        return sas.derive_device_key(self.group_key, registration_id)

    def provisioning_token(
        self,
        registration_id: str,
        key: bytes | None = None,
        *,
        resource: str | None = None,
        expires_in: timedelta = timedelta(hours=1),
    ) -> bytes:
        return sas.sign_token(
            resource or f"{self.id_scope}/registrations/{registration_id}",
            key or self.device_key(registration_id),
            self.server.clock.now() + expires_in,
            "registration",
        ).encode()

    def hub_token(
        self, device_id: str, key: bytes, expires_in: timedelta = timedelta(hours=1)
    ) -> bytes:
        return sas.sign_token(
            f"{self.hub_host}/devices/{device_id}", key, self.server.clock.now() + expires_in
        ).encode()

    # --- connections

    async def tls(self, certified: Certified | None = None, *, whole_chain: bool = False) -> Mqtt:
        """A TLS connection to the MQTT port, or a WebSocket, with no CONNECT yet."""
        context = self.trust()
        if certified is not None:
            certified.load_into(context, whole_chain=whole_chain)
        if self.devices_use_websocket:
            stream = WebSocketStream(await self.websocket(context))
            return Mqtt(stream, stream)
        reader, writer = await asyncio.open_connection(
            self.bootstrap["bind"],
            self.bootstrap["mqttPort"],
            ssl=context,
            server_hostname=self.bootstrap["hostname"],
        )
        return Mqtt(reader, writer)

    async def websocket(
        self, context: ssl.SSLContext | None = None, path: str = "/$iothub/websocket", **how: Any
    ) -> websocket.ClientConnection:
        """A WebSocket to the HTTPS port."""
        how = {"subprotocols": ["mqtt"], "compression": None} | how
        return await websocket.connect(
            f"wss://{self.bootstrap['hostname']}:{self.bootstrap['httpsPort']}{path}",
            ssl=context or self.trust(),
            host=self.bootstrap["bind"],
            max_size=None,
            **how,
        )

    async def attach(self, connect: Connect, certified: Certified | None = None) -> Mqtt:
        """A connection with a CONNECT of any content.

        Raises:
            Refused: by CONNACK.
        """
        mqtt = await self.tls(certified)
        try:
            await mqtt.connect(connect)
        except BaseException:
            await mqtt.close()
            raise
        return mqtt

    async def provisioning(
        self,
        registration_id: str,
        *,
        token: bytes | None = None,
        certified: Certified | None = None,
        id_scope: str | None = None,
        version: str = PROVISIONING_VERSION,
        subscribe: bool = True,
    ) -> Mqtt:
        """A connection to the provisioning service.

        Raises:
            Refused: by CONNACK.
        """
        mqtt = await self.tls(certified, whole_chain=True)
        scope = id_scope or self.id_scope
        if token is None and certified is None:
            token = self.provisioning_token(registration_id)
        try:
            await mqtt.connect(
                Connect(
                    registration_id,
                    username=f"{scope}/registrations/{registration_id}/api-version={version}",
                    password=token,
                )
            )
        except BaseException:
            await mqtt.close()
            raise
        if subscribe:
            await mqtt.subscribe("$dps/registrations/res/#", qos=1)
        return mqtt

    async def register(
        self, registration_id: str, body: dict[str, Any] | None = None, **how: Any
    ) -> Answer:
        """Registers a device over a connection of its own; returns the answer."""
        async with await self.provisioning(registration_id, **how) as mqtt:
            return await mqtt.ask(
                "$dps/registrations/PUT/iotdps-register/",
                json.dumps({"registrationId": registration_id} | (body or {})).encode(),
            )

    async def provision(self, registration_id: str, **how: Any) -> Certified:
        """Provisions a device with a CSR, and returns its certificate."""
        key, csr = device_csr(registration_id)
        answer = await self.register(registration_id, {"csr": csr}, **how)
        assert answer.status == 200, answer.body
        chain = answer.body["registrationState"]["issuedCertificateChain"]
        return Certified(tuple(base64.b64decode(der) for der in chain), key)

    async def connect(
        self,
        device_id: str,
        certified: Certified | None = None,
        *,
        token: bytes | None = None,
        clean_session: bool = True,
        will: Will | None = None,
        keep_alive: int = 60,
        version: str = HUB_VERSION,
        host: str | None = None,
        whole_chain: bool = False,
    ) -> Mqtt:
        """A connection to the hub.

        Raises:
            Refused: by CONNACK.
        """
        mqtt = await self.tls(certified, whole_chain=whole_chain)
        try:
            await mqtt.connect(
                Connect(
                    device_id,
                    clean_session=clean_session,
                    keep_alive=keep_alive,
                    username=f"{host or self.hub_host}/{device_id}/?api-version={version}",
                    password=token,
                    will=will,
                )
            )
        except BaseException:
            await mqtt.close()
            raise
        return mqtt

    async def enroll(
        self,
        enrollment_id: str,
        *,
        group: bool = False,
        policy: str | None = None,
        again: bool = False,
        **more: Any,
    ) -> tuple[bytes, bytes]:
        """Creates an enrollment, or replaces its settings where it is there `again` and keeps its
        keys; returns its primary and secondary key.
        """
        path = "enrollmentGroups" if group else "enrollments"
        body = {"attestation": {"type": "symmetricKey"}, **more}
        if policy:
            body["credentialPolicyName"] = policy
        headers = {"if-match": "*"} if again else {}
        answer = await self.http.put(f"/{path}/{enrollment_id}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        keys = answer.json()["attestation"]["symmetricKey"]
        return base64.b64decode(keys["primaryKey"]), base64.b64decode(keys["secondaryKey"])

    async def events(self, **query: Any) -> list[dict[str, Any]]:
        """The newest events of the hub."""
        answer = await self.http.get("/fleetroot/events", params={"last": 100, **query})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["value"])

    async def certificates(self, device_id: str | None = None) -> list[dict[str, Any]]:
        """The inventory, newest first."""
        query = {"device": device_id} if device_id else {}
        answer = await self.http.get("/fleetroot/certificates", params=query)
        return list(answer.json()["value"])

    async def devices(self) -> list[dict[str, Any]]:
        """The registered devices."""
        return list((await self.http.get("/fleetroot/devices")).json()["value"])

    async def refusals(self) -> dict[str, int]:
        """How often each reason was given to the operator, by the metric."""
        text = (await self.http.get("/metrics")).text
        found = re.findall(
            r'^fleetroot_refusals_total\{.*reason="([^"]*)"\} ([0-9.]+)$', text, re.MULTILINE
        )
        return {reason: int(float(count)) for reason, count in found}

    # --- the database, past the wires

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """Every row of a table, as it is committed now."""
        return database.rows(self.server.settings.data, f"SELECT * FROM {table}")

    def messages(self) -> list[tuple[Any, ...]]:
        """The events that devices sent, as they are committed now."""
        query = "SELECT * FROM events WHERE kind = 'telemetry'"
        return database.rows(self.server.settings.data, query)

    def traces(self) -> dict[str, list[tuple[Any, ...]]]:
        """What provisioning leaves behind: nothing, when it refuses."""
        tables = ("devices", "certificates", "registrations", "identities", "twins", "outbox")
        return {table: self.rows(table) for table in tables}

    async def execute(self, sql: str) -> None:
        """Runs a statement on the server's database, through its store."""
        await self.server.store.write(lambda tx: tx._connection.execute(sql))  # type: ignore[attr-defined]


async def refusal(connecting: Awaitable[Mqtt]) -> ConnackCode:
    """The code with which CONNECT is refused; it must be."""
    try:
        mqtt = await connecting
    except Refused as refused:
        return refused.code
    await mqtt.close()
    raise AssertionError("the connection was accepted")


def utc_now() -> datetime:
    return datetime.now(UTC)
