"""The unmodified `azure-iot-device` SDK, whose hub a webhook chooses while it polls."""

from __future__ import annotations

import json

import pytest
from test_azure_iot_device import PYTHON, SdkFailed, key_order, sdk

from fleet import Fleet
from webhook_server import WebhookServer, answer

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="the SDK's environment is missing: `make test` makes it"
)


async def test_sdk_is_assigned_by_a_webhook_and_both_payloads_arrive(
    calling_fleet: Fleet, webhook: WebhookServer
) -> None:
    fleet = calling_fleet
    key, _ = await fleet.enroll(
        "sdk-1",
        allocationPolicy="custom",
        customAllocationDefinition={"webhookUrl": webhook.url(), "apiVersion": "2021-10-01"},
    )
    webhook.answers = [answer({"iotHubHostName": fleet.hub_host, "payload": {"b": "ñ"}})]
    order = key_order(fleet, "sdk-1", key) | {"payload": {"a": [1, "ñ"]}}
    saw = await sdk("by-key", fleet, **order)
    assert saw["hub"] == fleet.hub_host
    assert json.loads(saw["payload"]) == {"b": "ñ"}
    assert webhook.asked[0].json["deviceRuntimeContext"]["payload"] == {"a": [1, "ñ"]}
    webhook.answers = [answer({}, 403)]
    with pytest.raises(SdkFailed, match="failed"):
        await sdk("by-key", fleet, **order)
