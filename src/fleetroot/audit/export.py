"""The exported form of the log: JSON lines, in the order in which they are verified.

An entry's line is what was hashed, byte for byte. A checkpoint's line is
`{"checkpoint": {...}, "signature": base64}`, behind the entries that it covers.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Final

import orjson

from fleetroot.audit.model import Checkpoint, LoggedEntry

MAX_LINE_BYTES: Final = 64 * 1024


class NotALine(ValueError):
    """A line that no export has."""


def checkpoint_line(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as a line, without the line's end."""
    return orjson.dumps(
        {
            "checkpoint": orjson.Fragment(checkpoint.statement),
            "signature": base64.b64encode(checkpoint.signature).decode(),
        }
    )


def parse_line(line: bytes) -> LoggedEntry | Checkpoint:
    """What a line of an export is.

    Raises:
        NotALine: it is neither an entry nor a checkpoint.
    """
    if len(line) > MAX_LINE_BYTES:
        raise NotALine("a line is too long")
    try:
        fields = orjson.loads(line)
        if "checkpoint" not in fields:
            return LoggedEntry(int(fields["seq"]), datetime.fromisoformat(fields["at"]), line)
        statement = fields["checkpoint"]
        return Checkpoint(
            int(statement["number"]),
            int(statement["first"]),
            int(statement["last"]),
            orjson.dumps(statement, option=orjson.OPT_SORT_KEYS),
            base64.b64decode(fields["signature"], validate=True),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise NotALine("a line is neither an entry nor a checkpoint") from error
