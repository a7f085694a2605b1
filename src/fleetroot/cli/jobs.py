"""`fleetroot job`."""

from __future__ import annotations

import json
from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.job_making import call, patch
from fleetroot.cli.output import json_option, print_fields, print_json, print_table, when

_PAGE = 1000
_hub_option = click.option("--hub", default="default", show_default=True)
_TYPES = {"method": "scheduleDeviceMethod", "twin": "scheduleUpdateTwin"}
_NAMES = {name: shown for shown, name in _TYPES.items()}


@click.group()
def job() -> None:
    """Make, list, show and cancel jobs: the same done to many devices."""


job.add_command(call)
job.add_command(patch)


@job.command("list")
@click.option("--type", "kind", type=click.Choice(list(_TYPES)))
@click.option(
    "--status",
    type=click.Choice(["scheduled", "queued", "running", "completed", "failed", "cancelled"]),
)
@click.option("--limit", type=click.IntRange(1, _PAGE), default=100, show_default=True)
@_hub_option
@json_option
@asks_server
def list_(
    client: Client, kind: str | None, status: str | None, limit: int, hub: str, as_json: bool
) -> None:
    """List jobs, newest first."""
    wanted = None if kind is None else _TYPES[kind]
    found = client.get(_root(hub), type=wanted, status=status, limit=limit)["value"]
    if as_json:
        print_json(found)
        return
    rows = [
        (each["jobId"], _NAMES[each["type"]], each["status"], _progress(each), _begins(each))
        for each in found
    ]
    print_table(("Job", "Does", "Status", "Devices", "Starts"), rows, "no jobs")


@job.command()
@click.argument("job_id")
@click.option("--devices", is_flag=True, help="Also what came of it for each device.")
@click.option("--failed", is_flag=True, help="The same, of those alone that it failed for.")
@_hub_option
@json_option
@asks_server
def show(client: Client, job_id: str, devices: bool, failed: bool, hub: str, as_json: bool) -> None:
    """Show a job, and how far it is."""
    path = f"{_root(hub)}/{quoted(job_id)}"
    found = client.get(path)
    outcomes = _outcomes(client, path, failed) if devices or failed else None
    if as_json:
        print_json(found if outcomes is None else {**found, "devices": outcomes})
        return
    print_fields(_fields(found))
    if outcomes is not None:
        rows = [(each["deviceId"], each["status"], _outcome(each)) for each in outcomes]
        print_table(("Device", "Status", "Outcome"), rows, "no devices")


@job.command()
@click.argument("job_id")
@_hub_option
@json_option
@asks_server
def cancel(client: Client, job_id: str, hub: str, as_json: bool) -> None:
    """End a job; devices whose turn it is are finished."""
    found = client.post(f"{_root(hub)}/{quoted(job_id)}/cancel")
    if as_json:
        print_json(found)
        return
    print_fields(_fields(found))


def _root(hub: str) -> str:
    return f"/fleetroot/hubs/{quoted(hub)}/jobs"


def _outcomes(client: Client, path: str, failed: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        status = "failed" if failed else None
        page = client.get(f"{path}/devices", status=status, after=after, limit=_PAGE)
        found += page["value"]
        after = page["next"]
        if after is None:
            return found


def _fields(found: dict[str, Any]) -> dict[str, str]:
    counted = found["deviceJobStatistics"]
    fields = {
        "Job": found["jobId"],
        "Does": _work(found),
        "For": found["queryCondition"],
        "Status": found["status"],
        "Devices": str(counted["deviceCount"]),
        "Succeeded": str(counted["succeededCount"]),
        "Failed": str(counted["failedCount"]),
        "Running": str(counted["runningCount"]),
        "Pending": str(counted["pendingCount"]),
        "Created": when(found["createdTime"]),
        "Starts": when(found["startTime"]),
        "Ended": when(found.get("endTime")),
    }
    if "failureReason" in found:
        fields["Because"] = found["failureReason"]
    return fields


def _work(found: dict[str, Any]) -> str:
    method = found.get("cloudToDeviceMethod")
    if method is not None:
        return f"method {method['methodName']} {json.dumps(method['payload'])}"
    return f"twin {json.dumps(found['updateTwin'])}"


def _progress(found: dict[str, Any]) -> str:
    counted = found["deviceJobStatistics"]
    text = f"{counted['succeededCount'] + counted['failedCount']} of {counted['deviceCount']}"
    return f"{text}, {counted['failedCount']} failed" if counted["failedCount"] else text


def _begins(found: dict[str, Any]) -> str:
    return when(found["startTime"])


def _outcome(found: dict[str, Any]) -> str:
    outcome = found["outcome"]
    if outcome is None:
        return "-"
    if "message" in outcome:
        return str(outcome["message"])
    if "status" in outcome:
        return f"{outcome['status']} {json.dumps(outcome['payload'])}"
    return f"version {outcome['version']}"
