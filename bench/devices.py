"""Devices of the load generator, and the kinds of line that they have to a server."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from websockets import Subprotocol
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.uri import parse_uri

from bench.floor import client_context, make_csr, to_pem
from bench.tpm import Tpm, new_token
from fleetroot.gateway.mqtt import (
    Connack,
    ConnackCode,
    Connect,
    Decoder,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    encode,
)

_API_VERSION = "2026-11-01"
_ANSWERS = "$dps/registrations/res/#"
_REPORT = "$iothub/twin/PATCH/properties/reported/"
_BODY = bytes(100)
_PACKET_IDS = 60_000
_REGISTER = "$dps/registrations/PUT/iotdps-register/?$rid=1"


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server is dialled."""

    address: str
    port: int
    host_name: str


class ComeBack(Exception):
    """The server told a device to come back later.

    Attributes:
        seconds: after how long; None: it did not say.
    """

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(f"come back in {seconds} s")
        self.seconds = seconds


class Device:
    """One device: a key and a CSR, made beforehand, and what it attests with.

    Attributes:
        onboarding: what it dials the provisioning service with.
        token: of a symmetric key, or of the last answer of its TPM; without it, nothing is sent.
        tpm: the keys of its TPM.
        context: what it dials its hub with, once it has its operational certificate.
    """

    def __init__(
        self,
        bootstrap: dict[str, Any],
        device_id: str,
        key: ec.EllipticCurvePrivateKey,
        stranger: ssl.SSLContext,
    ) -> None:
        self.id = device_id
        self.key = key
        self.scope = bootstrap["provisioning"]["idScope"]
        self.hub = bootstrap["hub"]["hostName"]
        self.resource = f"{self.scope}/registrations/{device_id}"
        self.onboarding = stranger
        self.token: str | None = None
        self.tpm: Tpm | None = None
        self.context: ssl.SSLContext | None = None
        self._asked = {"registrationId": device_id, "csr": make_csr(device_id, key)}

    @property
    def body(self) -> str:
        """Of its registration, JSON."""
        told = {} if self.tpm is None else {"tpm": self.tpm.told}
        return json.dumps(self._asked | told)

    def certify(self, state: dict[str, Any], trust: str) -> None:
        """Takes the operational certificate out of a registration; sends the leaf only."""
        leaf = x509.load_der_x509_certificate(base64.b64decode(state["issuedCertificateChain"][0]))
        self.context = client_context(trust, to_pem(self.key, leaf))


class ProvisioningLine(Protocol):
    """A connection on which a device registers, as often as it likes."""

    async def register(self, device: Device) -> dict[str, Any]:
        """The registration state."""
        ...

    def close(self) -> None: ...


