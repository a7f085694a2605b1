"""Durable before sent, seen from below: the order of a server's writes, syncs and answers.

Killing a process shows nothing about this, because the operating system keeps what it wrote. Here
every change to the data folder and every write to a peer is traced (`filetrace.c`), and each answer
is held against the sync of the transaction that it speaks of.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from filetrace import Kind, Step
from workload import Answer, Promise, Traced

DATABASE = "data/fleetroot.db"
WAL = f"{DATABASE}-wal"
FRAME_HEADER = 24  # bytes; SQLite file format §4.2
WAL_HEADER = 32


def commits(steps: list[Step]) -> Iterator[tuple[int, bytes]]:
    """Each transaction of the WAL: the step that wrote the header of its last frame, which carries
    the size of the database and makes it a commit; and all its pages.
    """
    pages, last = b"", None
    for number, step in enumerate(steps):
        if step.path != WAL or step.kind is not Kind.WRITTEN or len(step.data) == WAL_HEADER:
            continue
        if len(step.data) != FRAME_HEADER:
            pages += step.data
            if last is not None:
                yield last, pages
                pages, last = b"", None
        elif any(step.data[4:8]):
            last = number


def sync_of(steps: list[Step], path: str, after: int) -> int:
    """The step at which the first sync of `path` that began behind the step `after` was over."""
    began = next(
        n for n in range(after, len(steps)) if (steps[n].kind, steps[n].path) == ("b", path)
    )
    return next(
        n for n in range(began, len(steps)) if (steps[n].kind, steps[n].path) == ("s", path)
    )


@pytest.mark.parametrize("promise", Promise)
def test_answer_leaves_after_the_sync_of_what_it_promises(life: Traced, promise: Promise) -> None:
    transactions = list(commits(life.steps))

    def committed_at(answer: Answer) -> int:
        return next(number for number, pages in transactions if answer.token in pages)

    answers = [answer for answer in life.answers if answer.promise is promise]
    assert answers
    early = [
        (answer.device_id, answer.promise)
        for answer in answers
        if life.sent_at(answer) < sync_of(life.steps, WAL, committed_at(answer))
    ]
    assert early == []


def test_checkpoint_copies_only_what_the_wal_has_durably(life: Traced) -> None:
    """Else a power cut leaves a database that is half one transaction, and no WAL to mend it."""
    waiting, copied, early = False, 0, []
    for number, step in enumerate(life.steps):
        if step.path == WAL and step.kind is Kind.WRITTEN:
            waiting = True
        elif step.path == WAL and step.kind is Kind.SYNCED:
            waiting = False
        elif step.path == DATABASE and step.kind is Kind.WRITTEN and WAL in created(life, number):
            copied += 1
            if waiting:
                early.append(number)
    assert copied > 0
    assert early == []


def test_wal_is_begun_anew_only_when_the_database_is_durable(life: Traced) -> None:
    waiting, begun_anew, early = False, 0, []
    for number, step in enumerate(life.steps):
        if step.path == DATABASE and step.kind in (Kind.WRITTEN, Kind.TRUNCATED):
            waiting = True
        elif step.path == DATABASE and step.kind is Kind.SYNCED:
            waiting = False
        elif step.path == WAL and (
            step.kind in (Kind.UNLINKED, Kind.TRUNCATED)
            or (step.kind is Kind.WRITTEN and step.offset == 0)
        ):
            begun_anew += 1
            if waiting:
                early.append(number)
    assert begun_anew > 2  # made, begun anew while serving, removed at the end
    assert early == []


def created(life: Traced, before: int) -> set[str]:
    return {step.path for step in life.steps[:before] if step.kind is Kind.CREATED}


# --- files beside the database


@pytest.mark.parametrize("name", ["bootstrap.json", "server-ca.pem", "master.key"])
def test_file_gets_its_name_when_it_is_whole_and_durable(life: Traced, name: str) -> None:
    path = f"data/{name}"
    touched = [step.kind for step in life.steps if step.path == path and step.kind != "b"]
    assert touched == [Kind.RENAMED]
    named = next(n for n, step in enumerate(life.steps) if step.path == path)
    temporary = life.steps[named].data.decode()
    before = [step.kind for step in life.steps[:named] if step.path == temporary]
    assert before == [Kind.CREATED, Kind.WRITTEN, Kind.SYNC_BEGUN, Kind.SYNCED]


@pytest.mark.parametrize("name", ["bootstrap.json", "server-ca.pem", "master.key"])
def test_name_of_a_file_is_durable_before_anybody_is_answered(life: Traced, name: str) -> None:
    named = next(n for n, step in enumerate(life.steps) if step.path == f"data/{name}")
    assert sync_of(life.steps, "data", named) < min(map(life.sent_at, life.answers))


def test_master_key_is_durable_before_anything_is_sealed_with_it(life: Traced) -> None:
    named = next(n for n, step in enumerate(life.steps) if step.path == "data/master.key")
    first, _ = next(commits(life.steps))
    assert sync_of(life.steps, "data", named) < first


def test_data_folder_is_durable_before_anybody_is_answered(life: Traced) -> None:
    made = next(n for n, step in enumerate(life.steps) if step.kind is Kind.FOLDER_MADE)
    assert sync_of(life.steps, "", made) < min(map(life.sent_at, life.answers))
