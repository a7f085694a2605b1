"""`fleetroot twin`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_fields, print_json, printable, when

F = TypeVar("F", bound=Callable[..., Any])
_hub_option = click.option("--hub", default="default", show_default=True)


class _Section(NamedTuple):
    """A section as it was given; None is `null`, all of it."""

    value: dict[str, Any] | None


class _JsonObject(click.ParamType[_Section]):
    """A JSON object or `null`, or with `@` before it the file that has it."""

    name = "json"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """See `click.ParamType.convert`."""
        text = value
        if value.startswith("@"):
            try:
                text = Path(value[1:]).read_text()
            except (OSError, UnicodeDecodeError) as error:
                self.fail(f"cannot read {value[1:]}: {error}", param, ctx)
        try:
            found = json.loads(text)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)
        if found is not None and not isinstance(found, dict):
            self.fail("must be a JSON object, or null", param, ctx)
        return _Section(found)


def _sections(*, replaces: bool) -> Callable[[F], F]:
    left_out = "empty, if left out" if replaces else "objects merge, null deletes"
    metavar = "JSON|@FILE"

    def decorate(function: F) -> F:
        for name in ("desired", "tags"):
            about = f"A JSON object, or @ and its file: {left_out}."
            option = click.option(f"--{name}", type=_JsonObject(), metavar=metavar, help=about)
            function = option(function)
        return click.option("--if-match", metavar="ETAG", help="Only if this is its etag.")(
            function
        )

    return decorate


@click.group()
def twin() -> None:
    """Show and change what devices report and what is wanted of them."""


@twin.command()
@click.argument("device")
@_hub_option
@json_option
@asks_server
def show(client: Client, device: str, hub: str, as_json: bool) -> None:
    """Show a device's twin."""
    _print(client.get(_path(hub, device)), as_json)


@twin.command()
@click.argument("device")
@_sections(replaces=False)
@_hub_option
@json_option
@asks_server
def update(
    client: Client,
    device: str,
    tags: _Section | None,
    desired: _Section | None,
    if_match: str | None,
    hub: str,
    as_json: bool,
) -> None:
    """Merge into tags and desired properties; a device that listens hears of it now."""
    if tags is None and desired is None:
        raise click.UsageError("nothing to change: --tags or --desired")
    body = _body(tags, desired)
    _print(client.patch(_path(hub, device), body, if_match=if_match), as_json)


@twin.command()
@click.argument("device")
@_sections(replaces=True)
@_hub_option
@json_option
@asks_server
def replace(
    client: Client,
    device: str,
    tags: _Section | None,
    desired: _Section | None,
    if_match: str | None,
    hub: str,
    as_json: bool,
) -> None:
    """Replace tags and desired properties by what is given."""
    body = _body(tags, desired)
    _print(client.put(_path(hub, device), body, if_match=if_match), as_json)


def _body(tags: _Section | None, desired: _Section | None) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if tags is not None:
        body["tags"] = tags.value
    if desired is not None:
        body["properties"] = {"desired": desired.value}
    return body


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    active = found["lastActivityTime"]
    print_fields(
        {
            "Device": found["deviceId"],
            "Status": f"{found['status']}, {found['connectionState'].lower()}",
            "Last activity": "never" if active.startswith("0001") else when(active),
            "Authentication": found["authenticationType"],
            "Model": found["modelId"] or "-",
            "Messages waiting": str(found["cloudToDeviceMessageCount"]),
            "Etag": found["etag"],
        }
    )
    desired, reported = found["properties"]["desired"], found["properties"]["reported"]
    for title, section in (
        ("Tags", found["tags"]),
        (f"Desired, version {desired['$version']}", desired),
        (f"Reported, version {reported['$version']}", reported),
    ):
        written = {key: value for key, value in section.items() if not key.startswith("$")}
        text = json.dumps(written, indent=2, ensure_ascii=False, sort_keys=True)
        click.echo(f"\n{title}")
        click.echo("\n".join(printable(line) for line in text.splitlines()))


def _path(hub: str, device: str) -> str:
    return f"/fleetroot/hubs/{quoted(hub)}/devices/{quoted(device)}/twin"
