"""`fleetroot events`."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from fleetroot.cli.client import CannotReach, Client, asks_server
from fleetroot.cli.output import json_option, printable, when

_POLL_SECONDS = 25
_RETRY_SECONDS = 2


@click.command()
@click.option("--hub", default="default", show_default=True)
@click.option("--device", help="Only from this device.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    default=("telemetry",),
    show_default=True,
    help="Events of this kind: telemetry, lifecycle, twin, certificate, all, or one of them.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until interrupted.")
@click.option("--last", type=click.IntRange(0), default=10, show_default=True, help="Begin there.")
@click.option("--after", type=click.IntRange(0), help="Begin behind this sequence number instead.")
@json_option
@asks_server
def events(
    client: Client,
    hub: str,
    device: str | None,
    kinds: tuple[str, ...],
    follow: bool,
    last: int,
    after: int | None,
    as_json: bool,
) -> None:
    """Show what devices sent and what happened to them, oldest first: the end of the event log.

    With --json, an object a line.
    """
    query = {"hub": hub, "device": device, "kind": list(kinds), "limit": 1000}
    if after is None:
        page = client.get("/fleetroot/events", **query | {"last": last, "limit": max(last, 1)})
    else:
        page = client.get("/fleetroot/events", **query, after=after)
    while True:
        for event in page["value"]:
            _print(event, as_json)
        if not page["value"] and not follow:
            return
        if after is None and not follow:
            return
        wait = _POLL_SECONDS if follow else 0
        try:
            page = client.get("/fleetroot/events", **query, after=page["next"], wait=wait)
        except CannotReach:
            if not follow:
                raise
            time.sleep(_RETRY_SECONDS)  # the server restarts, or the network does
            page = {"value": [], "next": page["next"]}


def _print(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event))
        return
    body = event.get("text", f"{event['body']} (base64)")
    properties = "".join(f" {k}={v}" for k, v in event["properties"].items())
    click.echo(
        f"{event['sequenceNumber']}  {when(event['enqueuedAt'])}  {event['deviceId']}{_kind(event)}"
        f"{printable(properties)}  {printable(body)}"
    )


def _kind(event: dict[str, Any]) -> str:
    """Said of what no device sent."""
    return "" if event["kind"] == "telemetry" else f"  {event['kind']}"
