"""`fleetroot hub method`."""

from __future__ import annotations

import json
from typing import Any, TextIO

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_json

_BEYOND = 10.0  # seconds, that an answer may take on its way


@click.command()
@click.argument("device")
@click.argument("name")
@click.option("--payload", help="JSON for the device; null by default.")
@click.option("--file", type=click.File(), help="The payload, from a file; - is stdin.")
@click.option(
    "--timeout",
    type=click.IntRange(5, 300),
    default=30,
    show_default=True,
    help="Seconds that the device has to answer.",
)
@click.option(
    "--connect-timeout",
    type=click.IntRange(0, 300),
    default=0,
    show_default=True,
    help="Seconds that it has to be connected.",
)
@click.option("--hub", default="default", show_default=True)
@json_option
@asks_server
def method(
    client: Client,
    device: str,
    name: str,
    payload: str | None,
    file: TextIO | None,
    timeout: int,
    connect_timeout: int,
    hub: str,
    as_json: bool,
) -> None:
    """Call a direct method of a device that is connected; print its answer."""
    if payload is not None and file is not None:
        raise click.UsageError("--payload or --file, not both")
    body = {
        "methodName": name,
        "payload": _read(file.read() if file is not None else payload),
        "responseTimeoutInSeconds": timeout,
        "connectTimeoutInSeconds": connect_timeout,
    }
    path = f"/fleetroot/hubs/{quoted(hub)}/devices/{quoted(device)}/methods"
    answer = client.post(path, body, seconds=timeout + connect_timeout + _BEYOND)
    if as_json:
        print_json(answer)
        return
    click.echo(f"status {answer['status']}")
    if answer["payload"] is not None:
        click.echo(json.dumps(answer["payload"], indent=2))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none")


def _read(payload: str | None) -> Any:
    if payload is None:
        return None
    try:
        return json.loads(payload, parse_constant=_refuse)
    except ValueError as error:
        raise click.UsageError(f"the payload is not JSON: {error}") from error
