"""`fleetroot audit`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fleetroot.audit.chain import Findings, Verifier, key_id
from fleetroot.audit.export import MAX_LINE_BYTES, NotALine, parse_line
from fleetroot.audit.model import LoggedEntry
from fleetroot.cli.client import Client, asks_server
from fleetroot.cli.output import (
    json_option,
    print_json,
    print_paragraph,
    print_table,
    printable,
    when,
)

_CANNOT_SHOW = (
    "This does not show that nothing was cut off behind the last checkpoint: keep its id elsewhere "
    "and give it with --expect the next time. Nor does it bind whoever has both the database and "
    "the audit key, who could have written another log; of which again a kept id would tell."
)


@click.group()
def audit() -> None:
    """Read, export and verify the audit log."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@click.option("--subject", help="Of this subject only, as device/dev-1.")
@json_option
@asks_server
def list_(client: Client, limit: int, subject: str | None, as_json: bool) -> None:
    """List entries, newest first."""
    found: list[dict[str, Any]] = []
    before: int | None = None
    while len(found) < limit:
        page = client.get(
            "/fleetroot/audit/entries",
            before=before,
            limit=min(limit - len(found), 1000),
            subject=subject,
        )
        found += page["value"]
        before = page["next"]
        if before is None:
            break
    if as_json:
        print_json(found)
        return
    rows = [
        (
            str(e["seq"]),
            when(e["at"]),
            printable(e["actor"]),
            e["action"] if e["outcome"] == "done" else f"{e['action']} refused",
            printable(e["subject"]),
        )
        for e in found
    ]
    print_table(("No.", "At", "By", "Action", "Subject"), rows, "no entries")


@audit.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@asks_server
def export(client: Client, out: Path | None) -> None:
    """Export the whole log with its checkpoints, as JSON lines."""
    file: BinaryIO
    if out is None:
        for chunk in client.stream("POST", "/fleetroot/audit/export"):
            sys.stdout.buffer.write(chunk)
        return
    try:
        with out.open("xb") as file:
            for chunk in client.stream("POST", "/fleetroot/audit/export"):
                file.write(chunk)
    except OSError as error:
        raise click.ClickException(f"cannot write {out}: {error.strerror}") from error


@audit.command()
@asks_server
def key(client: Client) -> None:
    """Print the public key that checkpoints are verified with (PEM)."""
    for chunk in client.stream("GET", "/fleetroot/audit/key"):
        sys.stdout.buffer.write(chunk)


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="Public key, as `fleetroot audit key` prints it (PEM).",
)
@click.option("--expect", help="Id of a checkpoint that must be there.")
@json_option
def verify(file: Path, key_file: Path, expect: str | None, as_json: bool) -> None:
    """Verify an exported log: offline, with the key that you kept.

    Shows that no entry between the first checkpoint and the last was changed, added or removed,
    and says what it cannot show.
    """
    public = _read_key(key_file)
    with file.open("rb") as lines:
        found = _verify(lines, public, expect)
    if as_json:
        print_json(
            {
                "verified": not found.wrong,
                "wrong": found.wrong,
                "entries": found.entries,
                "checkpoints": found.checkpoints,
                "openEntries": found.open_entries,
                "lastCheckpoint": found.head,
                "key": key_id(public),
            }
        )
    else:
        _print(found)
    if found.wrong:
        raise click.ClickException("the log is not as it was written")


def _verify(
    lines: Iterable[bytes], public: ec.EllipticCurvePublicKey, expect: str | None
) -> Findings:
    verifier = Verifier(public, expected=expect)
    for number, line in enumerate(_bounded(lines), 1):
        try:
            parsed = parse_line(line)
        except NotALine as error:
            raise click.ClickException(f"line {number}: {error}") from error
        if isinstance(parsed, LoggedEntry):
            verifier.entry(parsed)
        else:
            verifier.checkpoint(parsed)
    return verifier.finish()


def _bounded(lines: Iterable[bytes]) -> Iterable[bytes]:
    for line in lines:
        yield line[: MAX_LINE_BYTES + 1].rstrip(b"\n")


def _read_key(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        found = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise click.ClickException(f"{path} is not a public key (PEM)") from error
    if not isinstance(found, ec.EllipticCurvePublicKey):
        raise click.ClickException(f"{path} is not an elliptic key")
    return found


def _print(found: Findings) -> None:
    for wrong in found.wrong:
        print_paragraph(f"WRONG: {wrong}")
    click.echo(f"Entries covered    {found.entries} by {found.checkpoints} checkpoints")
    click.echo(f"Entries behind it  {found.open_entries}, which nothing vouches for yet")
    click.echo(f"Last checkpoint    {found.head}")
    print_paragraph(_CANNOT_SHOW)
