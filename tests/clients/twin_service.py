"""Reads and changes twins with the unmodified `azure-iot-hub`, in its own environment; prints what
each call gave as JSON, errors as `{"error": status}`. Its order comes as JSON on stdin:
`connectionString` and `calls`, each `[method, argument…]`; `{"twin": {…}}` is the SDK's model.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties
from msrest.exceptions import HttpOperationError


def argument(given: Any) -> Any:
    if not isinstance(given, dict):
        return given
    said = dict(given["twin"])
    if "desired" in said:
        said["properties"] = TwinProperties(desired=said.pop("desired"))
    return Twin(**said)


def main() -> None:
    order = json.load(sys.stdin)
    manager = IoTHubRegistryManager.from_connection_string(order["connectionString"])
    saw = []
    for method, *given in order["calls"]:
        try:
            twin = getattr(manager, method)(*map(argument, given))
        except HttpOperationError as error:
            saw.append({"error": error.response.status_code})
        else:
            saw.append(twin.serialize(keep_readonly=True))
    json.dump(saw, sys.stdout)


main()
