"""`fleetroot hub`."""

from __future__ import annotations

from typing import Any

import click

from fleetroot.cli.access_keys import add_key_commands
from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.hub_authorities import authorities, unsynchronize
from fleetroot.cli.hub_messages import purge, send
from fleetroot.cli.hub_methods import method
from fleetroot.cli.identities import identity
from fleetroot.cli.namespaces import namespace_option
from fleetroot.cli.output import json_option, print_json, print_table, when
from fleetroot.cli.service_commands import add_service_commands, print_service
from fleetroot.cli.tags import parse_tags, shown_tags
from fleetroot.cli.uploaded_certificates import add_certificate_commands

_ROOT = "/fleetroot/hubs"


@click.group()
def hub() -> None:
    """Create, list, show, tag, link and delete hubs; their keys, CAs, devices, messages."""


@hub.command("list")
@json_option
@asks_server
def list_(client: Client, as_json: bool) -> None:
    """List every hub."""
    found = client.get(_ROOT)["value"]
    if as_json:
        print_json(found)
        return
    rows = [(h["name"], h["hostName"], h["namespace"], shown_tags(h)) for h in found]
    print_table(("Hub", "Host name", "Namespace", "Tags"), rows, "no hubs")


@hub.command()
@click.argument("name")
@namespace_option
@click.option("--host-name", help="By default its name, under the server's domain.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE")
@json_option
@asks_server
def create(
    client: Client,
    name: str,
    namespace: str,
    host_name: str | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Create a hub; the server shows a certificate for its host name at once."""
    body = {"namespace": namespace, "hostName": host_name, "tags": parse_tags(tags)}
    print_service(client.put(f"{_ROOT}/{quoted(name)}", body), _fields, as_json)


def _fields(found: dict[str, Any]) -> dict[str, str]:
    return {
        "Hub": found["name"],
        "Host name": found["hostName"],
        "Namespace": found["namespace"],
        "Tags": shown_tags(found),
        "Created": when(found["createdAt"]),
        "Etag": found["etag"],
    }


add_service_commands(
    hub,
    _ROOT,
    "hub",
    _fields,
    link_help="Let a hub without devices belong to another namespace.",
    delete_help="Delete a hub, with the identities and twins of its devices.",
)
add_key_commands(hub, _ROOT)
add_certificate_commands(hub, _ROOT)
hub.add_command(authorities)
hub.add_command(unsynchronize)
hub.add_command(identity)
hub.add_command(send)
hub.add_command(purge)
hub.add_command(method)
