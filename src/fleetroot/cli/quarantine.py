"""`fleetroot quarantine`."""

from __future__ import annotations

from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_json, print_table, when

_PAGE = 1000
_service_option = click.option(
    "--service", default="default", show_default=True, help="The provisioning service."
)
_enrollment_option = click.option("--enrollment", help="Of this individual enrollment.")
_group_option = click.option("--enrollment-group", help="Of this enrollment group.")


@click.group()
def quarantine() -> None:
    """List, approve and reject devices that wait to be let in."""


@quarantine.command("list")
@_enrollment_option
@_group_option
@click.option("--rejected", is_flag=True, help="Those that were rejected.")
@_service_option
@json_option
@asks_server
def list_(
    client: Client,
    enrollment: str | None,
    enrollment_group: str | None,
    rejected: bool,
    service: str,
    as_json: bool,
) -> None:
    """List the devices that wait."""
    query: dict[str, Any] = {"limit": _PAGE, "rejected": rejected}
    if enrollment:
        query["enrollment"] = enrollment
    if enrollment_group:
        query["enrollmentGroup"] = enrollment_group
    found: list[dict[str, Any]] = []
    while True:
        page = client.get(_path(service), **query)
        found += page["value"]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["registrationId"],
            each.get("enrollmentGroup") or each.get("enrollment", ""),
            each.get("peer", "-"),
            when(each["createdAt"]),
        )
        for each in found
    ]
    print_table(("Registration", "Enrollment", "From", "Since"), rows, "nobody waits")


def _decision(word: str, done: str, told: str) -> None:
    """Adds the command that decides so."""

    @quarantine.command(word, help=told)
    @click.argument("registration_ids", nargs=-1)
    @_enrollment_option
    @_group_option
    @_service_option
    @json_option
    @asks_server
    def command(
        client: Client,
        registration_ids: tuple[str, ...],
        enrollment: str | None,
        enrollment_group: str | None,
        service: str,
        as_json: bool,
    ) -> None:
        if bool(registration_ids) + bool(enrollment) + bool(enrollment_group) != 1:
            raise click.UsageError("name registrations, --enrollment or --enrollment-group")
        body: dict[str, Any] = {}
        if registration_ids:
            body["registrationIds"] = list(registration_ids)
        if enrollment:
            body["enrollment"] = enrollment
        if enrollment_group:
            body["enrollmentGroup"] = enrollment_group
        answer = client.post(f"{_path(service)}/{word}", body)
        if as_json:
            print_json(answer)
        else:
            click.echo(f"{done}: {answer['decided']}")


_decision("approve", "approved", "Let devices in, each with its next call.")
_decision("reject", "rejected", "Keep devices out until they are approved.")


def _path(service: str) -> str:
    return f"/fleetroot/provisioning-services/{quoted(service)}/quarantine"
