"""`fleetroot registration explain`, `fleetroot device explain` and `fleetroot explain`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.namespaces import namespace_option
from fleetroot.cli.output import (
    json_option,
    print_fields,
    print_json,
    print_paragraph,
    print_table,
    printable,
    when,
    yes_no,
)


@click.command("explain")
@click.argument("registration_id")
@click.option("--service", help="Provisioning service.  [default: the oldest]")
@json_option
@asks_server
def explain_registration(
    client: Client, registration_id: str, service: str | None, as_json: bool
) -> None:
    """Show what decides about a registration id, and its last refusals."""
    found = client.get(
        f"/fleetroot/registrations/{quoted(registration_id)}/explanation", service=service
    )
    if as_json:
        print_json(found)
        return
    made, device = found["registration"], found["device"]
    print_fields(
        {
            "Registration": printable(found["registrationId"]),
            "ID scope": f"{found['idScope']} ({found['provisioningService']})",
            **_registered(made),
            "Device": _device(device),
        }
    )
    _print_against(
        found["against"], "Nothing here stands against it: what it attests with decides."
    )
    rows = [
        (e["id"], e["kind"], yes_no(e["enabled"]), e["attestation"], e["policy"] or "-")
        for e in found["enrollments"]
    ]
    print_table(("Enrollment", "Kind", "Enabled", "Attests by", "Policy"), rows, "no enrollment")
    if (more := found["enrollmentCount"] - len(rows)) > 0:
        click.echo(f"and {more} more groups")
    _print_refusals(found["refusals"])


@click.command("explain")
@click.argument("device_id")
@namespace_option
@json_option
@asks_server
def explain_device(client: Client, device_id: str, namespace: str, as_json: bool) -> None:
    """Show what decides about a device, and its last refusals by hubs.

    For what happened to it before it was on a hub, see `fleetroot registration explain`.
    """
    path = f"/fleetroot/namespaces/{quoted(namespace)}/devices/{quoted(device_id)}"
    found = client.get(f"{path}/explanation")
    if as_json:
        print_json(found)
        return
    fields = {
        "Device": printable(found["deviceId"]),
        "Registry": _device(found["device"]),
    }
    for identity in found["identities"]:
        policy = f" {identity['policy']}" if identity["policy"] else ""
        state = "connected since" if identity["connected"] else "not connected, last change"
        fields |= {
            f"Hub {identity['hub']}": identity["hostName"],
            "  Pinned to": f"{identity['pinnedTo']}{policy}",
            "  Enabled": yes_no(identity["enabled"]),
            "  Session": f"{state} {when(identity['connectionChangedAt'])}",
        }
    print_fields(fields)
    against = found["against"] + [a for one in found["identities"] for a in one["against"]]
    _print_against(against, "Nothing here stands against it: what it shows decides.")
    rows = [
        (c["sha256"][:16], c["status"], c["origin"], when(c["notAfter"]))
        for c in found["certificates"][:5]
    ]
    print_table(("Certificate", "Status", "Origin", "Until"), rows, "no certificates")
    _print_refusals(found["refusals"])


@click.command()
@click.argument("tracking_id")
@json_option
@asks_server
def explain(client: Client, tracking_id: str, as_json: bool) -> None:
    """Show what was refused under a tracking id, as a device printed it."""
    found = client.get("/fleetroot/refusals", trackingId=tracking_id)["value"]
    if as_json:
        print_json(found)
    elif not found:
        raise click.ClickException(
            "nothing is known of this tracking id; the log may have it, a restart forgets"
        )
    else:
        _print_refusals(found)


def _registered(made: dict[str, Any] | None) -> dict[str, str]:
    if made is None:
        return {"Registered": "no"}
    return {
        "Registered": f"{when(made['updatedAt'])}, {made['status']}",
        "  By": made["enrollment"],
        "  Hub": made["hub"] or "-",
        "  Certificate": "issued" if made["certificateIssued"] else "none asked for",
    }


def _device(device: dict[str, Any] | None) -> str:
    if device is None:
        return "not registered"
    return (
        f"{device['deviceId']}, enabled: {yes_no(device['enabled'])}, "
        f"policy: {device['policy'] or '-'}"
    )


def _print_against(against: Iterable[dict[str, str]], none: str) -> None:
    click.echo("")
    for each in against:
        print_paragraph(f"REFUSED NOW: {each['reason']}. {each['advice']}")
        none = ""
    if none:
        click.echo(none)


def _print_refusals(refusals: Iterable[dict[str, Any]]) -> None:
    refusals = list(refusals)
    click.echo("\nLast refusals" if refusals else "No refusals since the server started.")
    for each in refusals:
        last = each["last"][0]
        click.echo("")
        count = "once" if each["count"] == 1 else f"{each['count']} times"
        click.echo(f"{when(each['lastAt'])}  {each['kind']}: {each['reason']}")
        what = f"{each['subject']} {printable(each['id'])} at {printable(each['at'])}"
        print_paragraph(f"{what}, {count}, from {last['peer']}", indent=2)
        print_paragraph(f"tracking id {last['trackingId']}", indent=2)
        if last["detail"] != each["reason"]:
            print_paragraph(f"detail: {printable(last['detail'])}", indent=2)
        print_paragraph(each["advice"], indent=2)
