"""The provisioning device API over HTTPS: register, poll, look up.

Attestation is checked on every request, so a connection that is kept alive proves nothing. It is a
plain ASGI application, because a fleet that onboards runs through it.

Source: Azure DPS device REST API, "Runtime Registration".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, unquote

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
    peer_chain,
    read_body,
    respond,
    token_of,
)
from fleetroot.api.tracing import peer_of
from fleetroot.clock import Clock
from fleetroot.errors import (
    EnrollmentNotFound,
    FleetrootError,
    InvalidArgument,
    TooLarge,
    TpmChallenge,
    Unauthorized,
)
from fleetroot.gateway.error_bodies import error_body
from fleetroot.gateway.names import CsrField
from fleetroot.gateway.refusal_history import Subject, SubjectKind
from fleetroot.gateway.refusals import Refusals, new_trace_id
from fleetroot.gateway.registration_bodies import (
    MAX_BODY_BYTES,
    challenge,
    csr_field,
    is_final,
    operation_status,
    read_registration,
    registration_state,
)
from fleetroot.provisioning import Provisioning
from fleetroot.provisioning.model import OnboardingCredential, RegisterRequest, RegistrationResult

_RETRY_AFTER: Final = 3  # seconds, for what is not done yet
# First words of other paths of the port, where an ID scope would stand here.
_NO_ID_SCOPES: Final = frozenset({"enrollments", "enrollmentgroups", "registrations", "fleetroot"})
_log = structlog.get_logger("fleetroot.api")


@dataclass(frozen=True, slots=True)
class DevicePath:
    """A path of this API; names are decoded once.

    Attributes:
        call: `register`, `operations`, or empty for the look-up.
    """

    id_scope: str
    registration_id: str
    call: str
    operation_id: str


def parse_path(raw_path: bytes) -> DevicePath | None:
    """Parses `/{idScope}/registrations/{registrationId}[/register|/operations/{operationId}]`,
    the fixed words in any case, with or without a slash behind; None where it is another path.
    """
    if len(raw_path) > MAX_PATH_BYTES:
        return None
    parts = raw_path.decode("ascii", "replace").split("/")
    if len(parts) > 4 and not parts[-1]:
        parts.pop()
    if len(parts) < 4 or parts[2].lower() != "registrations" or parts[1].lower() in _NO_ID_SCOPES:
        return None
    match [part.lower() for part in parts[4:5]], len(parts):
        case ([], 4) | (["register"], 5) | (["operations"], 6):
            pass
        case _:
            return None
    id_scope, registration_id, operation_id = (
        unquote(part) if "%" in part else part
        for part in (parts[1], parts[3], parts[5] if len(parts) == 6 else "")
    )
    call = parts[4].lower() if len(parts) > 4 else ""
    return DevicePath(id_scope, registration_id, call, operation_id)


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, parsed but for its body."""

    path: DevicePath
    api_version: str
    field: CsrField
    credential: OnboardingCredential
    body: bytes
    peer: str
    trace_id: str


