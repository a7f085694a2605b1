"""`fleetroot hub authorities` and `fleetroot hub unsynchronize`."""

from __future__ import annotations

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_json, print_table, when


@click.command()
@click.argument("name")
@json_option
@asks_server
def authorities(client: Client, name: str, as_json: bool) -> None:
    """List the issuing CAs that were synchronized to a hub."""
    found = client.get(_path(name))["value"]
    if as_json:
        print_json(found)
        return
    rows = [(a["id"], a["policy"] or "-", when(a["notAfter"])) for a in found]
    print_table(("CA", "Policy", "Until"), rows, "the hub trusts no issuing CA")


@click.command()
@click.argument("name")
@click.argument("authority", metavar="CA")
@json_option
@asks_server
def unsynchronize(client: Client, name: str, authority: str, as_json: bool) -> None:
    """Let a hub trust an issuing CA no more; connections by it end at once.

    CA is its id, as `fleetroot hub authorities` shows it. `fleetroot namespace synchronize` brings
    it back.
    """
    client.delete(f"{_path(name)}/{quoted(authority)}")
    if as_json:
        print_json({"unsynchronized": authority})
    else:
        click.echo(f"{authority}: no longer trusted by {name}")


def _path(name: str) -> str:
    return f"/fleetroot/hubs/{quoted(name)}/authorities"
