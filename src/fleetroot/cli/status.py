"""`fleetroot status`."""

from __future__ import annotations

import click

from fleetroot.cli.client import Client, asks_server
from fleetroot.cli.output import json_option, print_fields, print_json, when


@click.command()
@json_option
@asks_server
def status(client: Client, as_json: bool) -> None:
    """Show what the server is, and how it stands."""
    found = client.get("/fleetroot/status")
    if as_json:
        print_json(found)
        return
    fields = {
        "Version": found["version"],
        "Up since": when(found["startedAt"]),
        "Namespace": found["namespace"],
        "Database": found["database"],
        "Master key": found["masterKey"],
        "PKI URL": found["pkiUrl"],
        "Devices": str(found["devices"]),
        "Certificates": str(found["certificates"]),
        "Connections": str(found["connections"]),
    }
    for token in found["tokens"]:
        fields[f"Token {token['name']}"] = f"away: {token['away']}" if token["away"] else "answers"
    for hub in found["hubs"]:
        fields[f"Hub {hub['name']}"] = hub["hostName"]
    for policy in found["policies"]:
        fields[f"Policy {policy['name']}"] = (
            f"{policy['leafValidityDays']:g} days, {', '.join(policy['leafKeyTypes'])}"
        )
    for authority in found["authorities"]:
        fields[f"CA {authority['kind']}"] = (
            f"{authority['keyType']}, until {when(authority['notAfter'])}, "
            f"{authority['sha256'][:16]}"
        )
    for ending in found["expiring"]:
        fields[f"EXPIRES {ending['what']}"] = f"{ending['name']}, {when(ending['notAfter'])}"
    print_fields(fields)
