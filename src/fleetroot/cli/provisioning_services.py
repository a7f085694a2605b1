"""`fleetroot provisioning-service`."""

from __future__ import annotations

from typing import Any

import click

from fleetroot.cli.access_keys import add_key_commands
from fleetroot.cli.allocations import add_allocation_commands
from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.namespaces import namespace_option
from fleetroot.cli.output import json_option, print_json, print_table, when
from fleetroot.cli.service_commands import add_service_commands, print_service
from fleetroot.cli.tags import parse_tags, shown_tags
from fleetroot.cli.uploaded_certificates import add_certificate_commands

_ROOT = "/fleetroot/provisioning-services"
_POLICIES = ("Hashed", "GeoLatency", "Static")


@click.group("provisioning-service")
def provisioning_service() -> None:
    """Create, list, show, tag, link and delete provisioning services; their keys, hubs, CA
    certificates, regions and webhook secrets.
    """


@provisioning_service.command("list")
@json_option
@asks_server
def list_(client: Client, as_json: bool) -> None:
    """List every provisioning service."""
    found = client.get(_ROOT)["value"]
    if as_json:
        print_json(found)
        return
    rows = [(s["name"], s["idScope"], s["namespace"], _hubs(s)) for s in found]
    print_table(("Provisioning service", "ID scope", "Namespace", "Hubs"), rows, "none")


@provisioning_service.command()
@click.argument("name")
@namespace_option
@click.option("--host-name", help="By default its name and `dps`, under the server's domain.")
@click.option(
    "--allocation-policy", type=click.Choice(_POLICIES), default="Hashed", show_default=True
)
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE")
@json_option
@asks_server
def create(
    client: Client,
    name: str,
    namespace: str,
    host_name: str | None,
    allocation_policy: str,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Create a provisioning service, with an ID scope of its own."""
    body = {
        "namespace": namespace,
        "hostName": host_name,
        "allocationPolicy": allocation_policy,
        "tags": parse_tags(tags),
    }
    print_service(client.put(f"{_ROOT}/{quoted(name)}", body), _fields, as_json)


@provisioning_service.command("link-hub")
@click.argument("name")
@click.argument("host_name", metavar="HUB_HOST_NAME")
@click.option("--weight", type=click.IntRange(1, 1000), help="Of the devices that are spread.")
@click.option(
    "--allocate/--no-allocate", default=None, help="Whether it gets devices that are spread."
)
@json_option
@asks_server
def link_hub(
    client: Client,
    name: str,
    host_name: str,
    weight: int | None,
    allocate: bool | None,
    as_json: bool,
) -> None:
    """Let a provisioning service assign devices to a hub, or change how."""
    body = {"allocationWeight": weight, "applyAllocationPolicy": allocate}
    print_service(
        client.put(f"{_ROOT}/{quoted(name)}/hubs/{quoted(host_name)}", body), _fields, as_json
    )


@provisioning_service.command("unlink-hub")
@click.argument("name")
@click.argument("host_name", metavar="HUB_HOST_NAME")
@json_option
@asks_server
def unlink_hub(client: Client, name: str, host_name: str, as_json: bool) -> None:
    """Let a provisioning service assign no more devices to a hub."""
    client.delete(f"{_ROOT}/{quoted(name)}/hubs/{quoted(host_name)}")
    if as_json:
        print_json({"unlinked": host_name})
    else:
        click.echo(f"{host_name}: unlinked")


def _hubs(found: dict[str, Any]) -> str:
    return ", ".join(hub["name"] for hub in found["iotHubs"]) or "-"


def _fields(found: dict[str, Any]) -> dict[str, str]:
    hubs = [
        f"{hub['hostName']} (weight {hub['allocationWeight']})"
        if hub["applyAllocationPolicy"]
        else f"{hub['hostName']} (where an enrollment names it)"
        for hub in found["iotHubs"]
    ]
    return {
        "Provisioning service": found["name"],
        "ID scope": found["idScope"],
        "Host name": found["hostName"],
        "Namespace": found["namespace"],
        "Allocation": found["allocationPolicy"],
        "Hubs": ", ".join(hubs) or "-",
        "Tags": shown_tags(found),
        "Created": when(found["createdAt"]),
        "Etag": found["etag"],
    }


add_service_commands(
    provisioning_service,
    _ROOT,
    "provisioning service",
    _fields,
    link_help="Let a provisioning service that is not used belong to another namespace.",
    delete_help="Delete a provisioning service without enrollments.",
)
add_key_commands(provisioning_service, _ROOT)
add_certificate_commands(provisioning_service, _ROOT)
add_allocation_commands(provisioning_service, _ROOT)
