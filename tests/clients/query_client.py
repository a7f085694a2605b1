"""Goes through the pages of queries with the unmodified `azure-iot-hub`, in its own environment,
and prints them as JSON. Its order comes as JSON on stdin: `connectionString` and `queries`, each a
text and how long a page is to be.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import QuerySpecification


def shown(item: Any) -> Any:
    return item.device_id or item.additional_properties


def main() -> None:
    order = json.load(sys.stdin)
    manager = IoTHubRegistryManager.from_connection_string(order["connectionString"])
    saw = []
    for query, size in order["queries"]:
        pages, token = [], None
        while True:
            result = manager.query_iot_hub(QuerySpecification(query=query), token, size)
            pages.append([shown(item) for item in result.items])
            token = result.continuation_token
            if not token:
                break
        saw.append({"type": result.type, "pages": pages})
    json.dump(saw, sys.stdout)


main()
