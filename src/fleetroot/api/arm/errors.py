"""The error body of Azure Resource Manager.

Source: Azure Resource Manager, "Common error response".
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from fleetroot.errors import ApprovalNeeded, ErrorCode, FleetrootError

PATHS: Final = ("/subscriptions/", "/providers/")
_CODES: Final = {
    ErrorCode.INVALID_ARGUMENT: "InvalidParameter",
    ErrorCode.MALFORMED_JSON: "InvalidRequestContent",
    ErrorCode.UNAUTHORIZED: "AuthenticationFailed",
    ErrorCode.TOKEN_INVALID: "AuthenticationFailed",
    ErrorCode.FORBIDDEN: "AuthorizationFailed",
    ErrorCode.NOT_FOUND: "ResourceNotFound",
    ErrorCode.CONFLICT: "Conflict",
    ErrorCode.ALREADY_EXISTS: "Conflict",
    ErrorCode.ETAG_MISMATCH: "PreconditionFailed",
    ErrorCode.TOO_LARGE: "RequestEntityTooLarge",
    ErrorCode.THROTTLED: "TooManyRequests",
    ErrorCode.UNAVAILABLE: "ServiceUnavailable",
}
_CODES_OF_REASONS: Final = {
    "missing api-version": "MissingApiVersionParameter",
    "unknown api-version": "InvalidApiVersionParameter",
    "property change not allowed": "PropertyChangeNotAllowed",
    "no such subscription": "SubscriptionNotFound",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ArmErrorInfo(_Part):
    """More for the caller."""

    type: str
    info: dict[str, str]


class ArmErrorDetail(_Part):
    """What went wrong; `code` is for programs."""

    code: str
    message: str
    target: str = Field(default="", description="What it is about; mostly left out.")
    details: list[ArmErrorDetail]
    additional_info: list[ArmErrorInfo] = Field(
        default=[], serialization_alias="additionalInfo", description="Mostly left out."
    )


class ArmErrorBody(_Part):
    """What an error of the management API is answered with."""

    error: ArmErrorDetail


def is_arm(path: str) -> bool:
    """Whether callers of the path expect this shape."""
    return path.lower().startswith(PATHS)


def arm_error_body(error: FleetrootError) -> bytes:
    """`{"error": {"code", "message", "details"}}`; details hold the error's `info`."""
    code = _CODES_OF_REASONS.get(error.reason) or _CODES.get(error.code, "InternalServerError")
    if isinstance(error, ApprovalNeeded):
        code = "ApprovalNeeded"
    shown: dict[str, Any] = {"code": code, "message": error.message, "details": []}
    if error.info:
        shown["additionalInfo"] = [{"type": code, "info": error.info}]
    return json.dumps({"error": shown}).encode("ascii")