class WebSocketStream:
    """A WebSocket as a stream of bytes, both its reader and its writer; a write is a message."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, door: Door
    ) -> None:
        self._reader = reader
        self._writer = writer
        uri = parse_uri(f"wss://{door.host_name}:{door.port}/$iothub/websocket")
        self._protocol = ClientProtocol(uri, subprotocols=[Subprotocol("mqtt")])

    @classmethod
    async def open(cls, door: Door, context: ssl.SSLContext) -> Self:
        """Dials, and shakes hands."""
        stream = cls(*await _dial(door, context), door)
        stream._protocol.send_request(stream._protocol.connect())
        stream._flush()
        while not stream._protocol.events_received():
            stream._protocol.receive_data(await stream._reader.readuntil(b"\r\n\r\n"))
        assert stream._protocol.handshake_exc is None
        return stream

    async def read(self, size: int) -> bytes:
        while True:
            data = b"".join(
                each.data for each in self._protocol.events_received() if isinstance(each, Frame)
            )
            if data:
                return data
            received = await self._reader.read(size)
            if not received:
                return b""
            self._protocol.receive_data(received)

    def write(self, data: bytes) -> None:
        self._protocol.send_binary(data)
        self._flush()

    def close(self) -> None:
        """Without a closing handshake, as a device that loses its network."""
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write(b"".join(self._protocol.data_to_send()))


class MqttLine:
    """A device's MQTT connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader | WebSocketStream,
        writer: asyncio.StreamWriter | WebSocketStream,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder(1024 * 1024)
        self._packets: list[Packet] = []
        self._commands = ""
        self._events = ""

    @classmethod
    async def to_provisioning(
        cls, door: Door, device: Device, source: str | None = None
    ) -> MqttLine:
        """Connects, from an address of this machine, and subscribes to the answers."""
        line = cls(*await _dial(door, device.onboarding, source))
        try:
            await line._begin(device)
        except BaseException:  # a device that has lost patience hangs up
            line.close()
            raise
        return line

    @classmethod
    async def over_websocket(cls, door: Door, device: Device) -> MqttLine:
        """The same over WebSocket."""
        stream = await WebSocketStream.open(door, device.onboarding)
        line = cls(stream, stream)
        await line._begin(device)
        return line

    @classmethod
    async def to_hub(cls, door: Door, device: Device) -> MqttLine:
        """Connects with the operational certificate; any broker takes this CONNECT."""
        assert device.context is not None
        line = cls(*await _dial(door, device.context))
        line._commands = f"devices/{device.id}/messages/devicebound/#"
        line._events = f"devices/{device.id}/messages/events/"
        username = f"{device.hub}/{device.id}/?api-version=2025-08-01-preview"
        await line._connect(
            Connect(device.id, clean_session=True, keep_alive=1000, username=username)
        )
        return line

    async def register(self, device: Device) -> dict[str, Any]:
        self._send(Publish(_REGISTER, device.body.encode(), 0, False, False, None))
        answer = await self._receive()
        assert isinstance(answer, Publish)
        if "/res/429/" in answer.topic or "/res/503/" in answer.topic:
            raise ComeBack(float(answer.topic.rpartition("retry-after=")[2]))
        assert "/res/200/" in answer.topic, answer.payload
        state: dict[str, Any] = json.loads(answer.payload)["registrationState"]
        return state

    async def listen(self) -> None:
        """Subscribes to the device's messages at QoS 1."""
        self._send(Subscribe(1, ((self._commands, 1),)))
        assert isinstance(await self._receive(), Suback)

    async def acknowledge(self) -> None:
        """Waits for a message, and acknowledges it."""
        message = await self._receive()
        assert isinstance(message, Publish)
        assert message.packet_id is not None
        self._send(Puback(message.packet_id))

    async def publish(self, count: int, window: int) -> list[float]:
        """Sends so many messages at QoS 1, `window` of them not acknowledged yet; the seconds that
        each took.
        """
        topic = f"{self._events}temperature=21"
        return await self._keep_asking(
            count, window, lambda number: Publish(topic, _BODY, 1, False, False, number), _packet_id
        )

    async def report(self, count: int, window: int) -> list[float]:
        """Sends so many patches of reported properties, `window` of them not answered yet."""
        self._send(Subscribe(1, (("$iothub/twin/res/#", 0),)))
        assert isinstance(await self._receive(), Suback)

        def patch(number: int) -> Publish:
            body = b'{"temperature":%d,"firmware":{"version":"1.2.3"}}' % (number % 50)
            return Publish(f"{_REPORT}?$rid={number}", body, 0, False, False, None)

        return await self._keep_asking(count, window, patch, _request_id)

    async def ping(self, count: int, _window: int) -> list[float]:
        """Says so many times that it is there; the seconds until each answer."""
        took: list[float] = []
        for _ in range(count):
            start = time.perf_counter()
            self._send(Pingreq())
            assert isinstance(await self._receive(), Pingresp)
            took.append(time.perf_counter() - start)
        return took

    async def _keep_asking(
        self,
        count: int,
        window: int,
        ask: Callable[[int], Publish],
        number_of: Callable[[Packet], int],
    ) -> list[float]:
        sent: dict[int, float] = {}
        took: list[float] = []
        numbers = iter(range(count))

        def send_one() -> None:
            number = next(numbers, None)
            if number is not None:
                place = number % _PACKET_IDS + 1
                sent[place] = time.perf_counter()
                self._send(ask(place))

        for _ in range(window):
            send_one()
        while len(took) < count:
            answer = await self._receive()
            took.append(time.perf_counter() - sent.pop(number_of(answer)))
            send_one()
        return took

    async def listen_to_methods(self) -> None:
        """Subscribes to direct methods."""
        self._send(Subscribe(1, (("$iothub/methods/POST/#", 1),)))
        assert isinstance(await self._receive(), Suback)

    async def answer(self) -> None:
        """Waits for the call of a method, and answers it with its payload."""
        call = await self._receive()
        assert isinstance(call, Publish)
        topic = f"$iothub/methods/res/200/?{call.topic.rpartition('?')[2]}"
        self._send(Publish(topic, call.payload, 0, False, False, None))

    def close(self) -> None:
        self._writer.close()

    async def _begin(self, device: Device) -> None:
        username = f"{device.resource}/api-version={_API_VERSION}"
        password = None if device.token is None else device.token.encode()
        await self._connect(Connect(device.id, username=username, password=password))
        self._send(Subscribe(1, ((_ANSWERS, 0),)))
        assert isinstance(await self._receive(), Suback)

    async def _connect(self, connect: Connect) -> None:
        self._send(connect)
        connack = await self._receive()
        assert isinstance(connack, Connack)
        if connack.code is ConnackCode.SERVER_UNAVAILABLE:
            raise ComeBack
        assert connack.code is ConnackCode.ACCEPTED, connack.code

    def _send(self, packet: Packet) -> None:
        self._writer.write(encode(packet))

    async def _receive(self) -> Packet:
        while not self._packets:
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._packets += self._decoder.feed(data)
        return self._packets.pop(0)


