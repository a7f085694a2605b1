"""`show`, `update`, `link` and `delete` of hubs and provisioning services."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_fields, print_json
from fleetroot.cli.tags import parse_tags

Fields: TypeAlias = Callable[[dict[str, Any]], Mapping[str, str]]
"""What people are shown of an answer."""


def add_service_commands(
    group: click.Group, root: str, noun: str, fields: Fields, *, link_help: str, delete_help: str
) -> None:
    """Gives a group the commands; `root` is the path of what it is about, which is a `noun`."""

    @group.command(help=f"Show one {noun}.")
    @click.argument("name")
    @json_option
    @asks_server
    def show(client: Client, name: str, as_json: bool) -> None:
        print_service(client.get(f"{root}/{quoted(name)}"), fields, as_json)

    @group.command(help=f"Replace a {noun}'s tags.")
    @click.argument("name")
    @click.option(
        "--tag", "tags", multiple=True, metavar="NAME=VALUE", help="In place of all tags."
    )
    @json_option
    @asks_server
    def update(client: Client, name: str, tags: tuple[str, ...], as_json: bool) -> None:
        changed = client.patch(f"{root}/{quoted(name)}", {"tags": parse_tags(tags)})
        print_service(changed, fields, as_json)

    @group.command(help=link_help)
    @click.argument("name")
    @click.option("--namespace", required=True)
    @json_option
    @asks_server
    def link(client: Client, name: str, namespace: str, as_json: bool) -> None:
        linked = client.post(f"{root}/{quoted(name)}/link", {"namespace": namespace})
        print_service(linked, fields, as_json)

    @group.command(help=delete_help)
    @click.argument("name")
    @json_option
    @asks_server
    def delete(client: Client, name: str, as_json: bool) -> None:
        client.delete(f"{root}/{quoted(name)}")
        if as_json:
            print_json({"deleted": name})
        else:
            click.echo(f"{name}: deleted")


def print_service(found: dict[str, Any], fields: Fields, as_json: bool) -> None:
    """Prints a hub or provisioning service."""
    if as_json:
        print_json(found)
    else:
        print_fields(fields(found))