class DeviceRegistrations:
    """Answers devices that come to provision."""

    def __init__(self, provisioning: Provisioning, refusals: Refusals, clock: Clock) -> None:
        self._provisioning = provisioning
        self._refusals = refusals
        self._clock = clock
        self._calls: dict[
            str, tuple[str, Callable[[_Call], Awaitable[tuple[RegistrationResult, bytes]]]]
        ] = {
            "register": ("PUT", self._register),
            "operations": ("GET", self._operation),
            "": ("POST", self._look_up),
        }

    async def answer(self, path: DevicePath, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the HTTP request of `scope`, whose path is `path`."""
        method, call = self._calls[path.call]
        trace_id = new_trace_id()
        try:
            if scope["method"] != method:
                raise WrongMethod(method)
            request = await self._read(path, scope, receive, trace_id)
            result, body = await call(request)
        except Gone:
            return
        except TpmChallenge as error:
            await _respond(send, 401, challenge(error), trace_id, [CHALLENGE])
        except FleetrootError as error:
            await self._refuse(error, path, scope, send, trace_id)
        except Exception as error:  # noqa: BLE001 - one request's failure is not the server's
            _log.error("unexpected failure", path=scope["path"], exc_info=error)
            failure = FleetrootError("the server failed")
            await self._refuse(failure, path, scope, send, trace_id)
        else:
            if is_final(result) or not path.call:
                await _respond(send, 200, body, trace_id)
            else:
                await _respond(send, 202, body, trace_id, _come_back(request, result))

    async def _read(self, path: DevicePath, scope: Scope, receive: Receive, trace_id: str) -> _Call:
        version = api_version(scope["query_string"])
        field = csr_field(version)
        token = token_of(scope)
        body = await read_body(scope, receive, MAX_BODY_BYTES, "a registration")
        return _Call(
            path,
            version or "",
            field,
            OnboardingCredential(token, peer_chain(scope), may_be_challenged=True),
            body,
            peer_of(scope),
            trace_id,
        )

    async def _register(self, call: _Call) -> tuple[RegistrationResult, bytes]:
        path = call.path
        asked = read_registration(call.body, path.registration_id, call.field)
        credential = call.credential
        if asked.tpm is not None:
            credential = replace(credential, tpm=asked.tpm)
        result = await self._provisioning.register(
            RegisterRequest(
                path.id_scope,
                path.registration_id,
                credential,
                asked.csr,
                call.peer,
                call.trace_id,
                asked.payload,
            )
        )
        return result, operation_status(result, call.field, call.api_version)

    async def _operation(self, call: _Call) -> tuple[RegistrationResult, bytes]:
        path = call.path
        result = await self._provisioning.operation(
            path.id_scope, path.registration_id, call.credential, path.operation_id, call.peer
        )
        return result, operation_status(result, call.field, call.api_version)

    async def _look_up(self, call: _Call) -> tuple[RegistrationResult, bytes]:
        path = call.path
        if read_registration(call.body, path.registration_id, call.field).csr is not None:
            raise InvalidArgument(
                f"{call.field.value}: not in a look-up", reason="CSR in a look-up"
            )
        result = await self._provisioning.registration(
            path.id_scope, path.registration_id, call.credential, call.peer
        )
        return result, registration_state(result, call.api_version)

    async def _refuse(
        self, error: FleetrootError, path: DevicePath, scope: Scope, send: Send, trace_id: str
    ) -> None:
        self._refusals.add(
            "provisioning",
            error,
            peer=peer_of(scope),
            about=Subject(SubjectKind.REGISTRATION, path.id_scope, path.registration_id),
            trace_id=trace_id,
        )
        status, retry_after = error.code.status, error.retry_after
        headers = [(b"x-ms-error-code", str(error.code.value).encode())]
        if retry_after is None and (status == 429 or status >= 500):
            retry_after = _RETRY_AFTER
        if retry_after is not None:
            headers.append((b"retry-after", str(retry_after).encode()))
        if status == 401:
            headers.append(CHALLENGE)
        if isinstance(error, TooLarge | Unauthorized | EnrollmentNotFound):
            # The rest of it is not read; and who guesses pays for a handshake each time.
            headers.append((b"connection", b"close"))
        elif isinstance(error, WrongMethod):
            status = 405
            headers.append((b"allow", error.allowed.encode()))
        body = error_body(error, self._clock.now(), trace_id)
        await _respond(send, status, body, trace_id, headers)


def _come_back(call: _Call, result: RegistrationResult) -> list[tuple[bytes, bytes]]:
    path = call.path
    location = (
        f"/{quote(path.id_scope, safe='')}/registrations/{quote(path.registration_id, safe='')}"
        f"/operations/{result.registration.operation_id}?api-version={call.api_version}"
    )
    return [(b"retry-after", str(_RETRY_AFTER).encode()), (b"location", location.encode())]


async def _respond(
    send: Send,
    status: int,
    body: bytes,
    trace_id: str,
    headers: list[Header] | None = None,
) -> None:
    await respond(send, status, body, trace_id, [JSON, *(headers or ())])
