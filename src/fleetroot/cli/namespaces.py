"""`fleetroot namespace` and `fleetroot credential`."""

from __future__ import annotations

from typing import IO, Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_fields, print_json, print_table, when
from fleetroot.cli.tags import parse_tags as _parsed
from fleetroot.cli.tags import shown_tags as _tags

namespace_option = click.option("--namespace", default="default", show_default=True)
_ROOTS = "/fleetroot/namespaces"


@click.group()
def namespace() -> None:
    """Create, list, show, tag, delete and synchronize namespaces."""


@namespace.command("list")
@json_option
@asks_server
def list_(client: Client, as_json: bool) -> None:
    """List every namespace."""
    found = client.get(_ROOTS)["value"]
    if as_json:
        print_json(found)
        return
    rows = [(each["name"], _tags(each), when(each["createdAt"])) for each in found]
    print_table(("Namespace", "Tags", "Created"), rows, "no namespaces")


@namespace.command()
@click.argument("name")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE")
@click.option("--no-credential", is_flag=True, help="Leave it without a root CA.")
@json_option
@asks_server
def create(
    client: Client, name: str, tags: tuple[str, ...], no_credential: bool, as_json: bool
) -> None:
    """Create a namespace, with its credential: a root CA of its own."""
    body = {"tags": _parsed(tags), "credential": not no_credential}
    _print(client.put(f"{_ROOTS}/{quoted(name)}", body), as_json)


@namespace.command()
@click.argument("name")
@json_option
@asks_server
def show(client: Client, name: str, as_json: bool) -> None:
    """Show one namespace."""
    _print(client.get(f"{_ROOTS}/{quoted(name)}"), as_json)


@namespace.command()
@click.argument("name")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="In place of all tags.")
@json_option
@asks_server
def update(client: Client, name: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Replace a namespace's tags."""
    _print(client.patch(f"{_ROOTS}/{quoted(name)}", {"tags": _parsed(tags)}), as_json)


@namespace.command()
@click.argument("name")
@json_option
@asks_server
def delete(client: Client, name: str, as_json: bool) -> None:
    """Delete an empty namespace."""
    client.delete(f"{_ROOTS}/{quoted(name)}")
    _deleted(name, as_json)


@namespace.command()
@click.argument("name")
@json_option
@asks_server
def synchronize(client: Client, name: str, as_json: bool) -> None:
    """Let the namespace's hubs trust the CAs of its policies."""
    done = client.post(f"{_ROOTS}/{quoted(name)}/synchronize")
    if as_json:
        print_json(done)
    else:
        click.echo(f"{name}: {done['synchronized']} new")


@click.group()
def credential() -> None:
    """Create, show, tag and delete a namespace's credential: its root CA."""


@credential.command("create")
@namespace_option
@click.option("--key-type", default="EC-P384", show_default=True)
@click.option(
    "--offline-root",
    type=click.File(),
    help="Certificate (PEM) of a root whose key is kept elsewhere; see `ca sign-offline`.",
)
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE")
@json_option
@asks_server
def create_credential(
    client: Client,
    namespace: str,
    key_type: str,
    offline_root: IO[str] | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a root CA for a namespace that has none."""
    body: dict[str, Any] = {"keyType": key_type}
    if offline_root is not None:
        body = {"offlineRoot": offline_root.read()}
    body["tags"] = _parsed(tags)
    _print_credential(client.put(_credential(namespace), body), as_json)


@credential.command("show")
@namespace_option
@json_option
@asks_server
def show_credential(client: Client, namespace: str, as_json: bool) -> None:
    """Show a namespace's root CA."""
    _print_credential(client.get(_credential(namespace)), as_json)


@credential.command("update")
@namespace_option
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="In place of all tags.")
@json_option
@asks_server
def update_credential(client: Client, namespace: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Replace the tags of a namespace's root CA."""
    _print_credential(client.patch(_credential(namespace), {"tags": _parsed(tags)}), as_json)


@credential.command("delete")
@namespace_option
@json_option
@asks_server
def delete_credential(client: Client, namespace: str, as_json: bool) -> None:
    """Take its root CA from a namespace without policies. This cannot be undone."""
    client.delete(_credential(namespace))
    _deleted("credential", as_json)


def _credential(namespace: str) -> str:
    return f"{_ROOTS}/{quoted(namespace)}/credential"


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "Namespace": found["name"],
            "Subscription": found["subscriptionId"],
            "Resource group": found["resourceGroup"],
            "Tags": _tags(found),
            "Created": when(found["createdAt"]),
            "Etag": found["etag"],
        }
    )


def _print_credential(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    root = found["root"]
    print_fields(
        {
            "Root CA": root["id"],
            "Tags": _tags(found),
            "Subject": root["subject"],
            "Key": f"{root['keyType']}, kept {root['keyKept']}",
            "SHA-256": root["sha256"],
            "Valid until": when(root["notAfter"]),
        }
    )


def _deleted(name: str, as_json: bool) -> None:
    if as_json:
        print_json({"deleted": name})
    else:
        click.echo(f"{name}: deleted")
