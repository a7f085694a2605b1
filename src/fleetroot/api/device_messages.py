"""The hub's device API over HTTPS: messages to the cloud, and from it.

    POST   /devices/{id}/messages/events                          204
    GET    /devices/{id}/messages/deviceBound                     200 with a message, or 204
    DELETE /devices/{id}/messages/deviceBound/{lockToken}[?reject]  204
    POST   /devices/{id}/messages/deviceBound/{lockToken}/abandon   204

Each request proves who it is of, so a connection that is kept alive proves nothing. Other methods
of the second path are for the service API, whose POST sends a message to the device.

Source: Azure IoT Hub device REST API, and the code of `azure-iot-device-http` 1.14.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final
from urllib.parse import unquote

import orjson
import structlog
from starlette.types import Receive, Scope, Send

from fleetroot.api.device_http import (
    CHALLENGE,
    JSON,
    MAX_PATH_BYTES,
    Gone,
    Header,
    WrongMethod,
    api_version,
    header,
    peer_chain,
    read_body,
    respond,
    token_of,
)
from fleetroot.api.hub_errors import ERROR_CODE, error_name, hub_error_body
from fleetroot.api.message_headers import bag_of, command_headers, property_bag
from fleetroot.api.tracing import peer_of
from fleetroot.clock import Clock
from fleetroot.errors import (
    FleetrootError,
    InvalidArgument,
    MalformedJson,
    TooLarge,
    Unauthorized,
)
from fleetroot.gateway.hub_bodies import to_message
from fleetroot.gateway.names import HUB_VERSIONS
from fleetroot.gateway.refusal_history import Subject, SubjectKind
from fleetroot.gateway.refusals import Refusals, new_trace_id
from fleetroot.hub.cloud_to_device import Outcome
from fleetroot.hub.hub import MAX_MESSAGE_BYTES, Hubs
from fleetroot.hub.model import CertificateProof, Message, Principal, Proof, TokenProof

BATCH: Final = "application/vnd.microsoft.iothub.json"
_MAX_BATCH: Final = 500  # messages
_MAX_PROPERTIES: Final = 128  # of one, as over MQTT
_MAX_TOKEN: Final = 64
_log = structlog.get_logger("fleetroot.api")


class Call(Enum):
    """What is asked."""

    SEND = auto()
    RECEIVE = auto()
    SETTLE = auto()
    ABANDON = auto()


_METHODS: Final = {
    Call.SEND: "POST",
    Call.RECEIVE: "GET",
    Call.SETTLE: "DELETE",
    Call.ABANDON: "POST",
}


@dataclass(frozen=True, slots=True)
class MessagePath:
    """A path of this API; names are decoded once."""

    call: Call
    device_id: str
    lock_token: str = ""


def parse_message_path(method: str, raw_path: bytes) -> MessagePath | None:
    """Parses a path of this API, the fixed words in any case, with or without a slash behind; None
    where it is another path.
    """
    if len(raw_path) > MAX_PATH_BYTES:
        return None
    parts = raw_path.decode("ascii", "replace").split("/")
    if len(parts) > 5 and not parts[-1]:
        parts.pop()
    if not 5 <= len(parts) <= 7 or (parts[1].lower(), parts[3].lower()) != ("devices", "messages"):
        return None
    device_id, token = unquote(parts[2]), unquote(parts[5]) if len(parts) > 5 else ""
    if "/" in device_id:
        return None  # it would name a module, which has no calls here
    match parts[4].lower(), [part.lower() for part in parts[6:]], len(parts):
        case "events", [], 5:
            return MessagePath(Call.SEND, device_id)
        case "devicebound", [], 5 if method == "GET":
            return MessagePath(Call.RECEIVE, device_id)
        case "devicebound", [], 6:
            return MessagePath(Call.SETTLE, device_id, token)
        case "devicebound", ["abandon"], 7:
            return MessagePath(Call.ABANDON, device_id, token)
    return None


class DeviceMessages:
    """Answers devices that send and receive over HTTPS."""

    def __init__(self, hubs: Hubs, refusals: Refusals, clock: Clock) -> None:
        self._hubs = hubs
        self._refusals = refusals
        self._clock = clock

    async def answer(self, path: MessagePath, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the HTTP request of `scope`, whose path is `path`."""
        trace_id = new_trace_id()
        try:
            if scope["method"] != _METHODS[path.call]:
                raise WrongMethod(_METHODS[path.call])
            status, body, headers = await self._answer(path, scope, receive, trace_id)
        except Gone:
            return
        except FleetrootError as error:
            await self._refuse(error, path, scope, send, trace_id)
        except Exception as error:  # noqa: BLE001 - one request's failure is not the server's
            _log.error("unexpected failure", path=scope["path"], exc_info=error)
            await self._refuse(FleetrootError("the server failed"), path, scope, send, trace_id)
        else:
            await respond(send, status, body, trace_id, headers)

    async def _answer(
        self, path: MessagePath, scope: Scope, receive: Receive, trace_id: str
    ) -> tuple[int, bytes, list[Header]]:
        if api_version(scope["query_string"]) not in HUB_VERSIONS:
            raise InvalidArgument(
                f"api-version must be one of {', '.join(sorted(HUB_VERSIONS))}",
                reason="unknown api-version",
            )
        # Before the body is read: nobody sends 256 KB who may not.
        device = await self._authenticate(path, scope, trace_id)
        commands = self._hubs.commands
        match path.call:
            case Call.SEND:
                body = await read_body(scope, receive, MAX_MESSAGE_BYTES, "a message")
                await self._log(device, _messages(scope, body, device))
            case Call.RECEIVE:
                locked = await commands.receive(device)
                if locked is not None:
                    headers = command_headers(locked.queued, locked.token, device.device_id)
                    return 200, locked.queued.message.body, headers
            case Call.SETTLE:
                rejects = any(
                    field.partition(b"=")[0].lower() == b"reject"
                    for field in scope["query_string"].split(b"&")
                )
                outcome = Outcome.REJECTED if rejects else Outcome.SUCCESS
                await commands.finish(device, _bounded(path.lock_token), outcome)
            case Call.ABANDON:
                await commands.abandon(device, _bounded(path.lock_token))
        return 204, b"", []

    async def _authenticate(self, path: MessagePath, scope: Scope, trace_id: str) -> Principal:
        """By the token of the request; without one, the certificate of the handshake counts."""
        token, chain = token_of(scope), peer_chain(scope)
        proof: Proof | None = None
        if token is not None:
            proof = TokenProof(token)
        elif chain:
            proof = CertificateProof(chain)
        return await self._hubs.device_access.authenticate(
            _host(scope), path.device_id, proof, peer=peer_of(scope), trace_id=trace_id
        )

    async def _log(self, device: Principal, messages: list[Message]) -> None:
        await asyncio.gather(*(self._hubs.log(device, message) for message in messages))

    async def _refuse(
        self, error: FleetrootError, path: MessagePath, scope: Scope, send: Send, trace_id: str
    ) -> None:
        self._refusals.add(
            "request",
            error,
            peer=peer_of(scope),
            about=Subject(SubjectKind.DEVICE, _host(scope), path.device_id),
            trace_id=trace_id,
        )
        status = error.code.status
        headers = [
            JSON,
            (b"x-ms-error-code", str(error.code.value).encode()),
            (ERROR_CODE.encode(), error_name(error).encode()),
        ]
        if error.retry_after is not None:
            headers.append((b"retry-after", str(error.retry_after).encode()))
        if status == 401:
            headers.append(CHALLENGE)
        if isinstance(error, TooLarge | Unauthorized):
            # The rest of it is not read; and who guesses pays for a handshake each time.
            headers.append((b"connection", b"close"))
        elif isinstance(error, WrongMethod):
            status = 405
            headers.append((b"allow", error.allowed.encode()))
        body = hub_error_body(error, scope["path"], self._clock.now(), trace_id)
        await respond(send, status, body, trace_id, headers)