class HttpsLine:
    """A device's kept-alive HTTPS connection to the provisioning service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to_provisioning(cls, door: Door, device: Device) -> HttpsLine:
        """Connects; HTTP needs no more."""
        return cls(*await _dial(door, device.onboarding))

    async def register(self, device: Device) -> dict[str, Any]:
        status, answer = await self._ask(device)
        if status == 401 and device.tpm is not None:  # its challenge
            device.token = new_token(device.resource, device.tpm.open(answer["authenticationKey"]))
            status, answer = await self._ask(device)
        assert status == 200, answer
        state: dict[str, Any] = answer["registrationState"]
        return state

    async def _ask(self, device: Device) -> tuple[int, dict[str, Any]]:
        path = f"/{device.resource}/register?api-version={_API_VERSION}"
        proof = "" if device.token is None else f"Authorization: {device.token}\r\n"
        body = device.body
        self._writer.write(
            f"PUT {path} HTTP/1.1\r\nHost: localhost\r\n{proof}"
            "Content-Type: application/json\r\nConnection: keep-alive\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        answer = await self._reader.readexactly(int(fields["content-length"]))
        return int(head[0].split()[1]), json.loads(answer)

    def close(self) -> None:
        self._writer.close()


def _packet_id(packet: Packet) -> int:
    assert isinstance(packet, Puback), packet
    return packet.packet_id


def _request_id(packet: Packet) -> int:
    assert isinstance(packet, Publish), packet
    assert "/res/204/" in packet.topic, packet
    return int(packet.topic.partition("$rid=")[2].partition("&")[0])


async def publish_all(port: int, topics: Sequence[str], count: int, window: int) -> None:
    """Sends messages at QoS 1 to topics in turn, over one plain connection to a broker."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    decoder, done, sent = Decoder(1024 * 1024), -1, 0
    writer.write(encode(Connect("publisher")))
    while done < count:
        while done >= 0 and sent < min(count, done + window):
            topic, number = topics[sent % len(topics)], sent % _PACKET_IDS + 1
            writer.write(encode(Publish(topic, _BODY, 1, False, False, number)))
            sent += 1
        data = await reader.read(65536)
        assert data, "the broker closed the connection"
        done += len(decoder.feed(data))  # CONNACK, then a PUBACK for each
    writer.close()


async def _dial(
    door: Door, context: ssl.SSLContext, source: str | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        door.address,
        door.port,
        ssl=context,
        server_hostname=door.host_name,
        limit=64 * 1024,
        local_addr=None if source is None else (source, 0),
    )
