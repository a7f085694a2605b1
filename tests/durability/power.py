"""A disk that loses its power: what a trace of file operations may leave of a folder.

Only what POSIX promises is counted on. A file's contents are there after its own sync, a name after
the sync of the folder that it is in. Of everything else any part may be there: of a write each
sector by itself, of names what was done to them up to some point (file systems keep those in
order). The memory that SQLite's processes share (`-shm`) is no file in this sense.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from filetrace import Kind, Step

_SECTOR: Final = 512


class Chance(Protocol):
    """What becomes of what was not synced."""

    def sector_is_kept(self) -> bool: ...

    def names_kept(self, of: int) -> int:
        """How many of so many changes to names are kept."""
        ...


class Everything:
    """The process died, and the machine did not."""

    def sector_is_kept(self) -> bool:
        return True

    def names_kept(self, of: int) -> int:
        return of


class Nothing:
    """The disk did what it was told to, and nothing of its own accord."""

    def sector_is_kept(self) -> bool:
        return False

    def names_kept(self, of: int) -> int:
        return 0


class Part:
    """Whatever the disk got around to."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def sector_is_kept(self) -> bool:
        return self._random.random() < 0.5

    def names_kept(self, of: int) -> int:
        return self._random.randint(0, of)


@dataclass(eq=False)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    waiting: list[Step] = field(default_factory=list)

    def sync(self) -> None:
        self.synced = self.after(Everything())
        self.waiting.clear()

    def after(self, chance: Chance) -> bytearray:
        if not self.waiting:
            return self.synced
        content = bytearray(self.synced)
        for step in self.waiting:
            if step.kind is Kind.TRUNCATED:
                if chance.sector_is_kept():
                    _resize(content, step.offset)
                continue
            at, end = step.offset, step.offset + len(step.data)
            while at < end:
                upto = min(end, at - at % _SECTOR + _SECTOR)
                if chance.sector_is_kept():
                    if len(content) < upto:
                        _resize(content, upto)
                    content[at:upto] = step.data[at - step.offset : upto - step.offset]
                at = upto
        return content


@dataclass(frozen=True)
class _Folder:
    pass


_Entry = _File | _Folder | str  # str: what a link names


@dataclass
class _Naming:
    """A change to the names of one folder."""

    folder: str
    adds: tuple[str, _Entry] | None
    removes: str | None
    synced: bool = False


class Disk:
    """A folder, as a trace changes it."""

    def __init__(self) -> None:
        self._now: dict[str, _Entry] = {"": _Folder()}
        self._settled: dict[str, _Entry] = {}
        self._namings: list[_Naming] = []

    def take(self, step: Step) -> None:
        """Does one step of the trace."""
        path = step.path
        if path.endswith("-shm"):
            return
        match step.kind:
            case Kind.CREATED:
                self._name(path, _File())
            case Kind.FOLDER_MADE:
                self._name(path, _Folder())
            case Kind.LINKED:
                self._name(path, step.data.decode())
            case Kind.UNLINKED:
                self._name(path, None)
            case Kind.RENAMED:
                self._rename(step.data.decode(), path)
            case Kind.WRITTEN | Kind.TRUNCATED:
                file = self._now[path]
                assert isinstance(file, _File)
                file.waiting.append(step)
            case Kind.SYNCED:
                self._sync(path)

    def _name(self, path: str, entry: _Entry | None) -> None:
        if entry is None:
            self._now.pop(path, None)
        else:
            self._now[path] = entry
        adds = None if entry is None else (path, entry)
        self._namings.append(_Naming(_folder_of(path), adds, None if entry else path))

    def _rename(self, before: str, after: str) -> None:
        entry = self._now.pop(before)
        self._now[after] = entry
        self._namings.append(_Naming(_folder_of(after), (after, entry), before))

    def _sync(self, path: str) -> None:
        entry = self._now[path]
        if isinstance(entry, _File):
            entry.sync()
            return
        for naming in self._namings:
            naming.synced |= naming.folder == path
        while self._namings and self._namings[0].synced:
            _apply(self._settled, self._namings.pop(0))

    def left(self, chance: Chance, to: Path) -> None:
        """Writes into the folder `to`, which must not be there, what is left after a power cut."""
        names = dict(self._settled)
        kept = chance.names_kept(len(self._namings))
        for number, naming in enumerate(self._namings):
            if naming.synced or number < kept:
                _apply(names, naming)
        to.mkdir(mode=0o700)
        for path, entry in sorted(names.items()):
            target = to / path
            if not target.parent.exists():
                continue  # the folder above it was lost
            if isinstance(entry, _File):
                target.write_bytes(entry.after(chance))
                target.chmod(0o600)
            elif isinstance(entry, str):
                target.symlink_to(entry)
            else:
                target.mkdir(mode=0o700)


def _apply(names: dict[str, _Entry], naming: _Naming) -> None:
    if naming.removes is not None:
        names.pop(naming.removes, None)
    if naming.adds is not None:
        names[naming.adds[0]] = naming.adds[1]


def _folder_of(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


def _resize(content: bytearray, length: int) -> None:
    if length <= len(content):
        del content[length:]
    else:
        content += bytes(length - len(content))


def power_cuts(steps: Iterable[Step]) -> Iterator[tuple[int, Disk]]:
    """The disk at each moment that matters: just before a sync has done its work, and at the end.
    With it the number of the step that did not come to be.
    """
    disk, number = Disk(), -1
    for number, step in enumerate(steps):
        if step.kind is Kind.SYNCED:
            yield number, disk
        disk.take(step)
    yield number + 1, disk
