"""Imports: many enrollments in one unit of work, each of them refused or taken by itself.

What can be judged and sealed before the unit of work is; a row that somebody else changed meanwhile
is refused in it. Each row that is taken has its entry in the audit log, as if it had come alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hmac import compare_digest
from typing import Final, TypeAlias

from fleetroot import audit
from fleetroot.audit import Action, Actor
from fleetroot.clock import Clock
from fleetroot.errors import (
    AlreadyExists,
    Conflict,
    EnrollmentNotFound,
    EtagMismatch,
    FleetrootError,
    InvalidArgument,
)
from fleetroot.ids import canonical, check_registration_id
from fleetroot.provisioning import enrollments
from fleetroot.provisioning.bulk import WantedEnrollment
from fleetroot.provisioning.enrollment_changes import (
    EnrollmentChanges,
    check_references,
    entry,
    remove,
)
from fleetroot.provisioning.model import Enrollment, EnrollmentKind, Service
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated

MAX_ROWS: Final = 1000  # of one import: what a unit of work holds up others for


class Mode(StrEnum):
    """What an import does; all but the last are the bulk modes of the service API."""

    CREATE = "create"
    UPDATE = "update"
    UPDATE_IF_MATCH = "updateIfMatchETag"
    DELETE = "delete"
    CREATE_OR_UPDATE = "createOrUpdate"


class Done(StrEnum):
    """What became of a row that was not refused."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Row:
    """An enrollment as it is to be; None: it is to go."""

    id: str
    wanted: WantedEnrollment | None


@dataclass(frozen=True, slots=True)
class How:
    """How rows are imported.

    Attributes:
        skip_existing: a row that is there as it is wanted is left as it is, and not refused.
        dry_run: nothing is written.
    """

    mode: Mode = Mode.CREATE
    skip_existing: bool = False
    dry_run: bool = False


Outcome: TypeAlias = Done | FleetrootError


@dataclass(frozen=True, slots=True)
class _Change:
    """A row that is to be written.

    Attributes:
        subject: the enrollment as it is to be, or as it was before it is deleted.
        before: as it was read; None: it was not there.
    """

    row: int
    subject: Enrollment
    before: Enrollment | None


