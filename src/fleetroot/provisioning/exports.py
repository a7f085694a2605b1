"""Enrollments as they are listed and taken away: pages in the order of their ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.ids import canonical
from fleetroot.provisioning import enrollments
from fleetroot.provisioning.enrollment_changes import EnrollmentChanges
from fleetroot.provisioning.model import Enrollment, EnrollmentKind, Service
from fleetroot.registry.assignment import SymmetricKeys
from fleetroot.storage import Store

_PAGE: Final = 1000
Exported: TypeAlias = tuple[Enrollment, SymmetricKeys | None]


@dataclass(frozen=True, slots=True)
class Exports:
    """Reads many enrollments of a provisioning service."""

    _store: Store
    _changes: EnrollmentChanges
    _clock: Clock

    async def note_keys(self, service: Service, kind: EnrollmentKind, *, by: Actor) -> None:
        """Adds to the audit log that somebody takes away the keys of all enrollments of a kind."""
        entry = Entry(
            self._clock.now(),
            by,
            Action.READ_KEYS,
            f"provisioning-service/{service.name}",
            service.namespace_id,
            details={"enrollments": kind.value},
        )
        await self._store.write(lambda tx: audit.append(tx, entry))

    async def pages(
        self, service: Service, kind: EnrollmentKind, *, with_keys: bool
    ) -> AsyncIterator[list[Exported]]:
        """All enrollments of a kind, some at a time; each page is as it was when it was read."""
        after = ""
        while page := await self._store.read(
            lambda tx, after=after: enrollments.page(  # type: ignore[misc]
                tx, service.id, kind, after=after, limit=_PAGE
            )
        ):
            if with_keys:
                yield await asyncio.to_thread(self._opened, page)
            else:
                yield [(each, None) for each in page]
            after = canonical(page[-1].id)

    def _opened(self, page: list[Enrollment]) -> list[Exported]:
        return [(each, self._changes.keys_of(each)) for each in page]
