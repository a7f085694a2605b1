"""`fleetroot token`."""

from __future__ import annotations

from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_fields, print_json, print_table, when

_ROLES = ("reader", "device-contributor", "credentials-contributor", "owner")
_DAYS = click.FloatRange(0, 3660, min_open=True)


@click.group()
def token() -> None:
    """List, create, rotate and revoke tokens for operators and programs."""


@token.command("list")
@json_option
@asks_server
def list_(client: Client, as_json: bool) -> None:
    """List every token."""
    found = client.get("/fleetroot/tokens")["value"]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            t["name"],
            t["role"],
            t["namespace"] or "everything",
            t["status"],
            when(t["expiresAt"]),
            when(t["lastUsedAt"]),
        )
        for t in found
    ]
    print_table(("Token", "Role", "On", "Status", "Expires", "Last used"), rows, "no tokens")


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), required=True)
@click.option("--namespace", help="Give the role on this namespace only.")
@click.option("--days", type=_DAYS, default=90.0, show_default=True, help="Lifetime.")
@json_option
@asks_server
def create(
    client: Client, name: str, role: str, namespace: str | None, days: float, as_json: bool
) -> None:
    """Create a token, and print it: it is shown this once."""
    body = {"name": name, "role": role, "namespace": namespace, "days": days}
    _print(client.post("/fleetroot/tokens", body), as_json)


@token.command()
@click.argument("name")
@click.option("--days", type=_DAYS, default=90.0, show_default=True, help="New lifetime.")
@click.option(
    "--overlap",
    type=click.IntRange(0, 604800),
    default=3600,
    show_default=True,
    help="Seconds for which the old secret is good, too.",
)
@json_option
@asks_server
def rotate(client: Client, name: str, days: float, overlap: int, as_json: bool) -> None:
    """Give a token a new secret, and print it.

    Commands on the data folder go on with the new one by themselves, when it is the token
    `bootstrap` that is rotated.
    """
    body = {"days": days, "overlapSeconds": overlap}
    _print(client.post(f"/fleetroot/tokens/{quoted(name)}/rotate", body), as_json)


@token.command()
@click.argument("name")
@json_option
@asks_server
def revoke(client: Client, name: str, as_json: bool) -> None:
    """End a token, at once and for ever."""
    done = client.post(f"/fleetroot/tokens/{quoted(name)}/revoke")
    if as_json:
        print_json(done)
    else:
        click.echo(f"{done['name']}: revoked")


def _print(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    print_fields(
        {
            "Token": made["name"],
            "Role": f"{made['role']} on {made['namespace'] or 'everything'}",
            "Expires": when(made["expiresAt"]),
            "Secret": made["token"],
        }
    )
