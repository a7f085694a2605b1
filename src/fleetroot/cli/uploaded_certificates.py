"""`certificate` of hubs and provisioning services: CA certificates that are uploaded to them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import (
    json_option,
    print_fields,
    print_json,
    print_table,
    when,
    yes_no,
)

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_MAX_FILE = 24 * 1024


def add_certificate_commands(group: click.Group, root: str) -> None:
    """Gives a group the commands; `root` is the path of what it is about."""

    def path(of: str, name: str) -> str:
        return f"{root}/{quoted(of)}/certificates/{quoted(name)}"

    @group.group()
    def certificate() -> None:
        """Upload, verify, list, show and delete CA certificates."""

    @certificate.command("list")
    @click.argument("of")
    @json_option
    @asks_server
    def list_(client: Client, of: str, as_json: bool) -> None:
        """List the CA certificates."""
        found = client.get(f"{root}/{quoted(of)}/certificates")["value"]
        if as_json:
            print_json(found)
            return
        rows = [
            (c["name"], c["subject"], yes_no(c["isVerified"]), when(c["notAfter"])) for c in found
        ]
        print_table(("Certificate", "Subject", "Verified", "Valid until"), rows, "none")

    @certificate.command()
    @click.argument("of")
    @click.argument("name")
    @click.argument("file", type=_FILE)
    @click.option("--verified", is_flag=True, help="Trust it without a proof of its key.")
    @click.option("--if-match", help="Replace the one that is there, if this is its etag.")
    @json_option
    @asks_server
    def upload(
        client: Client,
        of: str,
        name: str,
        file: Path,
        verified: bool,
        if_match: str | None,
        as_json: bool,
    ) -> None:
        """Upload a CA's certificate (PEM or DER)."""
        body = {"certificate": _read(file), "isVerified": verified}
        _print(client.put(path(of, name), body, if_match=if_match), as_json)

    @certificate.command()
    @click.argument("of")
    @click.argument("name")
    @click.option("--pem", is_flag=True, help="Print only the certificate, as PEM.")
    @json_option
    @asks_server
    def show(client: Client, of: str, name: str, pem: bool, as_json: bool) -> None:
        """Show one CA certificate."""
        found = client.get(path(of, name))
        if pem:
            click.echo(found["pem"], nl=False)
        else:
            _print(found, as_json)

    @certificate.command("generate-verification-code")
    @click.argument("of")
    @click.argument("name")
    @json_option
    @asks_server
    def generate_verification_code(client: Client, of: str, name: str, as_json: bool) -> None:
        """Draw a code. Whoever has the CA's key signs a certificate with it as common name."""
        found = client.post(f"{path(of, name)}/generateVerificationCode")
        if as_json:
            print_json(found)
            return
        fields = {"Verification code": found["verificationCode"]}
        print_fields(fields | {"Good until": when(found["codeExpiresAt"])})

    @certificate.command()
    @click.argument("of")
    @click.argument("name")
    @click.argument("file", type=_FILE)
    @json_option
    @asks_server
    def verify(client: Client, of: str, name: str, file: Path, as_json: bool) -> None:
        """Bring the certificate that the CA signed over the code (PEM or DER)."""
        _print(client.post(f"{path(of, name)}/verify", {"certificate": _read(file)}), as_json)

    @certificate.command()
    @click.argument("of")
    @click.argument("name")
    @json_option
    @asks_server
    def delete(client: Client, of: str, name: str, as_json: bool) -> None:
        """Delete a CA certificate."""
        client.delete(path(of, name))
        if as_json:
            print_json({"deleted": name})
        else:
            click.echo(f"{name}: deleted")


def _read(file: Path) -> str:
    content = file.read_bytes()
    if len(content) > _MAX_FILE:
        raise click.ClickException(f"{file} is too large for a certificate")
    return base64.b64encode(content).decode()


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "Certificate": found["name"],
            "Subject": found["subject"],
            "SHA-256": found["sha256"],
            "Verified": yes_no(found["isVerified"]),
            "Valid until": when(found["notAfter"]),
            "Etag": found["etag"],
        }
    )
