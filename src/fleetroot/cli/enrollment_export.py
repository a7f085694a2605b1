"""`fleetroot enrollment export` and `fleetroot enrollment-group export`."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import orjson

from fleetroot.cli.client import Client, asks_server
from fleetroot.cli.enrollment_csv import cells_of, columns
from fleetroot.cli.enrollment_files import Form, form_of
from fleetroot.cli.enrollment_places import Kind, service_option


def add_export(group: click.Group, kind: Kind) -> None:
    """Gives a group of commands `export`."""

    @group.command(help=_help(kind))
    @click.argument("file", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
    @service_option
    @click.option("--format", "form", type=click.Choice([f.value for f in Form]))
    @click.option("--with-keys", is_flag=True, help="With symmetric keys; it is audited.")
    @asks_server
    def export(client: Client, file: Path, service: str, form: str | None, with_keys: bool) -> None:
        write_as = form_of(file, form)
        call = "exportEnrollmentsWithKeys" if with_keys else "exportEnrollments"
        pieces = client.stream("POST", kind.call(service, call))
        if write_as is Form.CSV:
            pieces = _as_csv(pieces, kind)
        if str(file) == "-":
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        _write(file, pieces, 0o600 if with_keys else 0o666)


def _help(kind: Kind) -> str:
    return f"""Write every {kind.noun} to a file, by id: CSV or JSON lines; - is the output.

    `import` takes the file as it is. With keys, it is for its owner only; a file of that name is
    replaced when the new one is whole.
    """


def _as_csv(pieces: Iterator[bytes], kind: Kind) -> Iterator[bytes]:
    """JSON lines as CSV with a header, lines ended by CR and LF (RFC 4180 §2)."""
    kind_columns = columns(kind)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(column.name for column in kind_columns)
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            writer.writerow(cells_of(kind_columns, orjson.loads(line)))
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def _write(path: Path, pieces: Iterator[bytes], mode: int) -> None:
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