def _host(scope: Scope) -> str:
    host, _, port = header(scope, b"host").decode("latin-1").rpartition(":")
    return host if host and port.isdecimal() else header(scope, b"host").decode("latin-1")


def _bounded(token: str) -> str:
    if len(token) > _MAX_TOKEN:
        raise InvalidArgument("the lock token is too long")
    return token


def _messages(scope: Scope, body: bytes, device: Principal) -> list[Message]:
    """What is sent: one message, or a batch.

    Raises:
        MalformedJson, InvalidArgument: a batch is not of its form.
    """
    content_type = header(scope, b"content-type").partition(b";")[0].strip().lower()
    if content_type != BATCH.encode():
        return [to_message(body, property_bag(scope["headers"]), device)]
    try:
        batch = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedJson("the batch is not JSON") from None
    if not isinstance(batch, list) or not 0 < len(batch) <= _MAX_BATCH:
        raise InvalidArgument(f"a batch is an array of 1 to {_MAX_BATCH} messages")
    return [_batched(each, device) for each in batch]


def _batched(each: Any, device: Principal) -> Message:
    """`{"body", "base64Encoded": true, "properties": {}}`, its properties named as headers are."""
    if not isinstance(each, dict) or not isinstance(body := each.get("body"), str):
        raise InvalidArgument("body: required, a string, of each message")
    encoded, properties = each.get("base64Encoded", True), each.get("properties") or {}
    if not isinstance(encoded, bool):
        raise InvalidArgument("base64Encoded: true or false")
    if (
        not isinstance(properties, dict)
        or len(properties) > _MAX_PROPERTIES
        or not all(isinstance(value, str) for value in properties.values())
    ):
        raise InvalidArgument(f"properties: an object of at most {_MAX_PROPERTIES} strings")
    try:
        content = base64.b64decode(body, validate=True) if encoded else body.encode()
    except (binascii.Error, ValueError):
        raise InvalidArgument("body: not base64") from None
    return to_message(content, bag_of(properties), device)
