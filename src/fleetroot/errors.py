"""The errors of the domain, each with the code that its wires document.

Rooms raise these; each wire maps them once, in one place. A message is written for the peer and
holds no secret. `reason` is for the operator (log, metric, `explain`) and is never sent: a peer
that fails to authenticate learns that it failed, not how close it came.

Codes: Azure IoT Hub and Device Provisioning Service error codes. A code's first three digits are
its HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class ErrorCode(IntEnum):
    """The documented error codes of provisioning and hub."""

    INVALID_ARGUMENT = 400004
    MALFORMED_JSON = 400006
    CONNECTION_REPLACED = 400027
    CREDENTIAL_REQUEST_FAILED = 400037
    CUSTOM_ALLOCATION_FAILED = 400207
    CUSTOM_ALLOCATION_NO_HUB = 400208
    CUSTOM_ALLOCATION_UNAUTHORIZED = 400209
    UNAUTHORIZED = 401002
    TOKEN_INVALID = 401003
    FORBIDDEN = 403001
    QUOTA_EXCEEDED = 403002
    DEVICE_QUEUE_FULL = 403004
    NOT_FOUND = 404001
    DEVICE_NOT_ONLINE = 404103
    CONNECTION_CLOSED = 404104
    ENROLLMENT_NOT_FOUND = 404201
    REGISTRATION_NOT_FOUND = 404202
    CONFLICT = 409000
    ALREADY_EXISTS = 409001
    CREDENTIAL_REQUEST_ACTIVE = 409004
    ETAG_MISMATCH = 412001
    MESSAGE_LOCK_LOST = 412002
    TOO_LARGE = 413001
    THROTTLED = 429001
    SERVER_ERROR = 500001
    BAD_DEVICE_ANSWER = 502001
    UNAVAILABLE = 503001
    TIMED_OUT = 504101

    @property
    def status(self) -> int:
        """The HTTP status that this code belongs to."""
        return self.value // 1000


class FleetrootError(Exception):
    """A refusal or failure that a wire can answer with.

    Attributes:
        message: what the peer is told.
        info: more for the peer, as the wire's `info` object.
        retry_after: whole seconds after which a retry makes sense, where one does.
        reason: what the operator is told; a short, stable, greppable word or phrase.
    """

    code: ErrorCode = ErrorCode.SERVER_ERROR

    def __init__(
        self,
        message: str,
        *,
        info: Mapping[str, str] | None = None,
        retry_after: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.info = dict(info) if info else None
        self.retry_after = retry_after
        self.reason = reason or message


class InvalidArgument(FleetrootError):
    """A field of the request is missing, of the wrong type or out of range."""

    code = ErrorCode.INVALID_ARGUMENT


class MalformedJson(FleetrootError):
    """The body is not JSON."""

    code = ErrorCode.MALFORMED_JSON


class TooLarge(FleetrootError):
    """A body or field is over its documented limit."""

    code = ErrorCode.TOO_LARGE


class CredentialRequestFailed(FleetrootError):
    """A certificate request that was accepted for work cannot be fulfilled."""

    code = ErrorCode.CREDENTIAL_REQUEST_FAILED


class Unauthorized(FleetrootError):
    """The peer did not prove who it is, or may not do this as who it is."""

    code = ErrorCode.UNAUTHORIZED

    def __init__(self, reason: str, *, message: str = "Unauthorized") -> None:
        super().__init__(message, reason=reason)


class TokenInvalid(Unauthorized):
    """A SAS token is malformed, expired, for another resource, or signed with another key."""

    code = ErrorCode.TOKEN_INVALID


class TpmChallenge(Unauthorized):
    """A device with a TPM is to sign with a key that its TPM alone can open; nothing was refused.

    Attributes:
        authentication_key: that key, for the TPM (`provisioning.tpm_protection`).
    """

    def __init__(self, authentication_key: bytes) -> None:
        super().__init__("TPM challenge", message="Sign with the authentication key")
        self.authentication_key = authentication_key


class Forbidden(FleetrootError):
    """The peer is who it says, and may not do this."""

    code = ErrorCode.FORBIDDEN


class ApprovalNeeded(Forbidden):
    """A second person must approve this first; `info` names the request."""


class NotFound(FleetrootError):
    """What the request names does not exist."""

    code = ErrorCode.NOT_FOUND


class EnrollmentNotFound(NotFound):
    """No individual enrollment or enrollment group answers to the registration id."""

    code = ErrorCode.ENROLLMENT_NOT_FOUND


class RegistrationNotFound(NotFound):
    """The device has no registration, or no such operation."""

    code = ErrorCode.REGISTRATION_NOT_FOUND


class DeviceNotOnline(FleetrootError):
    """The device is not connected, or does not listen to what it is asked."""

    code = ErrorCode.DEVICE_NOT_ONLINE


class ConnectionClosed(FleetrootError):
    """The device's connection ended before it answered."""

    code = ErrorCode.CONNECTION_CLOSED


class BadDeviceAnswer(FleetrootError):
    """The device answered with something that is no answer."""

    code = ErrorCode.BAD_DEVICE_ANSWER


class DeviceQueueFull(FleetrootError):
    """As many messages as may be wait for the device."""

    code = ErrorCode.DEVICE_QUEUE_FULL


class MessageLockLost(FleetrootError):
    """A message is not locked by the token that is shown, or not any more."""

    code = ErrorCode.MESSAGE_LOCK_LOST


class AlreadyExists(FleetrootError):
    """Something of that name exists and the request asked to create it."""

    code = ErrorCode.ALREADY_EXISTS


class Conflict(FleetrootError):
    """The resource is in a state, or in a use, that does not allow what is asked."""

    code = ErrorCode.CONFLICT


class CredentialRequestActive(FleetrootError):
    """The device has a certificate request in progress and did not ask to replace it."""

    code = ErrorCode.CREDENTIAL_REQUEST_ACTIVE


class EtagMismatch(FleetrootError):
    """The resource changed since the caller read it."""

    code = ErrorCode.ETAG_MISMATCH


class Unavailable(FleetrootError):
    """A part that the answer needs (database, key, CA) is away for now; retrying helps."""

    code = ErrorCode.UNAVAILABLE


class Throttled(Unavailable):
    """The peer asks more often than it may; asking later helps."""

    code = ErrorCode.THROTTLED


class Crowded(Throttled):
    """All who share something ask more often than they may together: nobody's own fault."""


class TimedOut(FleetrootError):
    """What was asked took longer than it may."""

    code = ErrorCode.TIMED_OUT


class NoSuchRequest(EtagMismatch):
    """A certificate request asks to replace one that is not active."""


def error_of_code(
    code: ErrorCode, message: str, *, info: Mapping[str, str] | None = None
) -> FleetrootError:
    """An error that was kept by its code, as an error again."""
    error = FleetrootError(message, info=info)
    error.code = code
    return error
