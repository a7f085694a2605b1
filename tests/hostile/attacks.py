"""What attackers do: each attack is a function that does it once, and says how it was refused.

An attack ends in a word. `cut` is the server closing the connection, at the door or later; which,
and for what reason, its metrics say. Every attack says which words are a refusal, and by which
kinds and reasons the server must have counted it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from devices import REGISTER, Place, connect, provision
from fleet import Closed, Mqtt, Refused
from fleetroot.gateway.mqtt import Connect, Packet, Publish, Subscribe, encode

AT_ITS_PACE = "server unavailable"  # a device that connects too often
WAIT = 120.0  # seconds for what the server must do, on a machine that is busy
_WRONG_KEY = b"not the key that it should be..."


@dataclass
class Armory:
    """What attackers prepare once."""

    bootstrap: dict[str, Any]
    trust: ssl.SSLContext
    hello: bytes
    insiders: dict[str, ssl.SSLContext] = field(default_factory=dict)
    contexts: dict[str, ssl.SSLContext] = field(default_factory=dict)
    openssl: dict[int, SSL.Context] = field(default_factory=dict)

    @classmethod
    def stocked(cls, bootstrap: dict[str, Any]) -> Armory:
        trust = Place(bootstrap, "127.0.0.1").trust()
        outgoing = ssl.MemoryBIO()
        tls = trust.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=bootstrap["hostname"])
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        return cls(bootstrap, trust, outgoing.read())

    def openssl_context(self, version: int) -> SSL.Context:
        """Of a client that trusts everybody; sessions belong to one."""
        if version not in self.openssl:
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
            self.openssl[version] = context
        return self.openssl[version]

    async def insider(self, place: Place, name: str) -> ssl.SSLContext:
        """A device that holds good credentials and means ill."""
        if name not in self.insiders:
            self.insiders[name] = await provision(place, self.trust, name)
        return self.insiders[name]


Once = Callable[[Place, Armory, int], Awaitable[str]]


@dataclass(frozen=True)
class Attack:
    """One way to misbehave.

    Attributes:
        refusals: the words that say it was refused.
        allowed: others that may be among them.
        counted: the kinds and reasons of which each must have been counted, where every attempt is
            served and none is turned away at the door.
        at_once: how many attackers do it side by side.
        attempts: how often it is done to see what it costs; below what bars a source.
        warm_up: how often it is done before that, until all that is made once is made.
    """

    name: str
    once: Once
    refusals: frozenset[str]
    allowed: frozenset[str]
    counted: tuple[tuple[str, str], ...]
    at_once: int = 16
    attempts: int = 200
    warm_up: int = 1


ATTACKS: dict[str, Attack] = {}


def attack(
    *counted: tuple[str, str], refused: str = "cut", allowed: str = "", **more: int
) -> Callable[[Once], Once]:
    """Makes an attack of a function; its name is the function's."""

    def register(once: Once) -> Once:
        name = once.__name__.replace("_", " ")
        words = frozenset(refused.split("|")) | {"cut"}
        ATTACKS[name] = Attack(name, once, words, frozenset([allowed]), counted, **more)
        return once

    return register


async def until_cut(reader: asyncio.StreamReader) -> str:
    """Reads until the server closes."""
    try:
        async with asyncio.timeout(WAIT):
            while await reader.read(65536):
                pass
    except TimeoutError:
        return "left alone"
    except (ConnectionError, ssl.SSLError):
        pass
    return "cut"


def _word(refused: Refused) -> str:
    return refused.code.name.lower().replace("_", " ")


# --- TLS


@attack(("tls", "first-flight-timeout"), attempts=60, at_once=60)
async def silence(place: Place, _armory: Armory, _n: int) -> str:
    reader, _writer = await place.tcp()
    return await until_cut(reader)


@attack(("tls", "handshake-timeout"), attempts=60, at_once=60)
async def handshake_that_never_finishes(place: Place, armory: Armory, _n: int) -> str:
    reader, writer = await place.tcp()
    writer.write(armory.hello)
    return await until_cut(reader)


@attack(("tls", "first-flight-timeout"), attempts=60, at_once=60)
async def byte_by_byte(place: Place, armory: Armory, _n: int) -> str:
    reader, writer = await place.tcp()
    cut = asyncio.create_task(until_cut(reader))
    for byte in armory.hello[:-1]:
        if cut.done() or writer.is_closing():
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)
    return await cut


@attack(("tls", "too-many-steps"))
async def handshake_in_records_of_a_byte(place: Place, armory: Armory, _n: int) -> str:
    reader, writer = await place.tcp()
    for byte in armory.hello[5:105]:
        writer.write(b"\x16\x03\x01\x00\x01" + bytes([byte]))
        await asyncio.sleep(0.002)
    return await until_cut(reader)


