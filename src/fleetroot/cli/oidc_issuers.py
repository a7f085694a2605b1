"""`fleetroot oidc-issuer`."""

from __future__ import annotations

from pathlib import Path

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_json, print_table


@click.group("oidc-issuer")
def oidc_issuer() -> None:
    """List, put and delete OIDC issuers whose tokens are taken."""


@oidc_issuer.command("list")
@json_option
@asks_server
def list_(client: Client, as_json: bool) -> None:
    """List the issuers."""
    found = client.get("/fleetroot/oidc-issuers")["value"]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["name"],
            one["issuer"],
            one["audience"],
            ", ".join(
                f"{one['roleClaim']}={value}: {grant['role']}"
                for value, grant in one["roles"].items()
            ),
        )
        for one in found
    ]
    print_table(("Name", "Issuer", "Audience", "Roles"), rows, "no OIDC issuers")


@oidc_issuer.command()
@click.argument("name")
@click.option("--issuer", required=True, help="The `iss` of its tokens, an https URL.")
@click.option("--audience", required=True, help="The `aud` that names this installation.")
@click.option("--role-claim", default="roles", show_default=True, help="Dots lead into objects.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    metavar="VALUE=ROLE[@NAMESPACE]",
    help="What a value of the claim gives; may be repeated.",
)
@click.option(
    "--issuer-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="CA to trust for the issuer (PEM); the system's without it.",
)
@asks_server
def put(
    client: Client,
    name: str,
    issuer: str,
    audience: str,
    role_claim: str,
    roles: tuple[str, ...],
    issuer_ca: Path | None,
) -> None:
    """Take an issuer's tokens from now on, or change what they give."""
    body = {
        "issuer": issuer,
        "audience": audience,
        "roleClaim": role_claim,
        "roles": dict(_role(each) for each in roles),
        "ca": issuer_ca.read_text() if issuer_ca else None,
    }
    client.put(f"/fleetroot/oidc-issuers/{quoted(name)}", body)
    click.echo(f"{name}: its tokens are taken")


@oidc_issuer.command()
@click.argument("name")
@asks_server
def delete(client: Client, name: str) -> None:
    """Take an issuer's tokens no more."""
    client.delete(f"/fleetroot/oidc-issuers/{quoted(name)}")
    click.echo(f"{name}: deleted")


def _role(text: str) -> tuple[str, dict[str, str | None]]:
    value, equals, grant = text.rpartition("=")
    role, _, namespace = grant.partition("@")
    if not equals or not value or not role:
        raise click.UsageError("--role must be VALUE=ROLE or VALUE=ROLE@NAMESPACE")
    return value, {"role": role, "namespace": namespace or None}
