"""What became of a call that clients wait for.

Calls are done when they are answered. Where a client waits by protocol, the answer is 202 with the
address of the operation, which has succeeded by then. The audit log knows it: the operation's id is
the trace id of the call, and what it was about. So it is answered for ever, and to whoever may read
the namespace.

Source: Azure Resource Manager, "Asynchronous Operations"; `OperationStatusResult` of common types.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from fleetroot.access import EVERYWHERE, Permission
from fleetroot.api.access import authenticate, needs
from fleetroot.api.arm.resources import SUCCEEDED, Shown
from fleetroot.api.arm.routing import CHANGES, ArmRoute, check_api_version, namespace_of
from fleetroot.api.description import answers
from fleetroot.api.services import services_of
from fleetroot.api.tracing import trace_id_of
from fleetroot.audit import Change
from fleetroot.clock import iso8601
from fleetroot.errors import NotFound

_PREFIX: Final = "/subscriptions/{subscription}/providers/Microsoft.DeviceRegistry"
_ID: Final = re.compile(r"([0-9a-f-]{36})\.([A-Za-z0-9_-]{1,128})", re.ASCII)
# What a route says that changes something and answers as `accepted` does.
STARTS: Final[dict[str, Any]] = {
    "status_code": 202,
    "dependencies": CHANGES,
    "responses": answers(409, 412),
    "response_class": Response,
}
_ABOUT: Final = re.compile(r"(namespace|policy)/[A-Za-z0-9-]+", re.ASCII)


class OperationRoute(ArmRoute):
    """Lets pass who may read the namespace in which the operation was done."""

    async def authorize(self, request: Request) -> None:
        caller = await authenticate(request)
        check_api_version(request, self.versions)
        change = await _find(request)
        if change is None:
            # As of namespaces: who may not see everything does not learn what there is.
            caller.require(Permission.READ, EVERYWHERE)
            raise NotFound("there is no such operation")
        caller.require(self.permission, change.namespace_id)
        request.state.change = change


router = APIRouter(prefix=_PREFIX, route_class=OperationRoute)


class OperationStatus(Shown):
    """How an operation stands."""

    id: str
    name: str
    status: str
    percent_complete: float
    start_time: str
    end_time: str


@router.get("/locations/{location}/operationStatuses/{operation}", response_model_exclude_none=True)
@needs(Permission.READ)
async def get(
    request: Request, subscription: str, location: str, operation: str
) -> OperationStatus:
    """How an operation stands."""
    change: Change = request.state.change
    return OperationStatus(
        id=_path(subscription, location, operation),
        name=operation,
        status=SUCCEEDED,
        percent_complete=100.0,
        start_time=iso8601(change.at),
        end_time=iso8601(change.at),
    )


async def accepted(request: Request, subject: str) -> Response:
    """202 with the address of the operation that this call was.

    Args:
        subject: what it was done to, as the audit log has it: `policy/default`.
    """
    namespace = namespace_of(request)
    about = urlsafe_b64encode(subject.encode()).rstrip(b"=").decode()
    path = _path(
        namespace.subscription_id,
        namespace.location.replace(" ", "").lower(),
        f"{trace_id_of(request.scope)}.{about}",
    )
    version = request.query_params["api-version"]
    address = str(request.url.replace(path=path, query=f"api-version={version}"))
    headers = {"azure-asyncoperation": address, "location": address, "retry-after": "1"}
    return Response(status_code=202, headers=headers)


def _path(subscription: str, location: str, operation: str) -> str:
    prefix = _PREFIX.format(subscription=subscription)
    return f"{prefix}/locations/{location}/operationStatuses/{operation}"


async def _find(request: Request) -> Change | None:
    """What the operation of the path did, in the subscription of the path."""
    operation = _ID.fullmatch(request.path_params["operation"])
    if operation is None:
        return None
    trace_id, about = operation.groups()
    try:
        subject = urlsafe_b64decode(about + "=" * (-len(about) % 4)).decode()
    except (NotBase64, UnicodeDecodeError):
        return None
    if not _ABOUT.fullmatch(subject):
        return None
    services = services_of(request)
    change = await services.audit_log.change(subject, trace_id)
    if change is None:
        return None
    namespace = await services.namespaces.by_id(change.namespace_id)
    asked = request.path_params["subscription"]
    return change if namespace.subscription_id.lower() == asked.lower() else None
