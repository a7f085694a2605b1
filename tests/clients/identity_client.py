"""Runs calls of `IoTHubRegistryManager` of the unmodified `azure-iot-hub`, in its own environment.

An order comes as JSON on stdin: `connectionString` and `calls`, each `[method, argument…]`; `"$n"`
is the etag that call n answered. `bulk` takes items as the SDK's models have them. What each call
gave is printed as JSON, errors as `{"error": status}`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.protocol.models import (
    AuthenticationMechanism,
    ExportImportDevice,
    SymmetricKey,
)
from msrest.exceptions import HttpOperationError


def item(given: dict[str, Any]) -> ExportImportDevice:
    keys = given.pop("keys", None)
    if keys:
        mechanism = AuthenticationMechanism(
            type="sas", symmetric_key=SymmetricKey(primary_key=keys[0], secondary_key=keys[1])
        )
        given["authentication"] = mechanism
    return ExportImportDevice(**given)


def shown(value: Any) -> Any:
    if isinstance(value, list):
        return [shown(each) for each in value]
    return value.serialize(keep_readonly=True) if hasattr(value, "serialize") else value


def main() -> None:
    order = json.load(sys.stdin)
    manager = IoTHubRegistryManager.from_connection_string(order["connectionString"])
    saw: list[Any] = []
    for method, *given in order["calls"]:
        arguments = [
            saw[int(each[1:])]["etag"] if isinstance(each, str) and each.startswith("$") else each
            for each in given
        ]
        try:
            if method == "bulk":
                result = manager.bulk_create_or_update_devices([item(each) for each in arguments])
            else:
                result = getattr(manager, method)(*arguments)
            saw.append(shown(result))
        except HttpOperationError as error:
            saw.append({"error": error.response.status_code})
    json.dump(saw, sys.stdout)


main()
