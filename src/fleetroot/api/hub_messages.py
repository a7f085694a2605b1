"""Cloud-to-device messages over the operator API: JSON, so that names keep their case."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from pydantic import Field, model_validator

from fleetroot.access import Permission
from fleetroot.api.access import actor_of, needs
from fleetroot.api.answers import Answer, Time
from fleetroot.api.bodies import Body
from fleetroot.api.service_routes import HubRoute, described_of
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument
from fleetroot.hub.cloud_to_device import MAX_BODY_BYTES, MAX_LIFETIME, MAX_PROPERTIES, Ack
from fleetroot.hub.model import Hub
from fleetroot.ids import canonical

router = APIRouter(
    prefix="/fleetroot/hubs/{hub}/devices/{device_id}/messages", route_class=HubRoute
)

_Id = Annotated[str, Path(max_length=128)]
_Property = Annotated[str, Field(max_length=128)]
_BASE64_CHARACTERS: Final = (MAX_BODY_BYTES + 2) // 3 * 4


class MessageBody(Body):
    """A message for a device: its body as text, or in base64."""

    text: Annotated[str, Field(max_length=MAX_BODY_BYTES)] | None = None
    base64: Annotated[str, Field(max_length=_BASE64_CHARACTERS)] | None = None
    properties: dict[str, str] = Field(default={}, max_length=MAX_PROPERTIES)
    message_id: _Property | None = None
    correlation_id: _Property | None = None
    user_id: _Property | None = None
    content_type: _Property | None = None
    content_encoding: _Property | None = None
    ack: Ack = Field(default=Ack.NONE, strict=False)
    lifetime_seconds: int | None = Field(
        default=None, gt=0, le=int(MAX_LIFETIME.total_seconds()), description="An hour by default."
    )

    @model_validator(mode="after")
    def _has_one_body(self) -> MessageBody:
        if self.text is not None and self.base64 is not None:
            raise ValueError("text or base64, not both")
        return self


class QueuedAnswer(Answer):
    """A message that waits for its device."""

    message_id: str
    expires_at: Time


class RemovedAnswer(Answer):
    """How many messages were removed."""

    device_id: str
    removed: int


@router.post("", status_code=202)
@needs(Permission.WRITE_DEVICES)
async def send(request: Request, device_id: _Id, body: MessageBody) -> QueuedAnswer:
    """Puts a message into a device's queue: durable when this answers."""
    said = {
        "correlationId": body.correlation_id,
        "userId": body.user_id,
        "contentType": body.content_type,
        "contentEncoding": body.content_encoding,
    }
    seconds = body.lifetime_seconds
    commands = services_of(request).hubs.commands
    message = commands.message(
        _content(body),
        body.properties,
        {name: value for name, value in said.items() if value is not None},
        message_id=body.message_id,
        ack=body.ack,
        lifetime=None if seconds is None else timedelta(seconds=seconds),
    )
    await commands.send(await _hub(request), canonical(device_id), message)
    return QueuedAnswer(message_id=message.message_id, expires_at=message.expires_at)


@router.delete("")
@needs(Permission.WRITE_DEVICES)
async def purge(request: Request, device_id: _Id) -> RemovedAnswer:
    """Removes every message that waits for a device."""
    commands = services_of(request).hubs.commands
    purged = await commands.purge(await _hub(request), canonical(device_id), by=actor_of(request))
    return RemovedAnswer(device_id=purged.device_id, removed=purged.messages)


async def _hub(request: Request) -> Hub:
    return await services_of(request).hubs.by_name(described_of(request).owner.name)


def _content(body: MessageBody) -> bytes:
    if body.base64 is None:
        return (body.text or "").encode()
    try:
        return base64.b64decode(body.base64, validate=True)
    except ValueError:  # also for what is not ASCII
        raise InvalidArgument("base64: not base64") from None
