"""The last refusals of each device, for whoever asks why it does not come in.

In memory only: a restart forgets them, and the log has what it wrote. Nothing in it authorizes
anything, so all that a stranger can do to it is to push others out, and that is bounded by what he
is. Refusals of one device for one reason from one source are one record with a count; every record
is charged to its source, and the source with the most pays when there is no room. One address can
thus make up as many ids as it likes, and loses only its own.

Never here: passwords, tokens, keys, payloads. What a peer made up arrives cut and escaped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from fleetroot.ids import canonical

_KEPT_OF_EACH: Final = 4  # newest of a record, and so trace ids by which it is found
_MAX_ID: Final = 256


class SubjectKind(StrEnum):
    """What an id that was refused names."""

    REGISTRATION = "registration"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a peer said it is; nothing about it need be true.

    Attributes:
        kind: whether `id` is a registration id or a device id.
        at: the ID scope, or the hub's host name, that it asked for.
        id: as it was sent.
    """

    kind: SubjectKind
    at: str
    id: str


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One refusal of a record."""

    time: datetime
    peer: str
    trace_id: str
    detail: str


@dataclass(slots=True)
class Record:
    """The refusals of one device for one reason from one source.

    Attributes:
        kind: what was refused: a connect, a request, ...
        reason: of the closed set that the metric counts by.
        source: an IPv4 address, or an IPv6 network of 64 bits.
        count: how often, since `first`.
        last: the newest of them, oldest first.
    """

    subject: Subject
    kind: str
    reason: str
    source: str
    first: datetime
    count: int = 0
    last: deque[Occurrence] = field(default_factory=lambda: deque(maxlen=_KEPT_OF_EACH))


_Name = tuple[SubjectKind, str]  # of a subject: its id in the canonical form
_Key = tuple[_Name, str, str, str, str]  # with where it went, kind, reason and source


class _Shares:
    """Keys by who pays for them; knows who pays for the most, and for which longest."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[_Key, None]] = {}
        self._by_count: dict[int, dict[str, None]] = {}
        self._most = 0

    def refresh(self, source: str, key: _Key) -> None:
        """The key was used: of its source's, it goes last."""
        of_source = self._keys[source]
        del of_source[key]
        of_source[key] = None

    def add(self, source: str, key: _Key) -> None:
        of_source = self._keys.setdefault(source, {})
        self._move(source, len(of_source), len(of_source) + 1)
        of_source[key] = None

    def remove(self, source: str, key: _Key) -> None:
        of_source = self._keys[source]
        self._move(source, len(of_source), len(of_source) - 1)
        del of_source[key]
        if not of_source:
            del self._keys[source]

    def heaviest(self) -> tuple[str, _Key]:
        """A source that nobody pays more than, and its oldest key."""
        source = next(iter(self._by_count[self._most]))
        return source, next(iter(self._keys[source]))

    def _move(self, source: str, before: int, after: int) -> None:
        if before:
            there = self._by_count[before]
            del there[source]
            if not there:
                del self._by_count[before]
        if after:
            self._by_count.setdefault(after, {})[source] = None
        # Counts move by one, so the most does too.
        if after > self._most or self._most not in self._by_count:
            self._most = after


class RefusalHistory:
    """The last refusals of devices; of one device at most `of_device` records, of all `in_all`."""

    def __init__(self, *, in_all: int = 5_000, of_device: int = 16) -> None:
        self._in_all = in_all
        self._of_device = of_device
        self._records: dict[_Key, Record] = {}
        self._subjects: dict[_Name, dict[_Key, None]] = {}
        self._shares = _Shares()

    def __len__(self) -> int:
        return len(self._records)

    def add(
        self, subject: Subject, kind: str, reason: str, source: str, occurrence: Occurrence
    ) -> None:
        """Keeps a refusal."""
        name = (subject.kind, canonical(subject.id)[:_MAX_ID])
        key = (name, canonical(subject.at)[:_MAX_ID], kind, reason, source)
        record = self._records.get(key)
        if record is None:
            self._make_room(name)
            record = Record(subject, kind, reason, source, occurrence.time)
            self._records[key] = record
            self._subjects.setdefault(name, {})[key] = None
            self._shares.add(source, key)
        else:
            self._shares.refresh(source, key)
        record.count += 1
        record.last.append(occurrence)

    def of(self, kind: SubjectKind, id_: str) -> list[Record]:
        """The records of that id, wherever it went, in any spelling; the newest first."""
        keys = self._subjects.get((kind, canonical(id_)[:_MAX_ID]), {})
        return _newest_first(self._records[key] for key in keys)

    def by_trace_id(self, trace_id: str) -> list[Record]:
        """The records that this trace id is among the newest of; the newest first."""
        return _newest_first(
            record
            for record in self._records.values()
            if any(occurrence.trace_id == trace_id for occurrence in record.last)
        )

    def _make_room(self, name: _Name) -> None:
        of_subject = self._subjects.get(name)
        if of_subject is not None and len(of_subject) >= self._of_device:
            # The same rule for one device: whoever filled it pays.
            sources: dict[str, list[_Key]] = {}
            for key in of_subject:
                sources.setdefault(key[-1], []).append(key)
            fullest = max(sources.values(), key=len)
            self._remove(min(fullest, key=lambda key: self._records[key].last[-1].time))
        while len(self._records) >= self._in_all:
            self._remove(self._shares.heaviest()[1])

    def _remove(self, key: _Key) -> None:
        del self._records[key]
        of_subject = self._subjects[key[0]]
        del of_subject[key]
        if not of_subject:
            del self._subjects[key[0]]
        self._shares.remove(key[-1], key)


def _newest_first(records: Iterator[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.last[-1].time, reverse=True)
