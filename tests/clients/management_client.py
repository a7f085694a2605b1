"""Runs calls of the unmodified Azure management SDKs, in their own environment.

An order comes as JSON on stdin: `url`, `token`, `ca`, `subscription`, `client` (one of `CLIENTS`)
and `calls`, each of the form `[operations.method, [arguments], {keywords}]`. What each gave is
printed as JSON: a resource, many of them, null, or `{"error": {"status", "code", "message"}}`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from azure.core import MatchConditions
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.core.polling import LROPoller
from azure.mgmt.deviceregistry import DeviceRegistryMgmtClient
from azure.mgmt.iothub import IotHubClient
from azure.mgmt.iothubprovisioningservices import IotDpsClient

CLIENTS = {
    "registry": DeviceRegistryMgmtClient,
    "hubs": IotHubClient,
    "provisioning services": IotDpsClient,
}


class Bearer:
    """A credential that has its token already."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_: Any) -> AccessToken:
        return AccessToken(self._token, int(time.time()) + 3600)


def run(client: Any, call: list[Any]) -> Any:
    """One call, waited for."""
    name, arguments, keywords = call
    operations, method = name.split(".")
    if "match_condition" in keywords:
        keywords["match_condition"] = MatchConditions[keywords["match_condition"]]
    try:
        found = getattr(getattr(client, operations), method)(*arguments, **keywords)
        if isinstance(found, LROPoller):
            found = found.result(30)
        return shown(found)
    except HttpResponseError as error:
        code = error.error.code if error.error else None
        message = error.error.message if error.error else str(error)
        return {"error": {"status": error.status_code, "code": code, "message": message}}


def shown(found: Any) -> Any:
    """A model as JSON; a pager as the list of all its pages."""
    if found is None or isinstance(found, str | int | bool):
        return found
    if hasattr(found, "as_dict"):
        return found.as_dict()
    return [shown(each) for each in found]


def main() -> None:
    """Runs an order."""
    order = json.load(sys.stdin)
    client = CLIENTS[order["client"]](
        Bearer(order["token"]),
        order["subscription"],
        base_url=order["url"],
        credential_scopes=["https://fleetroot.invalid/.default"],
        connection_verify=order["ca"],
        retry_total=0,
    )
    json.dump([run(client, call) for call in order["calls"]], sys.stdout, default=str)


if __name__ == "__main__":
    main()
