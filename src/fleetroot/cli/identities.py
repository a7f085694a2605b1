"""`fleetroot hub identity`."""

from __future__ import annotations

from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_fields, print_json, print_table, printable, when

_hub_option = click.option("--hub", default="default", show_default=True)
_module_option = click.option("--module", metavar="ID", help="The module of the device.")


@click.group()
def identity() -> None:
    """List, show, create, enable, disable and delete who may connect to a hub."""


@identity.command("list")
@click.option("--modules-of", metavar="DEVICE", help="The modules of that device.")
@click.option("--after", default="", help="List devices behind this id.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@_hub_option
@json_option
@asks_server
def list_(
    client: Client, modules_of: str | None, after: str, limit: int, hub: str, as_json: bool
) -> None:
    """List the devices of a hub, or the modules of one."""
    if modules_of is not None:
        found = client.get(f"{_path(hub, modules_of)}/modules")["value"]
    else:
        found = _devices(client, hub, after, limit)
    if as_json:
        print_json(found)
        return
    name = "deviceId" if modules_of is None else "moduleId"
    rows = [
        (
            each[name],
            each.get("status", "-"),
            each["connectionState"].lower(),
            each["authentication"]["type"],
        )
        for each in found
    ]
    title = "Device" if modules_of is None else "Module"
    empty = "no devices" if modules_of is None else "no modules"
    print_table((title, "Status", "State", "Authentication"), rows, empty)


def _devices(client: Client, hub: str, after: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    more: str | None = after
    while more is not None and len(found) < limit:
        page = client.get(_root(hub), after=more, limit=min(limit - len(found), 1000))
        found += page["value"]
        more = page["next"]
    return found


@identity.command()
@click.argument("device")
@_module_option
@_hub_option
@json_option
@asks_server
def show(client: Client, device: str, module: str | None, hub: str, as_json: bool) -> None:
    """Show an identity.

    With its keys, where the token's role reads secrets.
    """
    _print(client.get(_path(hub, device, module)), as_json)


@identity.command()
@click.argument("device")
@_module_option
@click.option(
    "--thumbprint",
    "thumbprints",
    multiple=True,
    metavar="HEX",
    help="SHA-1 or SHA-256 of its certificate; up to two.",
)
@click.option(
    "--certificate-authority", is_flag=True, help="Certificates of its policy, or of uploaded CAs."
)
@click.option("--disabled", is_flag=True, help="Nobody is let in by it yet.")
@click.option("--reason", help="Why its status is so.")
@_hub_option
@json_option
@asks_server
def create(
    client: Client,
    device: str,
    module: str | None,
    thumbprints: tuple[str, ...],
    certificate_authority: bool,
    disabled: bool,
    reason: str | None,
    hub: str,
    as_json: bool,
) -> None:
    """Create an identity, by default with keys.

    They are drawn, and shown. The device is entered in the registry, if it is not there.
    """
    if thumbprints and certificate_authority:
        raise click.UsageError("--thumbprint or --certificate-authority, not both")
    if len(thumbprints) > 2:
        raise click.UsageError("--thumbprint: at most two")
    if module is not None and (disabled or reason is not None):
        raise click.UsageError("a module has no status of its own")
    body: dict[str, Any] = {}
    if not module:
        body = {"status": "disabled" if disabled else "enabled", "statusReason": reason}
    if certificate_authority:
        body["authentication"] = {"type": "certificateAuthority"}
    elif thumbprints:
        names = ("primaryThumbprint", "secondaryThumbprint")
        prints = dict(zip(names, thumbprints, strict=False))
        body["authentication"] = {"type": "selfSigned", "x509Thumbprint": prints}
    _print(client.put(_path(hub, device, module), body), as_json)


@identity.command()
@click.argument("device")
@click.option("--reason", help="For whoever asks.")
@_hub_option
@json_option
@asks_server
def disable(client: Client, device: str, reason: str | None, hub: str, as_json: bool) -> None:
    """Keep a device and its modules out of a hub.

    Connections end at once.
    """
    body = {"status": "disabled", "statusReason": reason}
    _print(client.put(_path(hub, device), body, if_match="*"), as_json)


@identity.command()
@click.argument("device")
@_hub_option
@json_option
@asks_server
def enable(client: Client, device: str, hub: str, as_json: bool) -> None:
    """Let a device in again, unless the registry does not."""
    _print(client.put(_path(hub, device), {"status": "enabled"}, if_match="*"), as_json)


@identity.command()
@click.argument("device")
@_module_option
@_hub_option
@json_option
@asks_server
def delete(client: Client, device: str, module: str | None, hub: str, as_json: bool) -> None:
    """Delete an identity; the registry keeps the device.

    Its modules, twins and messages go with it.
    """
    client.delete(_path(hub, device, module))
    name = device if module is None else f"{device}/{module}"
    if as_json:
        print_json({"deleted": name})
    else:
        click.echo(f"{name}: deleted")


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    authentication = found["authentication"]
    fields = {"Device": found["deviceId"]}
    if "moduleId" in found:
        fields |= {"Module": found["moduleId"], "Managed by": found["managedBy"] or "-"}
    else:
        fields |= {"Status": found["status"], "Reason": found["statusReason"] or "-"}
    fields |= {
        "Connection": found["connectionState"].lower(),
        "Last activity": _at(found["lastActivityTime"]),
        "Messages waiting": str(found["cloudToDeviceMessageCount"]),
        "Authentication": authentication["type"],
    }
    for title, value in (
        ("Primary key", authentication["symmetricKey"]["primaryKey"]),
        ("Secondary key", authentication["symmetricKey"]["secondaryKey"]),
        ("Thumbprint", authentication["x509Thumbprint"]["primaryThumbprint"]),
        ("Second thumbprint", authentication["x509Thumbprint"]["secondaryThumbprint"]),
    ):
        if value:
            fields[title] = value
    fields["Etag"] = found["etag"]
    print_fields({name: printable(value) for name, value in fields.items()})


def _at(time: str) -> str:
    return "never" if time.startswith("0001") else when(time)


def _root(hub: str) -> str:
    return f"/fleetroot/hubs/{quoted(hub)}/identities"


def _path(hub: str, device: str, module: str | None = None) -> str:
    path = f"{_root(hub)}/{quoted(device)}"
    return path if module is None else f"{path}/modules/{quoted(module)}"