@dataclass(frozen=True, slots=True)
class Imports:
    """Writes many enrollments of a provisioning service."""

    _store: Store
    _changes: EnrollmentChanges
    _clock: Clock

    async def run(
        self,
        service: Service,
        kind: EnrollmentKind,
        rows: Sequence[Row],
        how: How,
        *,
        by: Actor,
    ) -> list[Outcome]:
        """What became of each of up to `MAX_ROWS` rows, in their order.

        Raises:
            Conflict: the service was deleted meanwhile, or a policy that a row names. Nothing was
                written.
            Unavailable: the database cannot answer now.
        """
        if len(rows) > MAX_ROWS:
            raise InvalidArgument(f"an import has at most {MAX_ROWS} rows")
        checked = await asyncio.to_thread(self._check, kind, rows)
        keys = [canonical(row.id) for row, error in zip(rows, checked, strict=True) if not error]
        there = await self._store.read(lambda tx: enrollments.find_many(tx, service.id, kind, keys))
        outcomes, changes = await asyncio.to_thread(
            self._plan, service, kind, rows, checked, there, how
        )
        if how.dry_run or not changes:
            return outcomes
        now = self._clock.now()
        deletes = how.mode is Mode.DELETE
        action = Action.DELETE_ENROLLMENT if deletes else Action.PUT_ENROLLMENT
        write = remove if deletes else enrollments.save_many

        def unit(tx: Transaction) -> list[Outcome]:
            etags = enrollments.etags(tx, service.id, kind, keys)
            found, taken = list(outcomes), list[_Change]()
            for change in changes:
                try:
                    _check_still(tx, service, change, etags)
                except FleetrootError as error:
                    found[change.row] = error
                else:
                    taken.append(change)
            write(tx, [change.subject for change in taken])
            audit.append_many(tx, [entry(action, service, each.subject, by, now) for each in taken])
            return found

        try:
            return await self._store.write(unit)
        except ConstraintViolated as error:
            raise Conflict("the service or a policy of an enrollment is gone") from error

    def _check(self, kind: EnrollmentKind, rows: Sequence[Row]) -> list[FleetrootError | None]:
        """Why each row is refused, whatever is there."""
        seen: set[str] = set()
        found: list[FleetrootError | None] = []
        for row in rows:
            error: FleetrootError | None = None
            try:
                check_registration_id(row.id)
                if row.wanted is not None:
                    self._changes.check(kind, row.id, row.wanted.settings)
            except FleetrootError as refused:
                error = refused
            key = canonical(row.id)
            if error is None and key in seen:
                error = InvalidArgument("another row before it has this id")
            seen.add(key)
            found.append(error)
        return found

    def _plan(
        self,
        service: Service,
        kind: EnrollmentKind,
        rows: Sequence[Row],
        checked: Sequence[FleetrootError | None],
        there: dict[str, Enrollment],
        how: How,
    ) -> tuple[list[Outcome], list[_Change]]:
        """What becomes of each row if nobody else writes, and what is to be written for it."""
        outcomes: list[Outcome] = []
        changes: list[_Change] = []
        for number, (row, error) in enumerate(zip(rows, checked, strict=True)):
            before = there.get(canonical(row.id))
            outcome: Outcome = error or self._outcome(row, before, how)
            outcomes.append(outcome)
            if how.dry_run or not isinstance(outcome, Done) or outcome is Done.UNCHANGED:
                continue
            if row.wanted is not None:
                made, _ = self._changes.draft(service, kind, row.id, row.wanted, before)
                changes.append(_Change(number, made, before))
            elif before is not None:
                changes.append(_Change(number, before, before))
        return outcomes, changes

    def _outcome(self, row: Row, before: Enrollment | None, how: How) -> Outcome:
        wanted = row.wanted
        if wanted is None:
            return Done.DELETED if before else _missing(how)
        if before is None:
            if how.mode in (Mode.UPDATE, Mode.UPDATE_IF_MATCH):
                return EnrollmentNotFound("Enrollment not found")
            return Done.CREATED
        if how.skip_existing and self._is_as_wanted(before, wanted):
            return Done.UNCHANGED
        match how.mode:
            case Mode.CREATE if how.skip_existing:
                return AlreadyExists("an enrollment of that id exists and is another")
            case Mode.CREATE:
                return AlreadyExists("an enrollment of that id exists")
            case Mode.UPDATE_IF_MATCH if wanted.etag != before.etag:
                return EtagMismatch("the enrollment is of another version")
        return Done.UPDATED

    def _is_as_wanted(self, before: Enrollment, wanted: WantedEnrollment) -> bool:
        there, settings = before.settings, wanted.settings
        if settings.tpm is not None and there.tpm is not None and settings.tpm.storage_root is None:
            # What the device told is kept, as keys are.
            told = replace(settings.tpm, storage_root=there.tpm.storage_root)
            settings = replace(settings, tpm=told)
        if there != settings:
            return False
        keys = self._changes.keys_of(before)
        return keys is None or all(
            given is None or compare_digest(given, kept)
            for given, kept in (
                (wanted.primary_key, keys.primary),
                (wanted.secondary_key, keys.secondary),
            )
        )


def _missing(how: How) -> Outcome:
    """Of a row that is to be deleted and is not there."""
    return Done.UNCHANGED if how.skip_existing else EnrollmentNotFound("Enrollment not found")


def _check_still(
    tx: Transaction, service: Service, change: _Change, etags: Mapping[str, str]
) -> None:
    """Raises:
    EtagMismatch: the enrollment is not as it was read any more.
    Conflict: what it names is gone.
    """
    before = change.before.etag if change.before else None
    if etags.get(canonical(change.subject.id)) != before:
        raise EtagMismatch("the enrollment was changed by somebody else just now")
    if change.subject is not change.before:
        check_references(tx, service, change.subject.kind, change.subject.settings)
