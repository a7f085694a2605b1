"""`keys` and `rotate-key` of hubs and provisioning services."""

from __future__ import annotations

from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_fields, print_json


def add_key_commands(group: click.Group, root: str) -> None:
    """Gives a group the commands; `root` is the path of what it is about."""

    @group.command()
    @click.argument("name")
    @click.option(
        "--connection-string",
        metavar="POLICY",
        help="Print only the connection string of one shared access policy.",
    )
    @json_option
    @asks_server
    def keys(client: Client, name: str, connection_string: str | None, as_json: bool) -> None:
        """Show the shared access policies with their keys. This is audited."""
        path = f"{root}/{quoted(name)}"
        found = client.post(f"{path}/keys")["value"]
        if connection_string is not None:
            click.echo(_connection_string(client.get(path)["hostName"], found, connection_string))
        elif as_json:
            print_json(found)
        else:
            for policy in found:
                _print(policy)

    @group.command("rotate-key")
    @click.argument("name")
    @click.argument("policy")
    @click.option("--key", type=click.Choice(("primary", "secondary")), required=True)
    @json_option
    @asks_server
    def rotate_key(client: Client, name: str, policy: str, key: str, as_json: bool) -> None:
        """Draw one key of a shared access policy anew. Tokens of the old one are good no more."""
        path = f"{root}/{quoted(name)}/keys/{quoted(policy)}/rotate"
        rotated = client.post(path, {"key": key})
        if as_json:
            print_json(rotated)
        else:
            _print(rotated)


def _print(policy: dict[str, Any]) -> None:
    print_fields(
        {
            "Policy": policy["keyName"],
            "Rights": policy["rights"],
            "Primary key": policy["primaryKey"],
            "Secondary key": policy["secondaryKey"],
        }
    )


def _connection_string(host_name: str, policies: list[dict[str, Any]], name: str) -> str:
    for policy in policies:
        if policy["keyName"] == name:
            key = policy["primaryKey"]
            return f"HostName={host_name};SharedAccessKeyName={name};SharedAccessKey={key}"
    raise click.ClickException(f"there is no shared access policy {name}")
