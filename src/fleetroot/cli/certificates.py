"""`fleetroot certificates`."""

from __future__ import annotations

from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.durations import Duration
from fleetroot.cli.namespaces import namespace_option
from fleetroot.cli.output import json_option, print_fields, print_json, print_table, short, when


@click.group()
def certificates() -> None:
    """List and show the certificates that were issued."""


@certificates.command("list")
@click.option("--device", help="Only of this device.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@namespace_option
@json_option
@asks_server
def list_(client: Client, device: str | None, limit: int, namespace: str, as_json: bool) -> None:
    """List certificates, newest first."""
    found: list[dict[str, Any]] = []
    before: int | None = None
    while len(found) < limit:
        page = client.get(
            _path(namespace),
            device=device,
            before=before,
            limit=min(limit - len(found), 1000),
        )
        found += page["value"]
        before = page["next"]
        if before is None:
            break
    if as_json:
        print_json(found)
        return
    rows = [
        (short(c["sha256"]), c["deviceId"], c["status"], c["origin"], when(c["notAfter"]))
        for c in found
    ]
    print_table(("SHA-256", "Device", "Status", "Origin", "Until"), rows, "no certificates")


@certificates.command()
@click.option(
    "--within",
    type=Duration(),
    default="7d",
    show_default=True,
    help="30m, 12h, 7d or 2w from now.",
)
@click.option("--policy", help="Only of this policy.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@click.option("--counts", is_flag=True, help="Only how many, by day and policy.")
@namespace_option
@json_option
@asks_server
def expiring(
    client: Client,
    within: int,
    policy: str | None,
    limit: int,
    counts: bool,
    namespace: str,
    as_json: bool,
) -> None:
    """List certificates that end soon, first those that end first.

    Not those of devices that have renewed already, nor what was revoked.
    """
    path = f"{_path(namespace)}/expiring"
    if counts:
        by_day = client.get(f"{path}/counts", within=within, policy=policy)["value"]
        if as_json:
            print_json(by_day)
            return
        rows = [(each["day"], each["policy"], f"{each['certificates']:,}") for each in by_day]
        print_table(("Day", "Policy", "Certificates"), rows, "nothing ends by then")
        return
    found: list[dict[str, Any]] = []
    after: str | None = None
    while len(found) < limit:
        size = min(limit - len(found), 1000)
        page = client.get(path, within=within, policy=policy, after=after, limit=size)
        found += page["value"]
        after = page["next"]
        if after is None:
            break
    if as_json:
        print_json(found)
        return
    ends = [(c["deviceId"], short(c["sha256"]), when(c["notAfter"])) for c in found]
    print_table(("Device", "SHA-256", "Until"), ends, "nothing ends by then")
    if after is not None:
        click.echo("There may be more: --limit shows them, --counts how many.", err=True)


@certificates.command()
@click.argument("name")
@click.option("--pem", is_flag=True, help="Print only the certificate, as PEM.")
@namespace_option
@json_option
@asks_server
def show(client: Client, name: str, pem: bool, namespace: str, as_json: bool) -> None:
    """Show one certificate.

    NAME is its serial number, its SHA-256 fingerprint, or eight or more first digits of that.
    """
    found = client.get(f"{_path(namespace)}/{quoted(name)}")
    if as_json:
        print_json(found)
        return
    if pem:
        click.echo(found["pem"], nl=False)
        return
    print_fields(
        {
            "Device": found["deviceId"],
            "Status": found["status"],
            "Subject": found["subject"],
            "Issuer": found["issuer"],
            "Serial number": found["serialNumber"],
            "SHA-256": found["sha256"],
            "Issued": f"{when(found['issuedAt'])} ({found['origin']})",
            "Valid from": when(found["notBefore"]),
            "Valid until": when(found["notAfter"]),
            "Revoked": when(found["revokedAt"]),
        }
    )


def _path(namespace: str) -> str:
    return f"/fleetroot/namespaces/{quoted(namespace)}/certificates"
