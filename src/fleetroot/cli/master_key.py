"""`fleetroot master-key`."""

from __future__ import annotations

import base64
import os
import secrets
import time
from pathlib import Path
from typing import Any

import click

from fleetroot.cli.client import Client, asks_server
from fleetroot.cli.output import json_option, print_fields, print_json, print_paragraph

_POLL_SECONDS = 0.5
_KEY_BYTES = 32


@click.group("master-key")
def master_key() -> None:
    """Show and change the key that every secret is sealed with."""


@master_key.command()
@json_option
@asks_server
def show(client: Client, as_json: bool) -> None:
    """Show where the key is, and the change that is under way."""
    _print(client.get("/fleetroot/masterKey"), as_json)


@master_key.command()
@click.option(
    "--new-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the new key (base64 of 32 bytes); made, if it is not there.",
)
@click.option("--passphrase", "asks", is_flag=True, help="Ask for a new passphrase instead.")
@json_option
@asks_server
def rotate(client: Client, new_key_file: Path | None, asks: bool, as_json: bool) -> None:
    """Change the key while the server goes on serving.

    Where the server keeps the key in its data folder, it makes the new one. Otherwise give the new
    one, and put it where the server reads it when it starts: until it is there, the old key opens
    the server's data, too.
    """
    body: dict[str, Any] = {}
    if new_key_file is not None and asks:
        raise click.UsageError("--new-key-file or --passphrase, not both")
    if new_key_file is not None:
        body["key"] = _key_of(new_key_file)
    elif asks:
        body["passphrase"] = click.prompt(
            "New passphrase", hide_input=True, confirmation_prompt=True
        )
    state = client.post("/fleetroot/masterKey/rotate", body)
    while _is_at_work(state["change"]):
        time.sleep(_POLL_SECONDS)
        state = client.get("/fleetroot/masterKey")
    _print(state, as_json)


def _is_at_work(change: dict[str, Any] | None) -> bool:
    """Whether the server has something to do without anybody's help."""
    return change is not None and not (change["allResealed"] and not change["inPlace"])


def _key_of(path: Path) -> str:
    try:
        if not path.exists():
            key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(key + "\n")
                file.flush()
                os.fsync(file.fileno())
            return key
        raw = path.read_bytes()
    except OSError as error:
        raise click.ClickException(f"cannot use {path}: {error.strerror}") from error
    return (base64.b64encode(raw) if len(raw) == _KEY_BYTES else raw.strip()).decode()


def _print(state: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(state)
        return
    change = state["change"]
    print_fields({"Master key": state["id"], "Read at start from": state["where"]})
    if change is None:
        return
    print_fields({"Changing": f"from {change['from']}", "Sealed anew": str(change["resealed"])})
    if change["allResealed"] and not change["inPlace"]:
        print_paragraph(
            "Every record is sealed under the new key. Now put the new key where the server reads "
            "it at its start (the file of master_key_file, the systemd credential, or the "
            "environment): a file is seen within a minute, anything else at the next start. Then "
            "the old key is forgotten, and opens nothing any more. Keep both until `fleetroot "
            "master-key show` names no change."
        )
