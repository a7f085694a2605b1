"""The error body of provisioning and hub: the one place where a domain error becomes JSON."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import uuid4

from fleetroot.clock import iso8601
from fleetroot.errors import FleetrootError


def error_body(error: FleetrootError, now: datetime, tracking_id: str | None = None) -> bytes:
    """`{"errorCode", "trackingId", "message", "info", "timestampUtc"}` in ASCII, all else escaped:
    device SDKs decode answers as ASCII.
    """
    body: dict[str, Any] = {
        "errorCode": error.code.value,
        "trackingId": tracking_id or str(uuid4()),
        "message": error.message,
    }
    if error.info:
        body["info"] = error.info
    body["timestampUtc"] = iso8601(now)
    return json.dumps(body).encode("ascii")
