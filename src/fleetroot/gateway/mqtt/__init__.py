"""MQTT 3.1.1, server side, without I/O: bytes go in, events come out.

Theory of operation
===================

Four layers, each usable and testable without the ones above it:

1. `packets`: the fourteen control packets as values, less the four of QoS 2.
2. `codec`: `Decoder` turns a stream of bytes, however it was split, into packets; `encode` turns
   a packet into bytes. Both know every packet of either direction, so that tests and load
   generators are clients with the same code. The codec holds a peer to what a single packet can
   show: its form.
3. `session`: `ServerSession` holds a client to what the order of packets must be, answers pings,
   numbers outgoing messages, and says what happened as `events`.
4. An I/O skin (a TLS listener, a WebSocket, a test's socket) that owns the bytes' way in and out
   and every timer. It stands elsewhere and is a loop over three lines:

       events = session.receive_data(data)
       ...                                   # act on them: accept, puback, suback, publish
       transport.write(session.data_to_send())

Nothing here opens a socket, reads a clock, logs, or starts a thread. A session has one owner at a
time and is not safe to share between threads.

A peer that breaks the protocol surfaces as `ProtocolViolation`, and as nothing else, whatever the
bytes. A violation's text never quotes the peer, so it can be logged: what the peer sent may be a
password.

This is the server of two services with fixed topics, not a broker: no routing between clients, no
retained messages, no QoS 2. `topics` has MQTT's rules on topic names and filters, `properties` has
the two notations that both services write inside topics.

May import: the standard library and `fleetroot.errors`.

Source: OASIS MQTT Version 3.1.1, 29 October 2014; comments cite its normative statements as
[MQTT-x.y.z-n].
"""

from fleetroot.gateway.mqtt.codec import Decoder, encode, encode_puback, encode_publish
from fleetroot.gateway.mqtt.events import (
    ConnectReceived,
    Disconnected,
    Event,
    PubackReceived,
    PublishReceived,
    SubscribeReceived,
    UnsubscribeReceived,
)
from fleetroot.gateway.mqtt.inflight import Busy
from fleetroot.gateway.mqtt.packets import (
    Connack,
    ConnackCode,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    SubackCode,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from fleetroot.gateway.mqtt.properties import (
    MalformedProperties,
    format_properties,
    parse_properties,
    parse_rid_query,
)
from fleetroot.gateway.mqtt.session import (
    LocalProtocolError,
    ServerSession,
    SessionClosed,
    SessionViolation,
    State,
)
from fleetroot.gateway.mqtt.topics import is_topic_filter, is_topic_name, matches
from fleetroot.gateway.mqtt.violations import ProtocolViolation, Violation

__all__ = [
    "Busy",
    "Connack",
    "ConnackCode",
    "Connect",
    "ConnectReceived",
    "Decoder",
    "Disconnect",
    "Disconnected",
    "Event",
    "LocalProtocolError",
    "MalformedProperties",
    "Packet",
    "Pingreq",
    "Pingresp",
    "ProtocolViolation",
    "Puback",
    "PubackReceived",
    "Publish",
    "PublishReceived",
    "ServerSession",
    "SessionClosed",
    "SessionViolation",
    "State",
    "Suback",
    "SubackCode",
    "Subscribe",
    "SubscribeReceived",
    "Unsuback",
    "Unsubscribe",
    "UnsubscribeReceived",
    "Violation",
    "Will",
    "encode",
    "encode_puback",
    "encode_publish",
    "format_properties",
    "is_topic_filter",
    "is_topic_name",
    "matches",
    "parse_properties",
    "parse_rid_query",
]
