"""Certificate requests in progress: their table. A device has one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import orjson
from sqlalchemy import bindparam, delete, select, update

from fleetroot.errors import ErrorCode, FleetrootError, error_of_code
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import credential_requests


class RequestState(StrEnum):
    """Where a request stands."""

    ISSUING = "issuing"
    ANSWERED = "answered"  # the final answer is there and may not have reached the device


@dataclass(frozen=True, slots=True)
class CredentialRequest:
    """A device's request, with its final answer once there is one: the SHA-256 of the certificate,
    or the error.
    """

    hub_id: str
    device_key: str
    request_id: str
    correlation_id: str
    state: RequestState
    certificate_sha256: bytes | None
    error: FleetrootError | None
    expires_at: datetime
    created_at: datetime


def _row(
    hub_id: str,
    device_key: str,
    request_id: str,
    correlation_id: str,
    state: str,
    certificate_sha256: bytes | None,
    error_code: int | None,
    error_message: str | None,
    error_info: str | None,
    expires_at: datetime,
    created_at: datetime,
) -> CredentialRequest:
    return CredentialRequest(
        hub_id,
        device_key,
        request_id,
        correlation_id,
        RequestState(state),
        certificate_sha256,
        _error(error_code, error_message, error_info),
        expires_at,
        created_at,
    )


def _error(code: int | None, message: str | None, info: str | None) -> FleetrootError | None:
    if code is None:
        return None
    return error_of_code(ErrorCode(code), message or "", info=orjson.loads(info) if info else None)


_table: Final = credential_requests
_of_device: Final = (_table.c.hub_id == bindparam("hub")) & (
    _table.c.device_key == bindparam("key")
)
_is_request: Final = _of_device & (_table.c.correlation_id == bindparam("correlation"))
_GET: Final = Query(select(_table).where(_of_device), _row)
_OPEN: Final = Command(upsert_into(_table))
_ANSWER: Final = Command(
    update(_table)
    .where(_is_request)
    .values(
        state=RequestState.ANSWERED.value,
        certificate_sha256=bindparam("sha256"),
        error_code=bindparam("code"),
        error_message=bindparam("message"),
        error_info=bindparam("info"),
    )
)
_REMOVE: Final = Command(delete(_table).where(_is_request))
_INTERRUPTED: Final = Command(delete(_table).where(_table.c.state == RequestState.ISSUING.value))
_EXPIRED: Final = Command(delete(_table).where(_table.c.expires_at < bindparam("now")))


def find(tx: Transaction, hub_id: str, device_key: str, now: datetime) -> CredentialRequest | None:
    """The device's request, if it has one that is alive."""
    request = tx.first(_GET, hub=hub_id, key=device_key)
    return request if request and request.expires_at > now else None


def open_one(tx: Transaction, request: CredentialRequest) -> None:
    """Adds the request in place of any that the device had."""
    tx.run(
        _OPEN,
        hub_id=request.hub_id,
        device_key=request.device_key,
        request_id=request.request_id,
        correlation_id=request.correlation_id,
        state=request.state.value,
        certificate_sha256=None,
        error_code=None,
        error_message=None,
        error_info=None,
        expires_at=request.expires_at,
        created_at=request.created_at,
    )


def answer(tx: Transaction, request: CredentialRequest, outcome: bytes | FleetrootError) -> bool:
    """Keeps the final answer, the SHA-256 of a certificate or an error; False if the request was
    replaced and wants none.
    """
    error = outcome if isinstance(outcome, FleetrootError) else None
    changed = tx.run(
        _ANSWER,
        hub=request.hub_id,
        key=request.device_key,
        correlation=request.correlation_id,
        sha256=None if error else outcome,
        code=error.code.value if error else None,
        message=error.message if error else None,
        info=orjson.dumps(error.info).decode() if error and error.info else None,
    )
    return changed == 1


def remove(tx: Transaction, request: CredentialRequest) -> None:
    """Ends the request: its answer reached the device."""
    tx.run(
        _REMOVE,
        hub=request.hub_id,
        key=request.device_key,
        correlation=request.correlation_id,
    )


def remove_expired(tx: Transaction, now: datetime) -> None:
    """Removes what nobody came back for."""
    tx.run(_EXPIRED, now=now)


def remove_interrupted(tx: Transaction) -> None:
    """Removes what a node that stopped was working on; its devices ask again."""
    tx.run(_INTERRUPTED)
