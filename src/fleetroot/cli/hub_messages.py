"""`fleetroot hub send` and `purge`."""

from __future__ import annotations

import base64
from typing import Any, BinaryIO

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_json, when
from fleetroot.cli.tags import parse_tags

_hub_option = click.option("--hub", default="default", show_default=True)


@click.command()
@click.argument("device")
@click.option("--body", help="The message, as text.")
@click.option("--file", type=click.File("rb"), help="The message, from a file; - is stdin.")
@click.option("--property", "properties", multiple=True, metavar="NAME=VALUE")
@click.option("--message-id", help="By default one is drawn.")
@click.option("--correlation-id")
@click.option("--content-type")
@click.option("--content-encoding")
@click.option(
    "--ack",
    type=click.Choice(["none", "positive", "negative", "full"]),
    default="none",
    show_default=True,
    help="Of which outcomes there is to be feedback.",
)
@click.option("--lifetime", type=click.IntRange(1), metavar="SECONDS", help="An hour by default.")
@_hub_option
@json_option
@asks_server
def send(
    client: Client,
    /,
    device: str,
    body: str | None,
    file: BinaryIO | None,
    properties: tuple[str, ...],
    lifetime: int | None,
    hub: str,
    as_json: bool,
    **said: str | None,
) -> None:
    """Send a message to a device, now or when it connects next."""
    if body is not None and file is not None:
        raise click.UsageError("--body or --file, not both")
    names = {
        "message_id": "messageId",
        "correlation_id": "correlationId",
        "content_type": "contentType",
        "content_encoding": "contentEncoding",
        "ack": "ack",
    }
    message: dict[str, Any] = {
        "properties": parse_tags(properties, "--property"),
        "lifetimeSeconds": lifetime,
        **{names[name]: value for name, value in said.items()},
    }
    if file is not None:
        message["base64"] = base64.b64encode(file.read()).decode()
    else:
        message["text"] = body or ""
    sent = client.post(_path(hub, device), message)
    if as_json:
        print_json(sent)
        return
    click.echo(f"{sent['messageId']} waits for {device} until {when(sent['expiresAt'])}")


@click.command()
@click.argument("device")
@_hub_option
@json_option
@asks_server
def purge(client: Client, device: str, hub: str, as_json: bool) -> None:
    """Remove every message that waits for a device."""
    removed = client.delete(_path(hub, device))
    if as_json:
        print_json(removed)
        return
    click.echo(f"messages removed: {removed['removed']}")


def _path(hub: str, device: str) -> str:
    return f"/fleetroot/hubs/{quoted(hub)}/devices/{quoted(device)}/messages"
