"""The bodies and property bags of the hub's device side, the same over every wire."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from fleetroot.clock import iso8601
from fleetroot.errors import InvalidArgument, MalformedJson
from fleetroot.hub.cloud_to_device import ACK, Ack, CloudToDeviceMessage
from fleetroot.hub.model import (
    REPLACE_ANY,
    Accepted,
    CredentialWish,
    Issued,
    Message,
    Principal,
    Twin,
)

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
_SHORT: Final = {name: short for short, name in SYSTEM_PROPERTIES.items()}

_CREDENTIAL_FIELDS: Final = frozenset({"id", "csr", "replace"})
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-]{2,34}[A-Za-z0-9]", re.ASCII)


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
    if sender.module_id is not None:
        system["connectionModuleId"] = sender.module_id
    return Message(body, properties, system)


def address_of(device_id: str) -> str:
    """What a cloud-to-device message says that it is sent to."""
    return f"/devices/{device_id}/messages/deviceBound"


def command_properties(message: CloudToDeviceMessage, device_id: str) -> dict[str, str | None]:
    """The property bag of a cloud-to-device message, not yet encoded."""
    system = {_SHORT[name]: value for name, value in message.system_properties.items()}
    bag: dict[str, str | None] = {
        "$.mid": message.message_id,
        **system,
        "$.to": address_of(device_id),
        "$.exp": iso8601(message.expires_at),
    }
    if message.ack is not Ack.NONE:
        bag[ACK] = message.ack.value
    return {**bag, **message.properties}


def twin_body(twin: Twin) -> bytes:
    """The twin as its device sees it: desired and reported, each with `$version` inside; no tags,
    no metadata.
    """
    desired = orjson.loads(twin.desired)
    reported = orjson.loads(twin.reported)
    desired["$version"] = twin.desired_version
    reported["$version"] = twin.reported_version
    return orjson.dumps({"desired": desired, "reported": reported})


def desired_body(patch: Mapping[str, Any], version: int) -> bytes:
    """A change of desired properties, with `$version` inside."""
    return orjson.dumps({**patch, "$version": version})


def read_credential_request(body: bytes) -> CredentialWish:
    """Reads `{"id", "csr", "replace"}` and checks its form.

    Raises:
        MalformedJson: the body is not JSON.
        InvalidArgument: a field is missing, unknown or not of its form; the message names it.
    """
    if not body.strip():
        raise InvalidArgument("the body is empty: id and csr are required")
    try:
        wish = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedJson("the body is not JSON") from None
    if not isinstance(wish, dict):
        raise InvalidArgument("the body must be a JSON object")
    if unknown := wish.keys() - _CREDENTIAL_FIELDS:
        raise InvalidArgument(f"{min(unknown)[:64]}: unknown field")
    device_id, csr, replaced = wish.get("id"), wish.get("csr"), wish.get("replace")
    if not isinstance(device_id, str):
        raise InvalidArgument("id: required, the id of the device that is connected")
    if not isinstance(csr, str) or not csr:
        raise InvalidArgument("csr: required, base64 of a DER certificate signing request")
    if replaced is not None and not (
        isinstance(replaced, str) and (replaced == REPLACE_ANY or _REQUEST_ID.fullmatch(replaced))
    ):
        raise InvalidArgument(
            "replace: * or a request id of 4 to 36 letters, digits and -, none - at the ends"
        )
    return CredentialWish(device_id, csr, replaced)


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
