"""A client of somebody else's: paho-mqtt over TCP, against the smallest skin a session can have."""

from __future__ import annotations

import queue
import socket
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from fleetroot.gateway.mqtt import (
    ConnackCode,
    ConnectReceived,
    Disconnected,
    Event,
    PubackReceived,
    PublishReceived,
    ServerSession,
    State,
    SubackCode,
    SubscribeReceived,
    UnsubscribeReceived,
)

WAIT = 10


class TinyServer:
    """Serves one connection, blocking, in a thread: grants QoS 1, sends each message back on the
    topic `echo`, and keeps every event.
    """

    def __init__(self, password: bytes) -> None:
        self.password = password
        self.events: list[Event] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        session = ServerSession()
        with connection:
            connection.settimeout(WAIT)
            while session.state is not State.CLOSED and (data := connection.recv(65_536)):
                for event in session.receive_data(data):
                    self.act(session, event)
                connection.sendall(session.data_to_send())

    def act(self, session: ServerSession, event: Event) -> None:
        self.events.append(event)
        match event:
            case ConnectReceived(connect) if connect.password == self.password:
                for early in session.accept(session_present=False):
                    self.act(session, early)
            case ConnectReceived():
                session.refuse(ConnackCode.BAD_USERNAME_OR_PASSWORD)
            case SubscribeReceived(packet_id, filters):
                session.suback(packet_id, [SubackCode.QOS_1] * len(filters))
            case UnsubscribeReceived(packet_id):
                session.unsuback(packet_id)
            case PublishReceived(payload=payload, packet_id=packet_id):
                if packet_id is not None:
                    session.puback(packet_id)
                session.publish("echo", payload, 1, payload)

    def kinds(self) -> list[type]:
        return [type(event) for event in self.events]

    def join(self) -> None:
        self.thread.join(WAIT)
        assert not self.thread.is_alive()
        self.listener.close()


@pytest.fixture
def server():
    server = TinyServer(b"secret")
    yield server
    server.join()


class Client:
    """paho, with its callbacks as queues."""

    def __init__(self, port: int, password: str) -> None:
        self.answers: queue.Queue[ReasonCode] = queue.Queue()
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.done: queue.Queue[str] = queue.Queue()
        self.pings: queue.Queue[str] = queue.Queue()
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2, "device-1", protocol=MQTTProtocolVersion.MQTTv311
        )
        self.paho.username_pw_set("hub/device-1", password)
        self.paho.on_connect = lambda c, u, flags, reason, p: self.answers.put(reason)
        self.paho.on_message = lambda c, u, message: self.messages.put(message)
        self.paho.on_subscribe = lambda c, u, mid, codes, p: self.done.put("subscribed")
        self.paho.on_unsubscribe = lambda c, u, mid, codes, p: self.done.put("unsubscribed")
        self.paho.on_disconnect = lambda *_: self.done.put("disconnected")
        self.paho.on_log = lambda c, u, level, line: "PINGRESP" in line and self.pings.put(line)
        self.paho.connect("127.0.0.1", port, keepalive=1)
        self.paho.loop_start()


def test_paho_connects_subscribes_publishes_both_ways_pings_and_leaves(server):
    client = Client(server.port, "secret")
    assert not client.answers.get(timeout=WAIT).is_failure

    client.paho.subscribe("echo", qos=1)
    assert client.done.get(timeout=WAIT) == "subscribed"

    published = client.paho.publish("telemetry", b"\x00" * 200, qos=1)
    published.wait_for_publish(WAIT)
    assert published.is_published()

    message = client.messages.get(timeout=WAIT)
    assert (message.topic, message.payload, message.qos) == ("echo", b"\x00" * 200, 1)

    client.pings.get(timeout=WAIT)  # its keep-alive is a second

    client.paho.unsubscribe("echo")
    assert client.done.get(timeout=WAIT) == "unsubscribed"
    client.paho.disconnect()
    assert client.done.get(timeout=WAIT) == "disconnected"
    client.paho.loop_stop()
    server.join()

    assert server.kinds() == [
        ConnectReceived,
        SubscribeReceived,
        PublishReceived,
        PubackReceived,
        UnsubscribeReceived,
        Disconnected,
    ]


def test_paho_learns_that_its_password_is_wrong(server):
    client = Client(server.port, "guess")
    assert client.answers.get(timeout=WAIT).is_failure
    client.paho.disconnect()
    client.paho.loop_stop()
