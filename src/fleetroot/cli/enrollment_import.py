"""`fleetroot enrollment import` and `fleetroot enrollment-group import`."""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import orjson

from fleetroot.cli.client import Client, asks_server
from fleetroot.cli.enrollment_csv import guarded
from fleetroot.cli.enrollment_files import Form, Row, Unreadable, form_of, read_rows
from fleetroot.cli.enrollment_places import Kind, service_option
from fleetroot.cli.output import json_option, print_json, print_table, printable

_MODES: Final = ("create", "update", "createOrUpdate", "updateIfMatchETag", "delete")
_DONE: Final = ("created", "updated", "unchanged", "deleted", "refused")
_MAX_ROWS: Final = 1000  # of a request
_MAX_BYTES: Final = 90 * 1024  # of a request's rows: every server takes as much
_SHOWN: Final = 20  # refused rows in the terminal
_LISTED: Final = 1000  # in JSON


class _Report:
    """What became of the rows."""

    def __init__(self, refused_file: Any) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: list[dict[str, Any]] = []
        self._writer = csv.writer(refused_file) if refused_file else None
        if self._writer:
            self._writer.writerow(("line", "id", "reason"))

    def refuse(self, row: Row, reason: str) -> None:
        self.counts["refused"] += 1
        if len(self.refused) < _LISTED:
            self.refused.append({"line": row.line, "id": row.id, "reason": reason})
        if self._writer:
            self._writer.writerow((row.line, guarded(row.id), guarded(reason)))

    def add(self, rows: list[Row], answer: dict[str, Any]) -> None:
        for name in _DONE[:-1]:
            self.counts[name] += answer[name]
        for refused in answer["refused"]:
            self.refuse(rows[refused["row"]], refused["message"])


def add_import(group: click.Group, kind: Kind) -> None:
    """Gives a group of commands `import`."""

    @group.command("import", help=_help(kind))
    @click.argument("file", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
    @service_option
    @click.option("--format", "form", type=click.Choice([f.value for f in Form]))
    @click.option("--mode", type=click.Choice(_MODES), default="create", show_default=True)
    @click.option(
        "--skip-existing", is_flag=True, help="Leave rows alone that are there as they are sent."
    )
    @click.option("--dry-run", is_flag=True, help="Write nothing; tell what would be.")
    @click.option(
        "--refused",
        "refused_path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File for the refused rows: line, id, reason (CSV).",
    )
    @json_option
    @asks_server
    def import_(
        client: Client,
        file: Path,
        service: str,
        form: str | None,
        mode: str,
        skip_existing: bool,
        dry_run: bool,
        refused_path: Path | None,
        as_json: bool,
    ) -> None:
        read_as = form_of(file, form)
        how = {"mode": mode, "skipExisting": skip_existing, "dryRun": dry_run}
        path = kind.call(service, "importEnrollments")
        with ExitStack() as open_files:
            try:
                source: BinaryIO = (
                    sys.stdin.buffer
                    if str(file) == "-"
                    else open_files.enter_context(file.open("rb"))
                )
                refused_file = (
                    open_files.enter_context(refused_path.open("w", newline=""))
                    if refused_path
                    else None
                )
            except OSError as error:
                name = error.filename or file
                raise click.ClickException(f"cannot open {name}: {error.strerror}") from error
            report = _Report(refused_file)
            _send(client, path, how, source, read_rows(source, read_as, kind), report)
        _print(report, dry_run, as_json)
        if report.counts["refused"]:
            raise SystemExit(1)


def _help(kind: Kind) -> str:
    return f"""Create, change or delete {kind.noun}s from a file: CSV or JSON lines; - is the input.

    Up to 1,000 rows are written at once. A row that is refused leaves nothing, and the others are
    taken; the command then ends with 1. After a failure, run it again with --skip-existing.
    """


def _send(
    client: Client,
    path: str,
    how: dict[str, Any],
    source: BinaryIO,
    rows: Iterator[Row],
    report: _Report,
) -> None:
    head = orjson.dumps(how)[:-1] + b',"enrollments":['
    sent = 0
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        length=_size(source), file=sys.stderr, label="Importing", hidden=hidden
    ) as progress:
        try:
            for chunk in _chunks(rows, report):
                answer = client.post_bytes(path, head + b",".join(r.body for r in chunk) + b"]}")
                report.add(chunk, answer)
                sent = chunk[-1].line
                if source.seekable():
                    progress.update(source.tell() - progress.pos)
        except click.ClickException as error:
            message = error.format_message()
            done = "nothing was done" if not sent else f"what stands up to line {sent} was done"
            kind = Unreadable if isinstance(error, Unreadable) else click.ClickException
            raise kind(f"{message}; {done}") from error


def _chunks(rows: Iterator[Row], report: _Report) -> Iterator[list[Row]]:
    """The rows that can be sent, as many at a time as a request holds."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        if row.refused:
            report.refuse(row, row.refused)
            continue
        if chunk and (len(chunk) == _MAX_ROWS or size + len(row.body) >= _MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += len(row.body) + 1
    if chunk:
        yield chunk


def _size(source: BinaryIO) -> int:
    """In bytes; 0 where it has no end yet."""
    return os.fstat(source.fileno()).st_size if source.seekable() else 0


def _print(report: _Report, dry_run: bool, as_json: bool) -> None:
    counts = {name: report.counts[name] for name in _DONE}
    if as_json:
        print_json({"dryRun": dry_run, **counts, "refusedRows": report.refused})
        return
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    click.echo(f"{'Would be: ' if dry_run else ''}{told or 'no rows'}")
    if not report.refused:
        return
    shown = [
        (str(each["line"]), printable(each["id"]) or "-", printable(each["reason"]))
        for each in report.refused[:_SHOWN]
    ]
    print_table(("Line", "Id", "Refused"), shown, "")
    if (more := counts["refused"] - len(shown)) > 0:
        click.echo(f"and {more:,} more; --refused FILE has them all")
