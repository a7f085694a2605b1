"""The error body of provisioning and hub: the one place where a domain error becomes JSON."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import uuid4

from fleetroot.clock import iso8601
from fleetroot.errors import FleetrootError


def error_body(
    error: FleetrootError,
    now: datetime,
    tracking_id: str | None = None,
    *,
    says_when: bool = False,
) -> bytes:
    """`{"errorCode", "trackingId", "message", "info", "timestampUtc"}` in ASCII, all else escaped:
    device SDKs decode answers as ASCII. `says_when` puts the seconds until a retry makes sense into
    `info`, as `retryAfter`, for wires that have no other place for it.
    """
    body: dict[str, Any] = {
        "errorCode": error.code.value,
        "trackingId": tracking_id or str(uuid4()),
        "message": error.message,
    }
    info = dict(error.info or {})
    if says_when and error.retry_after is not None:
        info["retryAfter"] = str(error.retry_after)
    if info:
        body["info"] = info
    body["timestampUtc"] = iso8601(now)
    return json.dumps(body).encode("ascii")
