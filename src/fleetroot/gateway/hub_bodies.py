"""The bodies and property bags of the hub's device side, the same over every wire."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

import orjson

from fleetroot.clock import iso8601
from fleetroot.hub.model import Accepted, Issued, Message, Principal, Twin

# Source: Azure IoT Hub, "Create and read IoT Hub messages"; the short names are the MQTT wire's.
SYSTEM_PROPERTIES: Final[Mapping[str, str]] = {
    "$.mid": "messageId",
    "$.cid": "correlationId",
    "$.uid": "userId",
    "$.to": "to",
    "$.ct": "contentType",
    "$.ce": "contentEncoding",
    "$.exp": "absoluteExpiryTime",
    "$.ifid": "interfaceId",
    "$.on": "outputName",
    "$.sub": "componentName",
}


def to_message(
    body: bytes, bag: Mapping[str, str | None], sender: Principal, *, retain: bool = False
) -> Message:
    """A device-to-cloud message from its body and its decoded property bag. Unknown properties
    that start with `$.` are dropped: they are the protocol's, not the application's.
    """
    properties = {key: value for key, value in bag.items() if not key.startswith("$.")}
    if retain:
        properties["mqtt-retain"] = "true"
    system = {
        SYSTEM_PROPERTIES[key]: value or ""
        for key, value in bag.items()
        if key in SYSTEM_PROPERTIES
    }
    system["connectionDeviceId"] = sender.device_id
    return Message(body, properties, system)


def twin_body(twin: Twin) -> bytes:
    """The twin as its device sees it: desired and reported, each with `$version` inside; no tags,
    no metadata.
    """
    desired = orjson.loads(twin.desired)
    reported = orjson.loads(twin.reported)
    desired["$version"] = twin.desired_version
    reported["$version"] = twin.reported_version
    return orjson.dumps({"desired": desired, "reported": reported})


def accepted_body(answer: Accepted) -> bytes:
    """A certificate request is being worked on."""
    return orjson.dumps(
        {
            "correlationId": answer.correlation_id,
            "operationExpires": iso8601(answer.expires_at),
        }
    )


def issued_body(answer: Issued) -> bytes:
    """A certificate request was fulfilled: base64 DER, leaf first, root last."""
    return orjson.dumps(
        {
            "correlationId": answer.correlation_id,
            "certificates": [base64.b64encode(der).decode() for der in answer.chain.certificates],
        }
    )
