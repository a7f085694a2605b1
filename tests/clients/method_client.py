"""Calls direct methods with the unmodified `azure-iot-hub`, in its own environment; prints what
each call gave as JSON. Its order comes as JSON on stdin.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod
from msrest.exceptions import HttpOperationError


def main() -> None:
    order = json.load(sys.stdin)
    manager = IoTHubRegistryManager.from_connection_string(order["connectionString"])

    def call(device: str, said: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = manager.invoke_device_method(device, CloudToDeviceMethod(**said))
        except HttpOperationError as error:
            response = error.response
            named = response.headers.get("iothub-errorcode")
            return {"error": response.status_code, "name": named}
        return {"status": answer.status, "payload": answer.payload}

    json.dump([call(*each) for each in order["calls"]], sys.stdout)


main()
