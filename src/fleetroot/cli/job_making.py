"""`fleetroot job call` and `patch`: what makes jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_json, when

F = TypeVar("F", bound=Callable[..., Any])


class _Json(click.ParamType[Any]):
    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return json.loads(value, parse_constant=_refuse)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none")


def _job_options(function: F) -> F:
    """What every job is told: for whom, when, and how long it may take."""
    for option in (
        click.option("--hub", default="default", show_default=True),
        click.option(
            "--within", type=click.IntRange(1), metavar="SECONDS", help="3600 by default."
        ),
        click.option("--start", metavar="TIME", help="ISO 8601 with an offset; now by default."),
        click.option(
            "--where",
            required=True,
            metavar="CONDITION",
            help="Which devices, as behind WHERE of a query; * for all.",
        ),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("job_id")
@click.argument("method")
@click.option("--payload", type=_Json(), help="JSON for the devices; null by default.")
@click.option("--timeout", type=click.IntRange(5, 300), default=30, show_default=True)
@click.option("--connect-timeout", type=click.IntRange(0, 300), default=0, show_default=True)
@_job_options
@json_option
@asks_server
def call(
    client: Client,
    /,
    job_id: str,
    method: str,
    payload: Any,
    timeout: int,
    connect_timeout: int,
    as_json: bool,
    **said: Any,
) -> None:
    """Make a job that calls a direct method of many devices."""
    work = {
        "methodName": method,
        "payload": payload,
        "responseTimeoutInSeconds": timeout,
        "connectTimeoutInSeconds": connect_timeout,
    }
    body = {"type": "scheduleDeviceMethod", "cloudToDeviceMethod": work}
    _make(client, job_id, body, as_json, **said)


@click.command()
@click.argument("job_id")
@click.option("--tags", type=_Json(), help="A patch, JSON: objects merge, null deletes.")
@click.option("--desired", type=_Json(), help="The same, of desired properties.")
@_job_options
@json_option
@asks_server
def patch(
    client: Client, /, job_id: str, tags: Any, desired: Any, as_json: bool, **said: Any
) -> None:
    """Make a job that changes the twins of many devices."""
    if tags is None and desired is None:
        raise click.UsageError("--tags or --desired")
    work: dict[str, Any] = {} if tags is None else {"tags": tags}
    if desired is not None:
        work["properties"] = {"desired": desired}
    _make(client, job_id, {"type": "scheduleUpdateTwin", "updateTwin": work}, as_json, **said)


def _make(
    client: Client,
    job_id: str,
    body: dict[str, Any],
    as_json: bool,
    *,
    where: str,
    start: str | None,
    within: int | None,
    hub: str,
) -> None:
    told = {
        "queryCondition": where,
        "startTime": start,
        "maxExecutionTimeInSeconds": within,
        **body,
    }
    made = client.put(f"/fleetroot/hubs/{quoted(hub)}/jobs/{quoted(job_id)}", told)
    if as_json:
        print_json(made)
        return
    click.echo(f"{made['jobId']} {made['status']}, starts {when(made['startTime'])}")
