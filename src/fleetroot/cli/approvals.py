"""`fleetroot approval`."""

from __future__ import annotations

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_json, print_table, printable


@click.group()
def approval() -> None:
    """List, approve and reject what needs a second person."""


@approval.command("list")
@json_option
@asks_server
def list_(client: Client, as_json: bool) -> None:
    """List the newest requests."""
    found = client.get("/fleetroot/approvals")["value"]
    if as_json:
        print_json(found)
        return
    rows = [
        (one["id"], one["status"], one["action"], one["subject"], printable(one["requestedBy"]))
        for one in found
    ]
    print_table(("Approval", "Status", "Action", "Subject", "Asked by"), rows, "no approvals")


@approval.command()
@click.argument("approval_id")
@json_option
@asks_server
def approve(client: Client, approval_id: str, as_json: bool) -> None:
    """Approve a request of somebody else, who can then do it once."""
    _decide(client, approval_id, "approve", as_json)


@approval.command()
@click.argument("approval_id")
@json_option
@asks_server
def reject(client: Client, approval_id: str, as_json: bool) -> None:
    """Reject a request."""
    _decide(client, approval_id, "reject", as_json)


def _decide(client: Client, approval_id: str, verb: str, as_json: bool) -> None:
    done = client.post(f"/fleetroot/approvals/{quoted(approval_id)}/{verb}")
    if as_json:
        print_json(done)
    else:
        click.echo(f"{done['id']}: {done['status']}")
