"""`fleetroot query`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from fleetroot.cli.client import Client, asks_server, quoted
from fleetroot.cli.output import json_option, print_json, print_table, printable

_PAGE = 100
_TWIN = ("deviceId", "status", "connectionState", "authenticationType", "lastActivityTime")


@click.command()
@click.argument("text")
@click.option("--hub", default="default", show_default=True)
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Of rows.")
@json_option
@asks_server
def query(client: Client, text: str, hub: str, limit: int, as_json: bool) -> None:
    """Find devices by what their twins, identities and certificates say.

    \b
    SELECT * FROM devices WHERE tags.site = 'Zürich' AND certificate.notAfter < '2027-01-31'
    SELECT deviceId, properties.reported.firmware FROM devices ORDER BY deviceId
    SELECT tags.site, COUNT() AS devices FROM devices GROUP BY tags.site
    """  # noqa: D301 - \b keeps the lines as they are
    found, is_cut = _rows(client, f"/fleetroot/hubs/{quoted(hub)}/query", text, limit)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if is_cut:
        click.echo(f"there are more than {limit}: --limit", err=True)


def _rows(client: Client, path: str, text: str, limit: int) -> tuple[list[Any], bool]:
    """Up to `limit` rows, and whether there are more."""
    found: list[Any] = []
    for page in _pages(client, path, text, limit):
        found += page
        if len(found) > limit:
            return found[:limit], True
    return found, False


def _pages(client: Client, path: str, text: str, limit: int) -> Iterator[list[Any]]:
    return client.pages(path, {"query": text}, min(limit + 1, _PAGE))


def _print(found: list[dict[str, Any]]) -> None:
    # Twins whole are for --json: here, what tells them apart.
    is_twins = all("properties" in row and "deviceEtag" in row for row in found)
    columns = _TWIN if is_twins else tuple(dict.fromkeys(name for row in found for name in row))
    rows = [[_cell(row, column) for column in columns] for row in found]
    print_table([printable(column) for column in columns], rows, "nothing found")


def _cell(row: dict[str, Any], column: str) -> str:
    if column not in row:
        return ""
    value = row[column]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(text)
