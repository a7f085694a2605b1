"""Messages as HTTP has them: the body, and headers for all else.

Header names match in any case (RFC 9110 §5.1), so the names of an application's properties are in
lower case on this wire.

Source: Azure IoT Hub device REST API, and the code of `azure-iot-device-http` 1.14.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fleetroot.clock import iso8601
from fleetroot.errors import InvalidArgument
from fleetroot.gateway.hub_bodies import address_of
from fleetroot.hub.cloud_to_device import ACK, QueuedMessage

APPLICATION: Final = "iothub-app-"
Headers = Iterable[tuple[bytes, bytes]]

# By the short names of system properties, which all wires share.
_SYSTEM: Final[Mapping[str, str]] = {
    "iothub-messageid": "$.mid",
    "iothub-correlationid": "$.cid",
    "iothub-userid": "$.uid",
    "iothub-to": "$.to",
    "iothub-contenttype": "$.ct",
    "iothub-contentencoding": "$.ce",
    "iothub-expiry": "$.exp",
    "iothub-interface-id": "$.ifid",
    "dt-subject": "$.sub",
}
_SENT: Final = {
    "correlationId": "iothub-correlationid",
    "userId": "iothub-userid",
    "contentType": "iothub-contenttype",
    "contentEncoding": "iothub-contentencoding",
}


def application_properties(headers: Headers) -> dict[str, str]:
    """The application's properties among raw headers.

    Raises:
        InvalidArgument: one is not UTF-8.
    """
    return {
        name[len(APPLICATION) :]: value
        for name, value in _decoded(headers)
        if name.startswith(APPLICATION)
    }


def property_bag(headers: Headers) -> dict[str, str | None]:
    """What a device says of a message, by the names of a property bag.

    Raises:
        InvalidArgument: a property is not UTF-8, or has no name.
    """
    return bag_of(dict(_decoded(headers)))


def bag_of(named: Mapping[str, str]) -> dict[str, str | None]:
    """The same of names and values, of headers or of a batch; what is neither the application's nor
    a system property is left out.

    Raises:
        InvalidArgument: a property has no name.
    """
    bag: dict[str, str | None] = {}
    for name, value in named.items():
        lower = name.lower()
        if lower.startswith(APPLICATION):
            if len(name) == len(APPLICATION):
                raise InvalidArgument("a property has no name")
            bag[name[len(APPLICATION) :]] = value
        elif lower in _SYSTEM:
            bag[_SYSTEM[lower]] = value
    return bag


def command_headers(queued: QueuedMessage, token: str, device_id: str) -> list[tuple[bytes, bytes]]:
    """The headers of a message that a device receives, `ETag` with its lock token among them."""
    message = queued.message
    named = {
        "content-type": message.system_properties.get("contentType", "application/octet-stream"),
        "etag": f'"{token}"',
        "iothub-messageid": message.message_id,
        "iothub-sequencenumber": str(queued.seq),
        "iothub-enqueuedtime": iso8601(queued.enqueued_at),
        "iothub-expiry": iso8601(message.expires_at),
        "iothub-deliverycount": str(queued.delivery_count),
        "iothub-to": address_of(device_id),
        ACK: message.ack.value,
        **{_SENT[name]: value for name, value in message.system_properties.items()},
        **{APPLICATION + name: value for name, value in message.properties.items()},
    }
    return [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in named.items()]


def _decoded(headers: Headers) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        lower = name.lower()
        if lower.startswith(b"iothub-") or lower == b"dt-subject":
            try:
                yield lower.decode("ascii"), value.decode()
            except UnicodeDecodeError:
                raise InvalidArgument("a property is not UTF-8") from None
