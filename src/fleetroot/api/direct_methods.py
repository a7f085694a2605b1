"""Direct methods over the hub's service API: a device is called, and what it answers.

The payloads of both sides are JSON that the hub does not look into. The answer's goes to the caller
as the device wrote it.

Source: Azure IoT Hub service REST API 2021-04-12, "Devices - Invoke Method".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Annotated, Any

from fastapi import Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from fleetroot.access import Permission
from fleetroot.api.answers import Answer
from fleetroot.api.description import answers
from fleetroot.api.hub_routes import AddressedHub, asks, hub_router
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument, TimedOut
from fleetroot.hub.methods import (
    LONGEST,
    MAX_NAME,
    RESPONSE_SECONDS,
    SHORTEST_RESPONSE,
    MethodAnswer,
    MethodCall,
    make_call,
)
from fleetroot.hub.model import Hub
from fleetroot.ids import canonical, identity_key
from fleetroot.registry.shared_access import Right

router = hub_router()

DeviceId = Annotated[str, Path(max_length=128)]
ModuleId = Annotated[str, Path(max_length=128)]


class MethodBody(BaseModel):
    """A call of a direct method."""

    model_config = ConfigDict(alias_generator=to_camel)

    method_name: str = Field(min_length=1, max_length=MAX_NAME)
    payload: Any = Field(default=None, description="JSON for the device; null without one.")
    response_timeout_in_seconds: int | None = Field(
        default=None,
        ge=SHORTEST_RESPONSE,
        le=LONGEST,
        description=f"That the device has to answer; {RESPONSE_SECONDS} by default.",
    )
    connect_timeout_in_seconds: int | None = Field(
        default=None, ge=0, le=LONGEST, description="That it has to be connected; 0 by default."
    )


class MethodResult(Answer):
    """What a device answered."""

    status: int = Field(description="The device's own.")
    payload: Any = Field(description="JSON of the device; null if it answered none.")


@router.post(
    "/twins/{device_id}/methods",
    response_model=MethodResult,
    responses=answers(404, 429, 502, 504),
)
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def invoke(
    request: Request, hub: AddressedHub, device_id: DeviceId, body: MethodBody
) -> Response:
    """Calls a direct method of a device that is connected, and waits for its answer."""
    return await call_device(request, hub, device_id, body)


@router.post(
    "/twins/{device_id}/modules/{module_id}/methods",
    response_model=MethodResult,
    responses=answers(404, 429, 502, 504),
)
@asks(Right.SERVICE_CONNECT, Permission.WRITE_DEVICES)
async def invoke_of_module(
    request: Request,
    hub: AddressedHub,
    device_id: DeviceId,
    module_id: ModuleId,
    body: MethodBody,
) -> Response:
    """Calls a direct method of a module that is connected, and waits for its answer."""
    return await call_device(request, hub, identity_key(device_id, module_id), body)


async def call_device(request: Request, hub: Hub, device_id: str, body: MethodBody) -> Response:
    """Calls a device for whoever is authorized to; a caller who leaves waits no more."""
    methods = services_of(request).hubs.methods
    call = read_call(body)
    answer = await _unless_gone(request, methods.call(hub, canonical(device_id), call))
    return Response(
        b'{"status":%d,"payload":%b}' % answer,
        media_type="application/json",
    )


def read_call(body: MethodBody) -> MethodCall:
    """The call that a body says.

    Raises:
        InvalidArgument, TooLarge: see `methods.make_call`.
    """
    try:
        payload = json.dumps(
            body.payload, allow_nan=False, ensure_ascii=False, separators=(",", ":")
        ).encode()
    except ValueError:
        raise InvalidArgument("payload: NaN and Infinity are not JSON") from None
    return make_call(
        body.method_name,
        payload,
        body.response_timeout_in_seconds,
        body.connect_timeout_in_seconds,
    )


async def _unless_gone(
    request: Request, calling: Coroutine[Any, Any, MethodAnswer]
) -> MethodAnswer:
    """Waits for the answer for as long as its caller does."""
    call = asyncio.ensure_future(calling)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((call, gone), return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            raise TimedOut("the caller went away")
        return call.result()
    finally:
        call.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
