"""A device's MQTT connection, blocking: paho-mqtt with its callbacks turned into answers.

paho's thread moves the bytes and rings the bell; the thread that owns the connection asks and
waits. One object is one connection: paho's own reconnecting is off, because whether to come back,
when, and with which certificate is the runner's to decide.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleetroot.agent.answer import Answer
from fleetroot.agent.bell import Bell
from fleetroot.agent.errors import (
    AgentError,
    ConnectionLost,
    CredentialRefused,
    RequestRefused,
    ServerBusy,
    ServerNotTrusted,
    Stopped,
    Unreachable,
)
from fleetroot.agent.tls import DeviceContext, Endpoint, is_certificate_alert

T = TypeVar("T")

KEEP_ALIVE_SECONDS: Final = 60
ANSWER_SECONDS: Final = 30.0  # what the SDKs give a request
_CONNECT_SECONDS: Final = 10.0  # for TCP, and again for TLS
_CLOSE_SECONDS: Final = 2.0

# MQTT 3.1.1 §3.2.2.3, in the reason codes that paho makes of them.
_ACCEPTED: Final = 0
_UNAVAILABLE: Final = 136
_REFUSED: Final = {
    134: "bad credentials (CONNACK 4)",
    135: "not authorized (CONNACK 5)",
}
_FAILED_SUBSCRIPTION: Final = 128


@dataclass(frozen=True, slots=True)
class Login:
    """What CONNECT says. Without a password, the certificate of the handshake counts."""

    client_id: str
    username: str
    password: str | None = field(default=None, repr=False)
    clean_session: bool = True


class Connection:
    """One MQTT connection. `open` it first, `close` it at the end, whatever happened.

    Attributes:
        lost: the connection is over, and not because we closed it.
    """

    def __init__(
        self, endpoint: Endpoint, context: DeviceContext, login: Login, bell: Bell
    ) -> None:
        self._endpoint = endpoint
        self._context = context
        self._bell = bell
        self._connack: int | None = None
        self._ended = threading.Event()
        self._closing = False
        self._granted: dict[int, list[int]] = {}
        self._acknowledged: set[int] = set()
        self._answers: dict[str, deque[Answer]] = {}
        self._paho = self._client(login)
        self.lost = False

    def _client(self, login: Login) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=login.client_id,
            clean_session=login.clean_session,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_SECONDS
        client.tls_set_context(self._context)
        client.username_pw_set(login.username, login.password)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    # --- what the owner asks for

    def open(self) -> None:
        """Connects, and returns once the server accepted.

        Raises:
            Unreachable: there is no way to the server.
            ServerNotTrusted: its certificate is not good.
            ServerBusy: it cannot serve now.
            CredentialRefused: it does not let this device in.
            Stopped: the bell said so.
        """
        try:
            self._paho.connect(self._endpoint.address, self._endpoint.port, KEEP_ALIVE_SECONDS)
        except ssl.SSLCertVerificationError as error:
            raise ServerNotTrusted(
                f"the server {self._endpoint} is not trusted: {error.verify_message}"
            ) from error
        except ssl.SSLError as error:
            raise self._tls_failure(error) from error
        except socket.gaierror as error:
            raise Unreachable(f"cannot resolve {self._endpoint.address}") from error
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Unreachable(f"cannot reach {self._endpoint}: {why}") from error
        self._paho.loop_start()
        code = self._wait_for(lambda: self._connack, "answer to CONNECT")
        if code == _UNAVAILABLE:
            raise ServerBusy("the server is unavailable (CONNACK 3)")
        if code != _ACCEPTED:
            raise CredentialRefused(_REFUSED.get(code, f"the server refused CONNECT ({code})"))

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        """Subscribes, and returns once it is granted.

        Raises:
            RequestRefused: it is not.
            ConnectionLost, Unreachable, Stopped: it never was answered.
        """
        result, packet_id = self._paho.subscribe(topic_filter, qos)
        if result is not MQTTErrorCode.MQTT_ERR_SUCCESS or packet_id is None:
            raise self._loss()
        granted = self._wait_for(lambda: self._granted.pop(packet_id, None), "answer to SUBSCRIBE")
        if any(code >= _FAILED_SUBSCRIPTION for code in granted):
            raise RequestRefused(f"the server does not offer {topic_filter}", status=403)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publishes at QoS 1, and returns once it is acknowledged.

        Raises:
            ConnectionLost, Unreachable, Stopped: it was not.
        """
        self._acknowledged.clear()
        packet_id = self._send(topic, payload)
        self._wait_for(lambda: packet_id in self._acknowledged or None, "acknowledgement")

    def ask(self, topic: str, payload: bytes, request_id: str) -> Answer:
        """Publishes a request whose `$rid` stands in the topic, and returns its first answer.

        Raises:
            ConnectionLost, Unreachable, Stopped: there was none.
        """
        self._answers = {request_id: deque()}
        self._send(topic, payload)
        return self.answer(request_id)

    def answer(self, request_id: str, seconds: float = ANSWER_SECONDS) -> Answer:
        """The next answer to the request that was asked last.

        Raises:
            ConnectionLost, Unreachable, Stopped: there was none.
        """
        waiting = self._answers[request_id]
        return self._wait_for(
            lambda: waiting.popleft() if waiting else None, "answer", seconds=seconds
        )

    def check(self) -> None:
        """Raises:
        ConnectionLost: the connection is over.
        """
        if self.lost:
            raise self._loss()

    def close(self) -> None:
        """Ends the connection: with DISCONNECT if it still stands, by force if nobody listens."""
        self._closing = True
        sent = self._paho.disconnect() is MQTTErrorCode.MQTT_ERR_SUCCESS
        beneath = self._context.socket
        if sent and not self._ended.wait(_CLOSE_SECONDS) and beneath is not None:
            with suppress(OSError):  # it is closed by now
                beneath.shutdown(socket.SHUT_RDWR)
        self._paho.loop_stop()
        if beneath is not None:
            beneath.close()  # paho forgets a socket whose handshake failed

    # --- waiting

    def _send(self, topic: str, payload: bytes) -> int:
        info = self._paho.publish(topic, payload, qos=1)
        if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._loss()
        return info.mid

    def _wait_for(
        self, look: Callable[[], T | None], what: str, *, seconds: float = ANSWER_SECONDS
    ) -> T:
        """What `look` finds, as soon as it does. The network keeps real time, whatever a test's
        clock says.
        """
        end = time.monotonic() + seconds
        while (found := look()) is None:
            if self._bell.stopped:
                raise Stopped
            if self._ended.is_set():
                raise self._loss()
            left = end - time.monotonic()
            if left <= 0:
                raise Unreachable(f"no {what} from {self._endpoint} in {seconds:.0f} s")
            self._bell.watch(left)
        return found

    def _loss(self) -> AgentError:
        """Why the connection is over."""
        failure = self._context.socket.failure if self._context.socket else None
        if self._connack is None and failure is not None:
            return self._tls_failure(failure)
        if self._connack is None:
            return Unreachable(f"{self._endpoint} closed the connection before it answered")
        return ConnectionLost(f"the connection to {self._endpoint} is over")

    def _tls_failure(self, error: ssl.SSLError) -> AgentError:
        reason = (error.reason or "unknown").lower().replace("_", " ")
        if is_certificate_alert(error):
            return CredentialRefused(
                f"{self._endpoint} refused the certificate: {reason}", in_handshake=True
            )
        return Unreachable(f"TLS with {self._endpoint} failed: {reason}")

    # --- paho's thread: note it, then ring

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: Any,
        _flags: paho.ConnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._connack = code.value
        self._bell.ring()

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        _flags: paho.DisconnectFlags,
        _code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.lost = not self._closing
        self._ended.set()
        self._bell.ring()

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: Any,
        packet_id: int,
        codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self._granted[packet_id] = [code.value for code in codes]
        self._bell.ring()

    def _on_publish(
        self,
        _client: paho.Client,
        _userdata: Any,
        packet_id: int,
        _code: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._acknowledged.add(packet_id)
        self._bell.ring()

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        """Keeps an answer that somebody waits for, and drops everything else."""
        try:
            answer = Answer.parse(message.topic, bytes(message.payload))
        except UnicodeDecodeError:  # of the topic
            return
        waiting = None if answer is None else self._answers.get(answer.request_id)
        if answer is not None and waiting is not None:
            waiting.append(answer)
            self._bell.ring()