@attack(("tls", "too-large"))
async def hundred_certificates(place: Place, armory: Armory, _n: int) -> str:
    if "hundred" not in armory.contexts:
        context = place.trust()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        pem, key = _chain(100)
        _load(context, pem + key)
        armory.contexts["hundred"] = context
    reader, writer = await place.tls(armory.contexts["hundred"])
    writer.write(b"x")
    return await until_cut(reader)


@attack(("connect", "certificate of a foreign CA"), refused="not authorized")
async def certificate_of_a_foreign_ca(place: Place, armory: Armory, _n: int) -> str:
    await armory.insider(place, "victim")
    if "foreign" not in armory.contexts:
        context = place.trust()
        pem, key = _chain(4)
        _load(context, pem + key)
        armory.contexts["foreign"] = context
    try:
        await connect(place, armory.contexts["foreign"], "victim")
    except Refused as refused:
        return _word(refused)
    return "let in"


@attack(("protocol", "gone without CONNECT"), refused="done")
async def handshake_and_go(place: Place, armory: Armory, _n: int) -> str:
    _reader, writer = await place.tls(armory.trust)
    writer.close()
    await writer.wait_closed()
    return "done"


@attack(("protocol", "gone without CONNECT"), refused="no renegotiation")
async def renegotiation(place: Place, armory: Armory, _n: int) -> str:
    context = armory.openssl_context(SSL.TLS1_2_VERSION)
    async with OpenSslPeer.connected(place, context) as peer:
        peer.ssl.renegotiate()
        try:
            await peer.handshake()
        except SSL.Error as error:
            return "no renegotiation" if "no renegotiation" in str(error) else f"{error}"
    return "renegotiated"


@attack(("protocol", "gone without CONNECT"), refused="full handshake")
async def resumption_in_tls_1_2(place: Place, armory: Armory, _n: int) -> str:
    return await _resume(place, armory.openssl_context(SSL.TLS1_2_VERSION))


@attack(("protocol", "gone without CONNECT"), refused="full handshake")
async def resumption_in_tls_1_3(place: Place, armory: Armory, _n: int) -> str:
    return await _resume(place, armory.openssl_context(SSL.TLS1_3_VERSION))


async def _resume(place: Place, context: SSL.Context) -> str:
    async with OpenSslPeer.connected(place, context) as first:
        if first.ssl.get_protocol_version_name() == "TLSv1.3":
            await first.leave()  # the tickets come with the answer
        session = first.ssl.get_session()
    async with OpenSslPeer.connected(place, context, session) as second:
        return "resumed" if second.was_resumed else "full handshake"


@attack(("protocol", "gone without CONNECT"), refused="served without it")
async def alpn_of_16_kb(place: Place, armory: Armory, _n: int) -> str:
    if "alpn" not in armory.contexts:
        context = place.trust()
        context.set_alpn_protocols([f"{number:0255}" for number in range(64)])
        armory.contexts["alpn"] = context
    _reader, writer = await place.tls(armory.contexts["alpn"])
    chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.close()
    await writer.wait_closed()
    return "served without it" if chosen is None else f"{chosen}"


@attack(("tls", "not-tls"))
async def plain_http(place: Place, _armory: Armory, _n: int) -> str:
    reader, writer = await place.tcp()
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    return await until_cut(reader)


