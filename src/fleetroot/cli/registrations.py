"""`fleetroot registration`: what became of devices that provisioned."""

from __future__ import annotations

from typing import Any

import click

from fleetroot.cli.client import Client, asks_server
from fleetroot.cli.enrollment_places import registration_path, service_option
from fleetroot.cli.explain import explain_registration
from fleetroot.cli.output import json_option, print_fields, print_json, print_table, when

_PAGE = 1000


@click.group()
def registration() -> None:
    """Show, list, delete and explain registrations."""


registration.add_command(explain_registration)


@registration.command()
@click.argument("registration_id")
@service_option
@json_option
@asks_server
def show(client: Client, registration_id: str, service: str, as_json: bool) -> None:
    """Show what became of a device."""
    found = client.get(registration_path(service, registration_id))
    if as_json:
        print_json(found)
        return
    fields = {
        "Registration": found["registrationId"],
        "Status": found["status"],
        "How": found.get("substatus", "-"),
        "Hub": found.get("assignedHub", "-"),
        "Device id": found.get("deviceId", "-"),
        "Enrollment group": found.get("enrollmentGroupId", "-"),
        "Attested by": _credential(found),
        "First": when(found["createdDateTimeUtc"]),
        "Last": when(found["lastUpdatedDateTimeUtc"]),
    }
    if "errorMessage" in found:
        fields["Error"] = f"{found['errorMessage']} ({found.get('errorCode', '-')})"
    print_fields(fields)


@registration.command("list")
@click.argument("group", metavar="GROUP")
@service_option
@click.option(
    "--slot",
    type=click.Choice(["primary", "secondary"]),
    help="Those that came the last time with this one of the group's keys or certificates.",
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@click.option("--after", default="", help="List those behind this id.")
@json_option
@asks_server
def list_(
    client: Client,
    group: str,
    service: str,
    slot: str | None,
    limit: int,
    after: str,
    as_json: bool,
) -> None:
    """List the registrations under an enrollment group, by id."""
    found: list[dict[str, Any]] = []
    more: str | None = after
    while more is not None and len(found) < limit:
        size = _PAGE if slot else min(limit - len(found), _PAGE)
        page = client.get(registration_path(service), group=group, after=more, limit=size)
        found += [each for each in page["value"] if slot in (None, each.get("credential"))]
        more = page["next"]
    found = found[:limit]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["registrationId"],
            each["status"],
            each.get("assignedHub", "-"),
            _credential(each),
            when(each["lastUpdatedDateTimeUtc"]),
        )
        for each in found
    ]
    print_table(("Registration", "Status", "Hub", "Attested by", "Last"), rows, "none")


@registration.command()
@click.argument("registration_id")
@service_option
@json_option
@asks_server
def delete(client: Client, registration_id: str, service: str, as_json: bool) -> None:
    """Forget a registration: the device is assigned anew when it comes again.

    It keeps its identity on the hub and its certificates until then.
    """
    client.delete(registration_path(service, registration_id))
    if as_json:
        print_json({"deleted": registration_id})
    else:
        click.echo(f"{registration_id}: deleted")


def _credential(found: dict[str, Any]) -> str:
    return " ".join(word for word in (found.get("credential"), found["attestation"]) if word)
