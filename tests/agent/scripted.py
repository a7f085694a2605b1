"""A service that says what a test wants: MQTT over a real TLS socket, one connection at a time.

For what a healthy server never answers: busy, throttled, slow to assign, refusing in the handshake.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleetroot.gateway.mqtt import (
    ConnackCode,
    Connect,
    ConnectReceived,
    Disconnected,
    Event,
    PublishReceived,
    ServerSession,
    State,
    SubackCode,
    SubscribeReceived,
)

WAIT = 10.0
Reply = tuple[str, bytes]


def self_signed(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A key, and a certificate for it that is good as a server and as a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


@dataclass
class Service:
    """A running service.

    Attributes:
        connack: what the next connections are answered with, in order; then ACCEPTED.
        replies: what the next requests are answered with, in order. Each gets the request's id,
            and returns the topic behind `/res/` and the body; none: the connection is closed.
        connects: the CONNECTs that came.
        requests: topic and body of the requests that came.
        disconnects: how many connections ended with DISCONNECT.
    """

    port: int
    ca: str
    name: str
    connack: list[ConnackCode] = field(default_factory=list)
    replies: list[Callable[[str], Reply] | None] = field(default_factory=list)
    connects: list[Connect] = field(default_factory=list)
    requests: list[Reply] = field(default_factory=list)
    disconnects: int = 0

    def serve(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            plain.settimeout(WAIT)
            with plain.dup() as beneath:
                try:
                    with context.wrap_socket(plain, server_side=True) as connection:
                        self._talk(connection)
                except ssl.SSLError:
                    # A close with CONNECT unread would be a reset, which overtakes the alert.
                    with suppress(OSError):
                        beneath.shutdown(socket.SHUT_WR)
                        while beneath.recv(65_536):
                            pass
                except OSError:
                    continue

    def _talk(self, connection: ssl.SSLSocket) -> None:
        session = ServerSession()
        while session.state is not State.CLOSED and (data := connection.recv(65_536)):
            for event in session.receive_data(data):
                self._act(session, event)
            connection.sendall(session.data_to_send())

    def _act(self, session: ServerSession, event: Event) -> None:
        match event:
            case ConnectReceived(connect):
                self.connects.append(connect)
                code = self.connack.pop(0) if self.connack else ConnackCode.ACCEPTED
                if code is ConnackCode.ACCEPTED:
                    for early in session.accept(session_present=False):
                        self._act(session, early)
                else:
                    session.refuse(code)
            case Disconnected():
                self.disconnects += 1
            case SubscribeReceived(packet_id, filters):
                session.suback(packet_id, [SubackCode.QOS_1] * len(filters))
            case PublishReceived(topic=topic, payload=payload, packet_id=packet_id):
                if packet_id is not None:
                    session.puback(packet_id)
                self.requests.append((topic, payload))
                self._reply(session, topic)

    def _reply(self, session: ServerSession, topic: str) -> None:
        reply = self.replies.pop(0) if self.replies else None
        if reply is None:
            session.close()
            return
        rid = topic.partition("$rid=")[2].partition("&")[0]
        tail, body = reply(rid)
        service = "/".join(topic.split("/")[:2])
        session.publish(f"{service}/res/{tail}", body, 0, None)


@contextmanager
def scripted(
    folder: Path, *, name: str = "localhost", client_ca: x509.Certificate | None = None
) -> Iterator[Service]:
    """A service on a free port; with a `client_ca`, one that refuses every other certificate in
    the handshake.
    """
    key, certificate = self_signed(name)
    pem = certificate.public_bytes(Encoding.PEM)
    file = folder / "scripted.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.public_bytes(Encoding.DER))
    listener = socket.create_server(("127.0.0.1", 0))
    service = Service(listener.getsockname()[1], pem.decode(), name)
    thread = threading.Thread(target=service.serve, args=(listener, context), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(WAIT)
        assert not thread.is_alive()
