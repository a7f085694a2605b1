"""`fleetroot crl`."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_json, print_table

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("crl")
def crl() -> None:
    """Revocation lists: ours, and those of third-party CAs."""


@crl.command("list")
@json_option
@asks_server
def list_(client: Client, as_json: bool) -> None:
    """List them."""
    found = client.get("/fleetroot/crls")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            f"{one['authority']}/{one['shard']}",
            one["number"],
            str(one["revoked"]),
            one["thisUpdate"],
            one["nextUpdate"],
        )
        for one in found["own"]
    ]
    headings = ("Authority/shard", "Number", "Revoked", "This update", "Next update")
    print_table(headings, rows, "no lists of our own yet")
    rows = [
        (
            one["id"],
            one["issuer"],
            one["number"] or "",
            str(one["entries"]),
            one["nextUpdate"] or "",
        )
        for one in found["thirdParty"]
    ]
    print_table(("Id", "Issuer", "Number", "Revoked", "Next update"), rows, "none of third parties")


@crl.command()
@click.argument("file", type=_FILE)
@click.option("--issuer", type=_FILE, help="The CA's certificate, if no list of it is there yet.")
@json_option
@asks_server
def upload(client: Client, file: Path, issuer: Path | None, as_json: bool) -> None:
    """Bring a third-party CA's list (DER or PEM) in place of the one before."""
    body = {
        "crl": base64.b64encode(file.read_bytes()).decode(),
        "caCertificate": base64.b64encode(issuer.read_bytes()).decode() if issuer else None,
    }
    made = client.post("/fleetroot/crls/third-party", body)
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['id']}: {made['entries']} revoked of {made['issuer']}")


@crl.command()
@click.argument("id")
@asks_server
def delete(client: Client, id: str) -> None:  # noqa: A002 - click names the argument
    """Forget a third-party CA's list."""
    client.delete(f"/fleetroot/crls/third-party/{quoted(id)}")
    click.echo(f"{id}: deleted")