class OpenSslPeer:
    """A client that can do what the standard library does not let it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: SSL.Context
    ) -> None:
        self.ssl = SSL.Connection(context)
        self.ssl.set_connect_state()
        self._reader = reader
        self._writer = writer

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(
        cls, place: Place, context: SSL.Context, session: SSL.Session | None = None
    ) -> AsyncIterator[OpenSslPeer]:
        peer = cls(*await place.tcp(), context)
        if session is not None:
            peer.ssl.set_session(session)
        try:
            await peer.handshake()
            yield peer
        finally:
            peer._writer.transport.abort()

    @property
    def was_resumed(self) -> bool:
        return bool(SSL._lib.SSL_session_reused(self.ssl._ssl))

    async def handshake(self) -> None:
        async with asyncio.timeout(WAIT):
            while True:
                try:
                    self.ssl.do_handshake()
                except SSL.WantReadError:
                    self._flush()
                    await self._fill()
                else:
                    self._flush()
                    return

    async def leave(self) -> None:
        """Says close_notify, and takes what is said in return."""
        self.ssl.shutdown()
        self._flush()
        await self._fill()
        with contextlib.suppress(SSL.ZeroReturnError):
            self.ssl.recv(65536)

    def _flush(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            self._writer.write(self.ssl.bio_read(1 << 20))

    async def _fill(self) -> None:
        data = await self._reader.read(65536)
        if not data:
            raise ConnectionResetError
        self.ssl.bio_write(data)


def _chain(length: int) -> tuple[bytes, bytes]:
    """A chain of one's own, leaf first, and the leaf's key; all PEM."""
    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(length)]
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"link {n} " + "x" * 50)])
        for n in range(length)
    ]
    pem = b""
    for n, key in enumerate(keys):
        above = min(n + 1, length - 1)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(names[n])
            .issuer_name(names[above])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(n > 0, None), critical=True)
            .sign(keys[above], hashes.SHA256())
        )
        pem += certificate.public_bytes(Encoding.PEM)
    return pem, keys[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


# --- MQTT, from nobody


async def _say(place: Place, armory: Armory, data: bytes) -> str:
    reader, writer = await place.tls(armory.trust)
    writer.write(data)
    outcome = await until_cut(reader)
    writer.transport.abort()
    return outcome


@attack(("protocol", "packet_type"))
async def mqtt_garbage(place: Place, armory: Armory, n: int) -> str:
    return await _say(place, armory, b"\xf0" + bytes((n + i) % 256 for i in range(1000)))


@attack(("protocol", "no CONNECT in time"), attempts=60, at_once=60)
async def mqtt_truncation(place: Place, armory: Armory, n: int) -> str:
    whole = encode(Connect("dev", username=f"{place.hub}/dev/?api-version=2021-04-12"))
    return await _say(place, armory, whole[: 1 + n % (len(whole) - 1)])


@attack(("protocol", "too_large"))
async def connect_of_256_mb(place: Place, armory: Armory, _n: int) -> str:
    return await _say(place, armory, b"\x10\xff\xff\xff\x7f" + bytes(1000))


@attack(("protocol", "first_packet"))
async def publish_before_connect(place: Place, armory: Armory, _n: int) -> str:
    return await _say(place, armory, encode(Publish("a", b"b")))


# --- MQTT, from somebody who knows the ID scope, which is no secret


async def _provisioning(place: Place, armory: Armory, *packets: Packet | bytes) -> str:
    mqtt = await place.provisioning(armory.trust, "stranger", place.token("stranger", _WRONG_KEY))
    mqtt.writer.write(b"".join(p if isinstance(p, bytes) else encode(p) for p in packets))
    outcome = await until_cut(mqtt.reader)
    mqtt.writer.transport.abort()
    return outcome


@attack(("provisioning", "gone without attesting"), refused="done")
async def connect_to_provision_and_go(place: Place, armory: Armory, _n: int) -> str:
    mqtt = await place.provisioning(armory.trust, "stranger", None)
    mqtt.writer.transport.abort()
    return "done"


@attack(("protocol", "qos_2"))
async def qos_2(place: Place, armory: Armory, _n: int) -> str:
    return await _provisioning(place, armory, Publish(REGISTER, b"", 2, False, False, 1))


@attack(("topic", "not a topic of provisioning"))
async def forbidden_topic_of_provisioning(place: Place, armory: Armory, _n: int) -> str:
    return await _provisioning(place, armory, Publish("devices/honest-1/messages/events/", b""))


@attack(("protocol", "too_large"))
async def packet_of_200_kb_to_provisioning(place: Place, armory: Armory, _n: int) -> str:
    return await _provisioning(place, armory, encode(Publish(REGISTER, bytes(200_000)))[:150_000])


@attack(("protocol", "too_many_filters"))
async def subscription_flood(place: Place, armory: Armory, _n: int) -> str:
    return await _provisioning(place, armory, Subscribe(9, (("a", 0),) * 20_000))


@attack(
    ("provisioning", "token signed with another key"),
    ("provisioning", "too many failed attestations"),
    attempts=30,
)
async def wrong_tokens(place: Place, armory: Armory, n: int) -> str:
    """Ten to a connection, which is then closed; in the name of honest devices."""
    name = f"honest-{n % 100}"
    mqtt = await place.provisioning(armory.trust, name, place.token(name, _WRONG_KEY))
    wrong = encode(Publish(f"{REGISTER}?$rid=1", b"{}"))
    mqtt.writer.write(wrong * 200)
    outcome = await until_cut(mqtt.reader)
    mqtt.writer.transport.abort()
    return outcome


@attack(
    ("connect", "no client certificate, and the identity is pinned to a policy"),
    refused="not authorized",
)
async def token_in_the_name_of_a_device(place: Place, armory: Armory, _n: int) -> str:
    name = "victim"
    await armory.insider(place, name)
    mqtt = Mqtt(*await place.tls(armory.trust))
    username = f"{place.hub}/{name}/?api-version=2021-04-12"
    try:
        await mqtt.connect(Connect(name, username=username, password=place.token(name, _WRONG_KEY)))
    except Refused as refused:
        return _word(refused)
    finally:
        mqtt.writer.transport.abort()
    return "let in"


# --- MQTT, from a device with good credentials


@attack(
    ("topic", "not a topic of this device"),
    allowed=AT_ITS_PACE,
    attempts=20,
    at_once=4,
    warm_up=20,
)
async def forbidden_topic(place: Place, armory: Armory, n: int) -> str:
    return await _insider(
        place,
        armory,
        f"insider-topic-{n % 20}",
        Publish("devices/honest-1/messages/events/", b"not mine"),
    )


@attack(
    ("topic", "not a filter of this device"),
    allowed=AT_ITS_PACE,
    attempts=20,
    at_once=4,
    warm_up=20,
)
async def forbidden_filter(place: Place, armory: Armory, n: int) -> str:
    return await _insider(place, armory, f"insider-filter-{n % 20}", Subscribe(1, (("#", 0),)))


async def _insider(place: Place, armory: Armory, name: str, packet: Packet) -> str:
    try:
        mqtt = await connect(place, await armory.insider(place, name), name)
    except Refused as refused:
        return _word(refused)
    await mqtt.send(packet)
    return await until_cut(mqtt.reader)


@attack(refused="left unread", attempts=10, at_once=10, warm_up=10)
async def slow_reader(place: Place, armory: Armory, n: int) -> str:
    """Asks for its twin again and again, and reads nothing."""
    name = f"insider-slow-{n % 10}"
    mqtt = await connect(place, await armory.insider(place, name), name)
    await mqtt.subscribe("$iothub/twin/res/#")
    mqtt.writer.transport.pause_reading()
    ask = encode(Publish("$iothub/twin/GET/?$rid=1", b"")) * 500
    try:
        async with asyncio.timeout(2):
            while True:
                mqtt.writer.write(ask)
                await mqtt.writer.drain()
    except TimeoutError:
        return "left unread"
    finally:
        mqtt.writer.transport.abort()


@attack(
    ("connect", "device connects too often"),
    refused=AT_ITS_PACE,
    allowed="let in",
    attempts=80,
)
async def reconnect_storm_of_one_device(place: Place, armory: Armory, _n: int) -> str:
    name = "insider-storm"
    try:
        await connect(place, await armory.insider(place, name), name)
    except Refused as refused:
        return _word(refused)
    return "let in"


# --- HTTPS


@attack(("http", "not HTTP"))
async def http_garbage(place: Place, armory: Armory, _n: int) -> str:
    reader, writer = await place.tls(armory.trust, place.https)
    writer.write(b"\x00\x01garbage\r\n\r\n" * 10)
    return await until_cut(reader)


@attack(("http", "head too large"))
async def http_head_of_100_kb(place: Place, armory: Armory, _n: int) -> str:
    reader, writer = await place.tls(armory.trust, place.https)
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * 100_000)
    return await until_cut(reader)


@attack(("http", "head too slow"), attempts=30, at_once=30)
async def http_head_that_never_ends(place: Place, armory: Armory, _n: int) -> str:
    reader, writer = await place.tls(armory.trust, place.https)
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n")
    return await until_cut(reader)


@attack(("provisioning", "token signed with another key"), refused="one answer")
async def wrong_tokens_over_https(place: Place, armory: Armory, n: int) -> str:
    """Twenty on one connection, which is closed after the first."""
    name = f"honest-{n % 100}"
    token = place.token(name, _WRONG_KEY).decode()
    reader, writer = await place.tls(armory.trust, place.https)
    request = (
        f"PUT /{place.scope}/registrations/{name}/register?api-version=2021-06-01 HTTP/1.1\r\n"
        f"host: localhost\r\nauthorization: {token}\r\ncontent-length: 0\r\n\r\n"
    ).encode()
    writer.write(request * 20)
    answers = b""
    async with asyncio.timeout(WAIT):
        while data := await reader.read(65536):
            answers += data
    writer.transport.abort()
    count = answers.count(b"HTTP/1.1 401 ")
    return {0: "cut", 1: "one answer"}.get(count, f"{count} answers")


@attack(("http", "UNAUTHORIZED"), refused="401")
async def wrong_operator_tokens(place: Place, armory: Armory, n: int) -> str:
    reader, writer = await place.tls(armory.trust, place.https)
    writer.write(
        b"GET /fleetroot/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"authorization: Bearer guess-%d\r\n\r\n" % n
    )
    line = await reader.readline()
    writer.transport.abort()
    return line.split()[1].decode() if line else "cut"


# uvloop has a RuntimeError for a write to what the peer has just closed.
CUT = (ConnectionError, Closed, ssl.SSLError, SSL.SysCallError, RuntimeError)
