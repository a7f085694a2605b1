"""`fleetroot ca`."""

from __future__ import annotations

import base64
from typing import IO, Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.lazy import LazyGroup
from fleetroot.cli.namespaces import namespace_option
from fleetroot.cli.output import json_option, print_fields, print_json, print_table, short, when

_MAX_LIST = 1024 * 1024


@click.group(
    cls=LazyGroup,
    places={
        "create": "policies:create",
        "update": "policies:update",
        "delete": "policies:delete",
        "activate": "policies:activate",
        "revoke-and-rotate": "policies:revoke_issuer",
        "create-offline": "offline_root:create_offline",
        "sign-offline": "offline_root:sign_offline",
        "sign-offline-crl": "offline_root:sign_offline_crl",
    },
)
def ca() -> None:
    """List and show certificate authorities, and sign for them where the root's key is.

    What issues goes by the name of its policy: it is created, updated, deleted, activated and
    revoked as that is. A root is the `credential` of its namespace.
    """


@ca.command("list")
@namespace_option
@json_option
@asks_server
def list_(client: Client, namespace: str, as_json: bool) -> None:
    """List every CA of a namespace, oldest first."""
    found = client.get(_path(namespace))["value"]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["id"],
            each["kind"],
            each["keyType"],
            short(each["sha256"]),
            when(each["notAfter"]),
            "revoked" if each["revokedAt"] else "valid",
        )
        for each in found
    ]
    print_table(("CA", "Kind", "Key", "SHA-256", "Until", "Status"), rows, "no CAs")


@ca.command()
@click.argument("authority_id")
@namespace_option
@click.option("--pem", is_flag=True, help="Print only its chain, as PEM.")
@json_option
@asks_server
def show(client: Client, authority_id: str, namespace: str, pem: bool, as_json: bool) -> None:
    """Show one CA."""
    found: dict[str, Any] = client.get(f"{_path(namespace)}/{quoted(authority_id)}")
    if as_json:
        print_json(found)
        return
    if pem:
        click.echo(found["pem"], nl=False)
        return
    print_fields(
        {
            "CA": found["id"],
            "Kind": found["kind"],
            "Subject": found["subject"],
            "Issuer": found["issuer"],
            "Key": f"{found['keyType']}, kept {found['keyKept']}",
            "SHA-256": found["sha256"],
            "PKI URL": found["pkiUrl"],
            "Valid from": when(found["notBefore"]),
            "Valid until": when(found["notAfter"]),
            "Revoked": when(found["revokedAt"]),
        }
    )


@ca.command("request-crl")
@click.argument("authority_id")
@namespace_option
@asks_server
def request_crl(client: Client, authority_id: str, namespace: str) -> None:
    """Print what the next revocation list of an offline root is to say, as JSON.

    Take it to the root: `fleetroot ca sign-offline-crl`.
    """
    print_json(client.get(f"{_path(namespace)}/{quoted(authority_id)}/revocationList"))


@ca.command("publish-crl")
@click.argument("authority_id")
@click.argument("file", type=click.File("rb"))
@namespace_option
@json_option
@asks_server
def publish_crl(
    client: Client, authority_id: str, file: IO[bytes], namespace: str, as_json: bool
) -> None:
    """Publish the revocation list in FILE (DER or PEM), which an offline root signed."""
    body = {"crl": base64.b64encode(file.read(_MAX_LIST + 1)).decode()}
    made = client.put(f"{_path(namespace)}/{quoted(authority_id)}/revocationList", body)
    if as_json:
        print_json(made)
        return
    print_fields(
        {
            "CA": made["authority"],
            "Number": made["number"],
            "Revoked": str(made["revoked"]),
            "Until": when(made["nextUpdate"]),
        }
    )


def _path(namespace: str) -> str:
    return f"/fleetroot/namespaces/{quoted(namespace)}/authorities"
