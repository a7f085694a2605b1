"""`fleetroot devices`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.namespaces import namespace_option
from fleetroot.cli.output import (
    json_option,
    print_fields,
    print_json,
    print_table,
    printable,
    short,
    when,
    yes_no,
)
from fleetroot.cli.tags import parse_tags, shown_tags

R = TypeVar("R")
_WORDS = (
    *("external-device-id", "manufacturer", "model"),
    *("operating-system", "operating-system-version"),
)


@click.group()
def devices() -> None:
    """Create, list, show, update, revoke, disable, enable and delete devices.

    `timeline` is what became of one.
    """


@devices.command("list")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@click.option("--after", default="", help="List devices behind this id.")
@namespace_option
@json_option
@asks_server
def list_(client: Client, limit: int, after: str, namespace: str, as_json: bool) -> None:
    """List devices, by id."""
    found: list[dict[str, Any]] = []
    more: str | None = after
    while more is not None and len(found) < limit:
        page = client.get(_path(namespace), after=more, limit=min(limit - len(found), 1000))
        found += page["value"]
        more = page["next"]
    if as_json:
        print_json(found)
        return
    rows = [
        (d["deviceId"], yes_no(d["enabled"]), d["policy"] or "-", when(d["createdAt"]))
        for d in found
    ]
    print_table(("Device", "Enabled", "Policy", "Registered"), rows, "no devices")


def _word_options(function: Callable[..., R]) -> Callable[..., R]:
    """Gives a command the options that say what a device is, in the words of the management API, as
    `words`: by their names there, null for one that is removed.
    """

    @wraps(function)
    def command(*args: Any, **options: Any) -> R:
        words: dict[str, Any] = {}
        for name in _WORDS:
            if (value := options.pop(name.replace("-", "_"))) is not None:
                words[_camel(name)] = value or None
        for name in ("attribute", "tag"):
            if given := options.pop(f"{name}s"):
                words[f"{name}s"] = {} if given == ("",) else parse_tags(given, f"--{name}")
        return function(*args, words=words, **options)

    for name in ("tag", "attribute"):
        command = click.option(
            f"--{name}",
            f"{name}s",
            multiple=True,
            metavar="NAME=VALUE",
            help=f"In place of all {name}s; empty to remove them.",
        )(command)
    for name in reversed(_WORDS):
        command = click.option(f"--{name}", help="Empty to remove it.")(command)
    return command


@devices.command()
@click.argument("device_id")
@click.option("--policy", help="The policy that it is under.")
@_word_options
@click.option("--disabled", is_flag=True, help="Refuse it until it is enabled.")
@namespace_option
@json_option
@asks_server
def create(
    client: Client,
    device_id: str,
    policy: str | None,
    words: dict[str, Any],
    disabled: bool,
    namespace: str,
    as_json: bool,
) -> None:
    """Create a device before it provisions; an enrollment must let it."""
    body = {"policy": policy, "enabled": not disabled, **words}
    made = client.put(_path(namespace, device_id), body)
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['deviceId']}: created")


@devices.command()
@click.argument("device_id")
@click.option("--policy", help="Another policy: its certificates count no more.")
@click.option("--enabled/--disabled", default=None)
@_word_options
@click.option("--if-match", help="Only if this is still its etag.")
@namespace_option
@json_option
@asks_server
def update(
    client: Client,
    device_id: str,
    policy: str | None,
    enabled: bool | None,
    words: dict[str, Any],
    if_match: str | None,
    namespace: str,
    as_json: bool,
) -> None:
    """Change what is said of a device; what is not given stays."""
    body = {"policy": policy, "enabled": enabled, **words}
    if body == {"policy": None, "enabled": None}:
        raise click.UsageError("say what to change")
    changed = client.patch(_path(namespace, device_id), body, if_match=if_match)
    if as_json:
        print_json(changed)
    else:
        click.echo(f"{changed['deviceId']}: changed")


@devices.command()
@click.argument("device_id")
@namespace_option
@json_option
@asks_server
def delete(client: Client, device_id: str, namespace: str, as_json: bool) -> None:
    """Delete a device: its certificates are revoked, and its connection ends at once.

    It may provision again, as a new device, while its enrollment lets it.
    """
    client.delete(_path(namespace, device_id))
    if as_json:
        print_json({"deleted": device_id})
    else:
        click.echo(f"{device_id}: deleted")


@devices.command()
@click.argument("device_id")
@namespace_option
@json_option
@asks_server
def show(client: Client, device_id: str, namespace: str, as_json: bool) -> None:
    """Show one device, with its connections and newest certificates."""
    found = client.get(_path(namespace, device_id))
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "Device": found["deviceId"],
            "UUID": found["uuid"],
            "Enabled": yes_no(found["enabled"]),
            "Policy": found["policy"] or "-",
            "Generation": found["generation"],
            **{
                name.replace("-", " ").capitalize(): printable(found[_camel(name)])
                for name in _WORDS
                if _camel(name) in found
            },
            "Attributes": printable(json.dumps(found.get("attributes", {}))),
            "Tags": shown_tags(found),
            "Registered": when(found["createdAt"]),
            "Changed": when(found["updatedAt"]),
            "Connected": ", ".join(
                f"{c['hub']} since {when(c['since'])}" for c in found["connections"]
            )
            or "no",
        }
    )
    rows = [
        (c["sha256"][:16], c["status"], c["origin"], when(c["notAfter"]))
        for c in found["certificates"]
    ]
    print_table(("Certificate", "Status", "Origin", "Until"), rows, "no certificates")


@devices.command()
@click.argument("device_id")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@namespace_option
@json_option
@asks_server
def timeline(client: Client, device_id: str, limit: int, namespace: str, as_json: bool) -> None:
    """Show what became of a device: registered, issued, connected, refused, renewed, revoked.

    Newest first. Who was refused only said that it is this device.
    """
    path, found = f"{_path(namespace, device_id)}/timeline", list[dict[str, Any]]()
    before: str | None = None
    while len(found) < limit:
        page = client.get(path, before=before, limit=min(limit - len(found), 1000))
        found += page["value"]
        before = page["next"]
        if before is None:
            break
    if as_json:
        print_json(found)
        return
    rows = [
        (when(m["at"]), m["kind"], _said(m), m["peer"] or "-", m["traceId"] or "-") for m in found
    ]
    print_table(("At", "What", "", "From", "Trace id"), rows, "nothing")


@devices.command()
@click.argument("device_id")
@click.option("--disable", is_flag=True, help="Disable the device as well.")
@namespace_option
@json_option
@asks_server
def revoke(client: Client, device_id: str, disable: bool, namespace: str, as_json: bool) -> None:
    """Revoke every certificate of a device; its connection ends at once.

    It may provision again, unless it is disabled as well.
    """
    done = client.post(f"{_path(namespace, device_id)}/revoke", {"disable": disable})
    if as_json:
        print_json(done)
        return
    click.echo(f"{done['device']['deviceId']}: {_counted(done['certificatesRevoked'])} revoked")


@devices.command("disable")
@click.argument("device_id")
@namespace_option
@json_option
@asks_server
def disable_(client: Client, device_id: str, namespace: str, as_json: bool) -> None:
    """Refuse a device, and end its connection; its certificates stay as they are."""
    _switch(client, _path(namespace, device_id), "disable", as_json)


@devices.command()
@click.argument("device_id")
@namespace_option
@json_option
@asks_server
def enable(client: Client, device_id: str, namespace: str, as_json: bool) -> None:
    """Let a device in again."""
    _switch(client, _path(namespace, device_id), "enable", as_json)


def _camel(name: str) -> str:
    first, *others = name.replace("-", "_").split("_")
    return "".join((first, *map(str.capitalize, others)))


def _said(moment: dict[str, Any]) -> str:
    parts = [moment["action"], moment["reason"], moment["hub"], moment["actor"]]
    if moment["sha256"]:
        parts.append(short(moment["sha256"]))
    return printable(", ".join(part for part in parts if part))


def _counted(certificates: int) -> str:
    return "1 certificate" if certificates == 1 else f"{certificates} certificates"


def _path(namespace: str, device_id: str | None = None) -> str:
    devices = f"/fleetroot/namespaces/{quoted(namespace)}/devices"
    return devices if device_id is None else f"{devices}/{quoted(device_id)}"


def _switch(client: Client, device: str, verb: str, as_json: bool) -> None:
    found = client.post(f"{device}/{verb}")
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['deviceId']}: {verb}d")
