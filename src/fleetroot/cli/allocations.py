"""`fleetroot provisioning-service region` and `webhook-secret`."""

from __future__ import annotations

from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_fields, print_json, print_table


def add_allocation_commands(group: click.Group, root: str) -> None:
    """Gives a group the commands; `root` is the path of what it is about."""
    _add_region_commands(group, root)
    _add_secret_commands(group, root)


def _add_region_commands(group: click.Group, root: str) -> None:
    @group.group()
    def region() -> None:
        """Say where devices call from, and how far hubs are from there: for allocation by
        latency.
        """

    @region.command("list")
    @click.argument("name")
    @json_option
    @asks_server
    def list_(client: Client, name: str, as_json: bool) -> None:
        """List the regions of a provisioning service."""
        found = client.get(f"{root}/{quoted(name)}/regions")["value"]
        if as_json:
            print_json(found)
            return
        rows = [(r["name"], ", ".join(r["networks"]) or "-", _latencies(r)) for r in found]
        print_table(("Region", "Networks", "Latencies"), rows, "none")

    @region.command()
    @click.argument("name")
    @click.argument("region_name", metavar="REGION")
    @click.option("--network", "networks", multiple=True, metavar="CIDR")
    @click.option("--latency", "latencies", multiple=True, metavar="HUB_HOST_NAME=MILLISECONDS")
    @json_option
    @asks_server
    def put(
        client: Client,
        name: str,
        region_name: str,
        networks: tuple[str, ...],
        latencies: tuple[str, ...],
        as_json: bool,
    ) -> None:
        """Add a region to a provisioning service, or replace the one of its name."""
        body = {"networks": list(networks), "latencies": _parse_latencies(latencies)}
        made = client.put(f"{root}/{quoted(name)}/regions/{quoted(region_name)}", body)
        if as_json:
            print_json(made)
        else:
            print_fields(
                {
                    "Region": made["name"],
                    "Networks": ", ".join(made["networks"]) or "-",
                    "Latencies": _latencies(made),
                }
            )

    @region.command()
    @click.argument("name")
    @click.argument("region_name", metavar="REGION")
    @json_option
    @asks_server
    def delete(client: Client, name: str, region_name: str, as_json: bool) -> None:
        """Forget a region of a provisioning service."""
        client.delete(f"{root}/{quoted(name)}/regions/{quoted(region_name)}")
        if as_json:
            print_json({"deleted": region_name})
        else:
            click.echo(f"{region_name}: deleted")


def _add_secret_commands(group: click.Group, root: str) -> None:
    @group.group("webhook-secret")
    def webhook_secret() -> None:
        """Show and rotate the secrets that calls of allocation webhooks are signed with."""

    @webhook_secret.command()
    @click.argument("name")
    @json_option
    @asks_server
    def show(client: Client, name: str, as_json: bool) -> None:
        """Show both secrets. This is audited."""
        _print_secrets(client.post(f"{root}/{quoted(name)}/webhookSecrets"), as_json)

    @webhook_secret.command()
    @click.argument("name")
    @click.option("--key", type=click.Choice(("primary", "secondary")), required=True)
    @json_option
    @asks_server
    def rotate(client: Client, name: str, key: str, as_json: bool) -> None:
        """Draw one of the secrets anew. Give it to the receivers, then rotate the other."""
        path = f"{root}/{quoted(name)}/webhookSecrets/rotate"
        _print_secrets(client.post(path, {"key": key}), as_json)


def _parse_latencies(texts: tuple[str, ...]) -> dict[str, int]:
    latencies = {}
    for text in texts:
        host, _, milliseconds = text.rpartition("=")
        if not host or not milliseconds.isdecimal():
            raise click.UsageError(f"--latency {text}: must be HUB_HOST_NAME=MILLISECONDS")
        latencies[host] = int(milliseconds)
    return latencies


def _latencies(region: dict[str, Any]) -> str:
    said = [f"{host} {ms} ms" for host, ms in region["latencies"].items()]
    return ", ".join(said) or "-"


def _print_secrets(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_fields({"Primary": found["primary"], "Secondary": found["secondary"]})
