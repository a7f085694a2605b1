"""`fleetroot incident`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.namespaces import namespace_option
from fleetroot.cli.output import json_option, print_fields, print_json, print_table, short, when

R = TypeVar("R")
_TIMES = ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")
_REASONS = ("unspecified", "keyCompromise", "superseded", "cessationOfOperation")
_LOOK_EVERY = 1.0  # seconds


@click.group()
def incident() -> None:
    """Find the certificates of an incident, export them, and revoke them at a pace."""


def _scope_options(function: Callable[..., R]) -> Callable[..., R]:
    """Gives a command the options that say which certificates, as `scope`."""

    @click.option("--authority", help="Issued by this CA (its id).")
    @click.option(
        "--from", "since", type=click.DateTime(_TIMES), help="Issued then or later (UTC)."
    )
    @click.option("--to", "until", type=click.DateTime(_TIMES), help="Issued before then (UTC).")
    @click.option("--device", "devices", multiple=True, help="To this device; may be repeated.")
    @click.option(
        "--devices-file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="To the devices of this file, an id on each line.",
    )
    @click.option("--enrollment", help="Attested by this individual enrollment.")
    @click.option("--enrollment-group", help="Attested by this enrollment group.")
    @namespace_option
    @wraps(function)
    def command(*args: Any, **options: Any) -> R:
        devices = list(options.pop("devices"))
        file = options.pop("devices_file")
        if file is not None:
            devices += [line.strip() for line in file.read_text().splitlines() if line.strip()]
        scope = {
            "authority": options.pop("authority"),
            "from": _time(options.pop("since")),
            "to": _time(options.pop("until")),
            "devices": devices,
            "enrollment": options.pop("enrollment"),
            "enrollmentGroup": options.pop("enrollment_group"),
        }
        if not any(
            scope[name] for name in ("authority", "devices", "enrollment", "enrollmentGroup")
        ):
            raise click.UsageError(
                "say which: --authority, --device, --enrollment or --enrollment-group"
            )
        return function(*args, scope=scope, **options)

    return command


@incident.command("list")
@_scope_options
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@json_option
@asks_server
def list_(client: Client, scope: dict[str, Any], namespace: str, limit: int, as_json: bool) -> None:
    """List the certificates, in the order in which they were issued."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while len(found) < limit:
        asked = scope | {"after": after, "limit": min(limit - len(found), 1000)}
        page = client.post(f"{_path(namespace)}/certificates", asked)
        found += page["value"]
        after = page["next"]
        if after is None:
            break
    if as_json:
        print_json(found)
        return
    rows = [
        (when(c["issuedAt"]), c["deviceId"], short(c["sha256"]), c["status"], c["origin"])
        for c in found
    ]
    print_table(("Issued", "Device", "SHA-256", "Status", "Origin"), rows, "no certificates")


@incident.command()
@_scope_options
@click.option(
    "--format", "form", type=click.Choice(("csv", "jsonl")), default="csv", show_default=True
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@asks_server
def export(
    client: Client, scope: dict[str, Any], namespace: str, form: str, out: Path | None
) -> None:
    """Export the certificates, all of them, as CSV or JSON lines."""
    chunks = client.stream("POST", f"{_path(namespace)}/export?format={form}", scope)
    if out is None:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        return
    try:
        with out.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
    except OSError as error:
        raise click.ClickException(f"cannot write {out}: {error.strerror}") from error


@incident.command()
@_scope_options
@click.option("--dry-run", is_flag=True, help="Only say what would be revoked.")
@click.option(
    "--pace",
    type=click.IntRange(1, 5000),
    default=50,
    show_default=True,
    help="Certificates a second, at most.",
)
@click.option("--reason", type=click.Choice(_REASONS), default="unspecified", show_default=True)
@click.option("--wait", is_flag=True, help="Wait until it is over.")
@json_option
@asks_server
def revoke(
    client: Client,
    scope: dict[str, Any],
    namespace: str,
    dry_run: bool,
    pace: int,
    reason: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Revoke the certificates, so many a second.

    The server does it, and goes on after a restart. What is issued from now on is not meant: make
    another CA sign first (`fleetroot policy renew-issuer`), or close the enrollment.
    """
    if dry_run:
        _print_summary(client.post(f"{_path(namespace)}/summary", scope), pace, as_json)
        return
    asked = scope | {"pace": pace, "reason": reason}
    job = client.post(f"{_path(namespace)}/revocations", asked)
    while wait and job["state"] == "running":
        time.sleep(_LOOK_EVERY)
        job = client.get(f"{_path(namespace)}/revocations/{quoted(job['id'])}")
    _print_job(job, as_json)


@incident.command()
@click.argument("revocation", required=False)
@namespace_option
@json_option
@asks_server
def status(client: Client, revocation: str | None, namespace: str, as_json: bool) -> None:
    """Show how far a revocation is; without its id, list all."""
    if revocation is not None:
        _print_job(client.get(f"{_path(namespace)}/revocations/{quoted(revocation)}"), as_json)
        return
    found = client.get(f"{_path(namespace)}/revocations")["value"]
    if as_json:
        print_json(found)
        return
    rows = [
        (j["id"], j["state"], f"{j['revoked']} of {j['toRevoke']}", when(j["createdAt"]))
        for j in found
    ]
    print_table(("Revocation", "State", "Revoked", "Begun"), rows, "no revocations")


@incident.command()
@click.argument("revocation")
@namespace_option
@json_option
@asks_server
def cancel(client: Client, revocation: str, namespace: str, as_json: bool) -> None:
    """End a revocation; what it has revoked stays revoked."""
    path = f"{_path(namespace)}/revocations/{quoted(revocation)}/cancel"
    _print_job(client.post(path), as_json)


def _print_summary(found: dict[str, int], pace: int, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    seconds = -(-found["toRevoke"] // pace)
    print_fields(
        {
            "Certificates": str(found["certificates"]),
            "Revoked before": str(found["revoked"]),
            "Expired": str(found["expired"]),
            "Would be revoked": f"{found['toRevoke']}, in {seconds} s or more",
        }
    )


def _print_job(job: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    print_fields(
        {
            "Revocation": job["id"],
            "State": job["state"],
            "Revoked": f"{job['revoked']} of {job['toRevoke']}",
            "Pace": f"{job['pace']} a second",
            "Reason": job["reason"],
            "Begun": f"{when(job['createdAt'])} by {job['requestedBy']}",
            "Ended": when(job["endedAt"]),
        }
    )


def _time(at: datetime | None) -> str | None:
    if at is None:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def _path(namespace: str) -> str:
    return f"/fleetroot/namespaces/{quoted(namespace)}/incidents"
