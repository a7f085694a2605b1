"""`fleetroot enrollments`: who may provision."""

from __future__ import annotations

from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_fields, print_json, yes_no

_group_option = click.option("--group", "is_group", is_flag=True, help="An enrollment group.")


@click.group()
def enrollments() -> None:
    """Create, show, disable and delete symmetric-key enrollments."""


@enrollments.command()
@click.argument("enrollment_id")
@_group_option
@click.option("--policy", help="The policy that issues.  [default: default]")
@click.option("--no-policy", is_flag=True, help="Issue nothing: devices work with their key.")
@click.option("--device-id", help="Device id, where it is not the registration id.")
@json_option
@asks_server
def create(
    client: Client,
    enrollment_id: str,
    is_group: bool,
    policy: str | None,
    no_policy: bool,
    device_id: str | None,
    as_json: bool,
) -> None:
    """Create an enrollment, with new keys."""
    if policy and no_policy:
        raise click.UsageError("give --policy or --no-policy, not both")
    body: dict[str, Any] = {"attestation": {"type": "symmetricKey"}}
    if not no_policy:
        body["credentialPolicyName"] = policy or "default"
    if device_id:
        body["deviceId"] = device_id
    _print(client.put(_path(enrollment_id, is_group), body), as_json)


@enrollments.command()
@click.argument("enrollment_id")
@_group_option
@json_option
@asks_server
def show(client: Client, enrollment_id: str, is_group: bool, as_json: bool) -> None:
    """Show an enrollment, with its keys."""
    path = _path(enrollment_id, is_group)
    _print(client.get(path) | {"attestation": client.post(f"{path}/attestationmechanism")}, as_json)


@enrollments.command()
@click.argument("enrollment_id")
@_group_option
@json_option
@asks_server
def disable(client: Client, enrollment_id: str, is_group: bool, as_json: bool) -> None:
    """Refuse the enrollment's devices; what they have, they keep."""
    _set_status(client, _path(enrollment_id, is_group), "disabled", as_json)


@enrollments.command()
@click.argument("enrollment_id")
@_group_option
@json_option
@asks_server
def enable(client: Client, enrollment_id: str, is_group: bool, as_json: bool) -> None:
    """Let the enrollment's devices provision again."""
    _set_status(client, _path(enrollment_id, is_group), "enabled", as_json)


@enrollments.command()
@click.argument("enrollment_id")
@_group_option
@json_option
@asks_server
def delete(client: Client, enrollment_id: str, is_group: bool, as_json: bool) -> None:
    """Delete an enrollment; what its devices have, they keep."""
    client.delete(_path(enrollment_id, is_group))
    if as_json:
        print_json({"deleted": enrollment_id})
    else:
        click.echo(f"{enrollment_id}: deleted")


def _path(enrollment_id: str, is_group: bool) -> str:
    return f"/{'enrollmentGroups' if is_group else 'enrollments'}/{quoted(enrollment_id)}"


def _set_status(client: Client, path: str, status: str, as_json: bool) -> None:
    found = client.get(path)
    found["provisioningStatus"] = status
    _print(client.put(path, found, if_match=found["etag"]), as_json)


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    keys = found["attestation"]["symmetricKey"]
    group_id = found.get("enrollmentGroupId")
    fields = {
        "Enrollment group" if group_id else "Enrollment": group_id or found["registrationId"],
        "Enabled": yes_no(found["provisioningStatus"] == "enabled"),
        "Policy": found.get("credentialPolicyName", "-"),
        "Primary key": keys["primaryKey"],
        "Secondary key": keys["secondaryKey"],
    }
    if "deviceId" in found:
        fields["Device id"] = found["deviceId"]
    print_fields(fields)
