"""Times in bodies that clients send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator


def _utc(sent: object) -> datetime:
    """A time of a body, with the offset that it must have (RFC 3339 §5.6)."""
    if not isinstance(sent, str):
        raise ValueError("must be a time")
    time = datetime.fromisoformat(sent)
    if time.tzinfo is None:
        raise ValueError("must have an offset from UTC")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


SentTime = Annotated[AwareDatetime, BeforeValidator(_utc)]
"""ISO 8601 with an offset; in UTC from here on."""
