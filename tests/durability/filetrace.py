"""What a process does to its files, in order: the Python side of `filetrace.c`."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest

_RECORD: Final = struct.Struct("<IIqII")
_CONTROL: Final = struct.Struct("<iiii")


class Kind(StrEnum):
    """What happened; to a file of the folder, or to a TCP connection."""

    CREATED = "c"
    WRITTEN = "w"
    TRUNCATED = "t"
    RENAMED = "r"  # data: from where
    LINKED = "l"  # data: to what
    UNLINKED = "u"
    FOLDER_MADE = "d"
    SYNC_BEGUN = "b"
    SYNCED = "s"
    SENDING = "p"  # offset: the connection, as `CountedTls.connection`
    SENT = "q"  # offset: the same; data: how much


@dataclass(frozen=True, slots=True)
class Step:
    """One record of a trace.

    Attributes:
        path: below the folder that was traced; the folder itself is the empty path.
    """

    kind: Kind
    path: str
    offset: int
    data: bytes


def build(folder: Path) -> Path:
    """Compiles the shared object."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler to build the tracing layer with")
    source, made = Path(__file__).with_suffix(".c"), folder / "filetrace.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl", "-pthread"], check=True
    )
    return made


class FileTrace:
    """A traced folder: what a process needs in its environment, and what it did there."""

    def __init__(self, shared_object: Path, folder: Path, own: Path) -> None:
        """Traces `folder`; keeps the log and the control page in `own`, which is elsewhere."""
        self._log, control = own / "trace", own / "control"
        control.write_bytes(bytes(mmap.PAGESIZE))
        self._control = control
        self.environment = {
            "LD_PRELOAD": str(shared_object),
            "FILETRACE_FOLDER": str(folder.resolve()),
            "FILETRACE_LOG": str(self._log),
            "FILETRACE_CONTROL": str(control),
        }

    @cached_property
    def steps(self) -> list[Step]:
        """What happened, once the process is over."""
        return list(self._parse())

    def _parse(self) -> Iterator[Step]:
        log, at = self._log.read_bytes(), 0
        while at < len(log):
            kind, _thread, offset, path_length, data_length = _RECORD.unpack_from(log, at)
            at += _RECORD.size
            path = log[at : at + path_length].decode()
            at += path_length
            yield Step(Kind(chr(kind)), path, offset, log[at : at + data_length])
            at += data_length

    # --- harm

    def fail_writes(self, error: int) -> None:
        """Fails with that errno whatever changes a file, from now on; 0: nothing any more."""
        self._set(0, error)

    def fail_syncs(self, error: int) -> None:
        """Fails every sync with that errno from now on; 0: none any more."""
        self._set(1, error)

    def kill_before_sync(self, number: int) -> None:
        """Kills the process when it asks for the sync of that number, 1 for the next."""
        self._set(2, number)

    @property
    def syncs(self) -> int:
        """How many there were."""
        return int(_CONTROL.unpack(self._control.read_bytes()[: _CONTROL.size])[3])

    def _set(self, field: int, value: int) -> None:
        with self._control.open("r+b") as file:
            file.seek(field * 4)
            file.write(struct.pack("<i", value))
