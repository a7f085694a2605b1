"""What a device makes of the server's answers."""

from __future__ import annotations

import json

import pytest

from fleetroot.agent.answer import Answer
from fleetroot.agent.errors import ServerBusy


@pytest.mark.parametrize(
    ("topic", "info", "seconds"),
    [
        ("$dps/registrations/res/429/?$rid=1&retry-after=7", None, 7.0),
        ("$iothub/credentials/res/429/?$rid=1", {"retryAfter": "7"}, 7.0),
        ("$iothub/credentials/res/503/?$rid=1", {"retryAfter": "soon"}, None),
        ("$iothub/credentials/res/503/?$rid=1", None, None),
    ],
)
def test_device_waits_as_long_as_either_service_says(
    topic: str, info: dict[str, str] | None, seconds: float | None
) -> None:
    answer = Answer.parse(topic, json.dumps({"errorCode": 429001, "info": info}).encode())
    assert answer is not None
    error = answer.error("renewal")
    assert isinstance(error, ServerBusy)
    assert error.retry_after == seconds
