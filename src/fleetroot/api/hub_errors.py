"""The error bodies of the hub's service API, which its SDKs take apart.

Node's splits `Message` at `;` and `:`, and all know an error by the header `iothub-errorcode`.
Direct methods answer in a form of their own: `Message` is the JSON of the error body of devices.

Source: Azure IoT Hub service REST API, and the code of `azure-iothub` 1.16 and `azure-iot-hub` 2.7.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from fleetroot.errors import ErrorCode, FleetrootError
from fleetroot.gateway.error_bodies import error_body

ERROR_CODE: Final = "iothub-errorcode"
_PATHS: Final = re.compile(
    r"/(devices|twins|statistics|jobs|messages|configurations)(/|$)", re.IGNORECASE
)
_METHODS: Final = re.compile(r"/twins/.+/methods/?$", re.IGNORECASE)
_NAMES: Final = {
    ErrorCode.INVALID_ARGUMENT: "ArgumentInvalid",
    ErrorCode.MALFORMED_JSON: "ArgumentInvalid",
    ErrorCode.UNAUTHORIZED: "IotHubUnauthorizedAccess",
    ErrorCode.TOKEN_INVALID: "IotHubUnauthorizedAccess",
    ErrorCode.FORBIDDEN: "IotHubForbidden",
    ErrorCode.QUOTA_EXCEEDED: "IotHubQuotaExceeded",
    ErrorCode.DEVICE_QUEUE_FULL: "DeviceMaximumQueueDepthExceeded",
    ErrorCode.NOT_FOUND: "DeviceNotFound",
    ErrorCode.DEVICE_NOT_ONLINE: "DeviceNotOnline",
    ErrorCode.CONNECTION_CLOSED: "DeviceConnectionClosedRemotely",
    ErrorCode.ALREADY_EXISTS: "DeviceAlreadyExists",
    ErrorCode.CONFLICT: "Conflict",
    ErrorCode.ETAG_MISMATCH: "PreconditionFailed",
    ErrorCode.MESSAGE_LOCK_LOST: "DeviceMessageLockLost",
    ErrorCode.TOO_LARGE: "MessageTooLarge",
    ErrorCode.THROTTLED: "ThrottlingException",
    ErrorCode.BAD_DEVICE_ANSWER: "BadDeviceResponse",
    ErrorCode.UNAVAILABLE: "ServiceUnavailable",
    ErrorCode.TIMED_OUT: "GatewayTimeout",
}


class HubErrorBody(BaseModel):
    """What an error of the hub's service API is answered with."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(
        serialization_alias="Message",
        description="`ErrorCode:{name};{what is wrong}`; of a direct method, JSON.",
    )
    exception_message: str = Field(
        serialization_alias="ExceptionMessage", description="`Tracking ID:{id}`; mostly."
    )


def is_hub(path: str) -> bool:
    """Whether callers of the path expect this shape."""
    return _PATHS.match(path) is not None


def error_name(error: FleetrootError) -> str:
    """The name by which SDKs know the error, for the header `iothub-errorcode`."""
    return _NAMES.get(error.code, "ServerError")


def hub_error_body(error: FleetrootError, path: str, now: datetime, tracking_id: str) -> bytes:
    """`{"Message", "ExceptionMessage"}`."""
    if _METHODS.search(path):
        message, exception = error_body(error, now, tracking_id).decode("ascii"), ""
    else:
        message = f"ErrorCode:{error_name(error)};{error.message}"
        exception = f"Tracking ID:{tracking_id}"
    return json.dumps({"Message": message, "ExceptionMessage": exception}).encode("ascii")
