"""Cloud-to-device messages over the hub's service API: sent, removed, and what became of them.

The calls of feedback and of removal are those of `azure-iot-hub`. Sending is AMQP only there; here
it is the counterpart of the call by which a device receives over HTTPS, with the same headers.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from fastapi import Header, Path, Request, Response

from fleetroot.access import Permission
from fleetroot.api.access import actor_of
from fleetroot.api.answers import Answer, Time
from fleetroot.api.description import answers
from fleetroot.api.hub_routes import AddressedHub, asks, hub_router
from fleetroot.api.message_headers import APPLICATION, application_properties
from fleetroot.api.sent_times import SentTime
from fleetroot.api.services import services_of
from fleetroot.hub.cloud_to_device import MAX_BODY_BYTES, Ack, Feedback
from fleetroot.ids import canonical
from fleetroot.registry.shared_access import Right

router = hub_router()

_PROPERTY: Final = 128  # characters, of a property of the protocol
_RAW: Final = {
    "required": True,
    "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    "description": f"The message, at most {MAX_BODY_BYTES} bytes. Each of its properties is a "
    f"header `{APPLICATION}{{name}}`.",
}

DeviceId = Annotated[str, Path(max_length=_PROPERTY)]
LockToken = Annotated[str, Path(max_length=64)]


def _header(name: str, description: str) -> Any:
    return Header(alias=f"iothub-{name}", max_length=_PROPERTY, description=description)


class SentAnswer(Answer):
    """A message that waits for its device."""

    message_id: str
    expires_at: Time


class PurgedAnswer(Answer):
    """How many messages were removed."""

    total_messages_purged: int
    device_id: str
    module_id: str | None


class FeedbackAnswer(Answer):
    """What became of a message."""

    original_message_id: str
    enqueued_time_utc: Time
    status_code: str
    description: str
    device_id: str
    device_generation_id: str


class _FeedbackResponse(Response):
    media_type = "application/vnd.microsoft.iothub.feedback.json"


@router.post(
    "/devices/{device_id}/messages/deviceBound",
    status_code=202,
    responses=answers(404),
    openapi_extra={"requestBody": _RAW},
)
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def send(
    request: Request,
    hub: AddressedHub,
    device_id: DeviceId,
    message_id: Annotated[str | None, _header("messageid", "Without one it gets one.")] = None,
    correlation_id: Annotated[str | None, _header("correlationid", "For the device.")] = None,
    user_id: Annotated[str | None, _header("userid", "For the device.")] = None,
    content_type: Annotated[str | None, _header("contenttype", "Of the body.")] = None,
    content_encoding: Annotated[str | None, _header("contentencoding", "Of the body.")] = None,
    expiry: Annotated[
        SentTime | None, Header(alias="iothub-expiry", description="ISO 8601; at most in two days.")
    ] = None,
    ack: Annotated[Ack, _header("ack", "Of which outcomes to hear as feedback.")] = Ack.NONE,
) -> SentAnswer:
    """Puts a message into a device's queue: durable when this answers."""
    said = {
        "correlationId": correlation_id,
        "userId": user_id,
        "contentType": content_type,
        "contentEncoding": content_encoding,
    }
    commands = services_of(request).hubs.commands
    message = commands.message(
        await request.body(),
        application_properties(request.headers.raw),
        {name: value for name, value in said.items() if value is not None},
        message_id=message_id,
        ack=ack,
        expires_at=expiry,
    )
    await commands.send(hub, canonical(device_id), message)
    return SentAnswer(message_id=message.message_id, expires_at=message.expires_at)


@router.delete("/devices/{device_id}/commands")
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def purge(request: Request, hub: AddressedHub, device_id: DeviceId) -> PurgedAnswer:
    """Removes every message that waits for a device."""
    commands = services_of(request).hubs.commands
    purged = await commands.purge(hub, canonical(device_id), by=actor_of(request))
    return PurgedAnswer(
        total_messages_purged=purged.messages, device_id=purged.device_id, module_id=None
    )


@router.get(
    "/messages/serviceBound/feedback",
    response_class=_FeedbackResponse,
    responses={
        200: {
            "model": list[FeedbackAnswer],
            "headers": {"ETag": {"schema": {"type": "string"}, "description": "The lock token."}},
        },
        204: {"description": "There is none."},
    },
)
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def feedback(request: Request, hub: AddressedHub) -> Response:
    """Locks the oldest feedback for a minute."""
    found = await services_of(request).hubs.commands.feedback(hub)
    if found is None:
        return Response(status_code=204)
    body = orjson.dumps([_shown(each).model_dump(mode="json", by_alias=True) for each in found[0]])
    return _FeedbackResponse(body, headers={"etag": f'"{found.token}"'})


@router.delete(
    "/messages/serviceBound/feedback/{lock_token}", status_code=204, responses=answers(412)
)
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def complete_feedback(request: Request, hub: AddressedHub, lock_token: LockToken) -> Response:
    """Removes feedback that was locked."""
    await services_of(request).hubs.commands.complete_feedback(hub, lock_token)
    return Response(status_code=204)


@router.post(
    "/messages/serviceBound/feedback/{lock_token}/abandon",
    status_code=204,
    responses=answers(412),
)
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def abandon_feedback(request: Request, hub: AddressedHub, lock_token: LockToken) -> Response:
    """Gives feedback back that was locked."""
    await services_of(request).hubs.commands.abandon_feedback(hub, lock_token)
    return Response(status_code=204)


def _shown(feedback: Feedback) -> FeedbackAnswer:
    return FeedbackAnswer(
        original_message_id=feedback.message_id,
        enqueued_time_utc=feedback.at,
        status_code=feedback.outcome.value,
        description=feedback.outcome.value,
        device_id=feedback.device_id,
        device_generation_id=feedback.generation_id,
    )
