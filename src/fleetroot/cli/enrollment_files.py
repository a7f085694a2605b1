"""Files of enrollments: CSV and JSON lines, read row by row.

A file may be larger than the memory, and what is in it is anybody's: lines are bounded, and a row
that cannot be read is told with its line. What makes all that follows doubtful (a quote that is not
closed, another encoding) ends the reading.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

import click
import orjson

from fleetroot.cli.enrollment_csv import Column, body_of, columns
from fleetroot.cli.enrollment_places import Kind

_MAX_LINE: Final = 64 * 1024  # bytes; two certificates and a twin have room in it
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class Form(StrEnum):
    """How a file holds enrollments."""

    CSV = "csv"
    JSON_LINES = "jsonl"


def form_of(path: Path, told: str | None) -> Form:
    """The form that was told, or that of the name's suffix.

    Raises:
        click.UsageError: there is neither.
    """
    if told is not None:
        return Form(told)
    match path.suffix.lower():
        case ".csv":
            return Form.CSV
        case ".jsonl" | ".ndjson":
            return Form.JSON_LINES
    raise click.UsageError("--format must say csv or jsonl: the file's name does not")


class Unreadable(click.ClickException):
    """The file cannot be read on."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file.

    Attributes:
        line: where it begins, from 1.
        id: what stands where its id should, or nothing.
        body: JSON of the enrollment; empty: the row is refused.
        refused: why.
    """

    line: int
    id: str
    body: bytes = b""
    refused: str = ""


def read_rows(file: BinaryIO, form: Form, kind: Kind) -> Iterator[Row]:
    """The rows of a file in their order. Of those with one id, the first counts.

    Raises:
        Unreadable: the file is not of that form, or its columns are not those of the kind.
    """
    rows = _csv_rows(file, kind) if form is Form.CSV else _json_rows(file, kind)
    with _Seen() as seen:
        for row in rows:
            if not row.refused and (first := seen.line_of(row)) is not None:
                yield Row(row.line, row.id, refused=f"line {first} has this id already")
            else:
                yield row


def _json_rows(file: BinaryIO, kind: Kind) -> Iterator[Row]:
    for number, line in _lines(file):
        if line is None:
            yield Row(number, "", refused=f"the line is longer than {_MAX_LINE} bytes")
            continue
        if not line.strip():
            continue
        try:
            body = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield Row(number, "", refused=f"the line is not JSON: {error.msg}")
            continue
        if not isinstance(body, dict):
            yield Row(number, "", refused="the line is not a JSON object")
            continue
        yield Row(number, _id_of(body.get(kind.id_name)), orjson.dumps(body))


def _csv_rows(file: BinaryIO, kind: Kind) -> Iterator[Row]:
    lines = _text_lines(file)
    first = next(lines, None)
    if first is None:
        raise Unreadable("the file is empty: its first line must name the columns")
    delimiter = ";" if ";" in first and "," not in first else ","
    csv.field_size_limit(_MAX_LINE)
    header = _header(next(csv.reader([first], delimiter=delimiter)), kind)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    at = [column.name for column in header].index(kind.id_name)
    while True:
        number = reader.line_num + 2  # the header is not among its lines
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise Unreadable(f"line {number}: the row is not CSV: {error}") from error
        if not any(cells):
            continue
        id_ = _id_of(cells[at].strip() if at < len(cells) else "")
        try:
            yield Row(number, id_, orjson.dumps(body_of(header, cells)))
        except (ValueError, orjson.JSONEncodeError) as error:
            yield Row(number, id_, refused=str(error))


def _header(names: list[str], kind: Kind) -> list[Column]:
    known = {column.name.lower(): column for column in columns(kind)}
    header = []
    for name in names:
        column = known.get(name.strip().lower())
        if column is None:
            raise Unreadable(
                f"line 1: there is no column {name[:80]!r}; there are "
                + ", ".join(column.name for column in known.values())
            )
        if column in header:
            raise Unreadable(f"line 1: the column {column.name} is there twice")
        header.append(column)
    if kind.id_name not in [column.name for column in header]:
        raise Unreadable(f"line 1: there must be a column {kind.id_name}")
    return header


def _text_lines(file: BinaryIO) -> Iterator[str]:
    for number, line in _lines(file):
        if line is None:
            raise Unreadable(f"line {number} is longer than {_MAX_LINE} bytes")
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise Unreadable(f"line {number} is not UTF-8: save the file as UTF-8") from None


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines with their numbers; None is one that is too long."""
    number = 0
    while line := file.readline(_MAX_LINE + 1):
        number += 1
        if number == 1:
            if line.startswith(_UTF16_MARKS):
                raise Unreadable("the file is UTF-16: save it as UTF-8")
            line = line.removeprefix(_UTF8_MARK)
        if len(line) <= _MAX_LINE:
            yield number, line
            continue
        while not line.endswith(b"\n") and (line := file.readline(_MAX_LINE)):
            pass
        yield number, None


def _id_of(value: object) -> str:
    """As it is reported; whether it is one, the server says."""
    return value[:256] if isinstance(value, str) else ""


class _Seen:
    """The ids of the rows so far: in a temporary database, which is on disk when it grows."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(
            "CREATE TABLE seen (id TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID"
        )

    def __enter__(self) -> _Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def line_of(self, row: Row) -> int | None:
        """The line of the row before it that has its id; it is remembered."""
        if not row.id:
            return None
        insert = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
        if self._database.execute(insert, (row.id.lower(), row.line)).rowcount:
            return None
        found = self._database.execute("SELECT line FROM seen WHERE id = ?", (row.id.lower(),))
        return int(found.fetchone()[0])
