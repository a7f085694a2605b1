"""Revoking many certificates at a set pace.

A job is a scope, a pace and a place in the order of issuance. Each of its units of work revokes
some certificates, tells of their devices through the outbox, puts each into the audit log, and
moves the place: a server that stops goes on where it was. A job means what was in the inventory
when it was made, so that a device which provisions again meanwhile keeps its new certificate.

A certificate that is revoked by itself is told of as one that is revoked with its device: it lets
nobody in any more, live connections by it end, lists and OCSP answers have it. Its device stays as
it is, and may provision again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import uuid4

import structlog
from sqlalchemy import bindparam, func, select, update

from fleetroot import audit
from fleetroot.audit import SYSTEM, Action, Actor, ActorKind, Entry
from fleetroot.bus import OUTBOX, Bus
from fleetroot.clock import Clock
from fleetroot.errors import Conflict, InvalidArgument, NotFound
from fleetroot.registry import authorities, incidents, inventory, outbox
from fleetroot.registry.incidents import Brief, Cursor, Scope
from fleetroot.registry.inventory import RevocationReason
from fleetroot.registry.model import Certificate, Namespace
from fleetroot.storage import Command, Query, Store, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import revocation_jobs

MAX_PACE: Final = 5000  # certificates a second
MAX_RUNNING: Final = 16
MAX_PAGE: Final = 1000
_AT_ONCE: Final = 250  # certificates, so that no unit of work holds up the others for long
_COUNT_AT_ONCE: Final = 1000
_SHOWN: Final = 100
_table: Final = revocation_jobs
_log = structlog.get_logger("fleetroot.incidents")


class State(StrEnum):
    """Where a job stands."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A revocation at a pace.

    Attributes:
        last_id: the newest certificate of the inventory when it was made.
        pace: certificates a second, at most.
        found: how many there were to revoke when it was made.
        revoked: how many it has revoked.
        cursor: what was issued up to here has been looked at.
        by: who asked for it.
    """

    id: str
    scope: Scope
    last_id: int
    reason: RevocationReason
    pace: int
    found: int
    revoked: int
    state: State
    cursor: Cursor
    by: Actor
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a scope has: all of it, what is still good (or will be), and the rest by why."""

    certificates: int
    alive: int
    revoked: int
    expired: int


def _row(
    id_: str,
    namespace_id: str,
    scope: str,
    last_id: int,
    reason: str,
    pace: int,
    found: int,
    revoked: int,
    state: str,
    cursor_at: datetime,
    cursor_id: int,
    actor_kind: str,
    actor: str,
    peer: str | None,
    trace_id: str | None,
    created_at: datetime,
    ended_at: datetime | None,
) -> Job:
    return Job(
        id_,
        Scope.of_json(namespace_id, scope),
        last_id,
        RevocationReason(reason),
        pace,
        found,
        revoked,
        State(state),
        Cursor(cursor_at, cursor_id),
        Actor(ActorKind(actor_kind), actor, peer, trace_id),
        created_at,
        ended_at,
    )


_INSERT: Final = Command(insert_into(_table))
_GET: Final = Query(
    select(_table).where(
        (_table.c.namespace_id == bindparam("namespace")) & (_table.c.id == bindparam("job"))
    ),
    _row,
)
_NEWEST: Final = Query(
    select(_table)
    .where(_table.c.namespace_id == bindparam("namespace"))
    .order_by(_table.c.created_at.desc(), _table.c.id)
    .limit(_SHOWN),
    _row,
)
_is_running: Final = _table.c.state == State.RUNNING.value
_RUNNING: Final = Query(
    select(_table).where(_is_running).order_by(_table.c.created_at, _table.c.id), _row
)
_COUNT_RUNNING: Final = Query(select(func.count()).select_from(_table).where(_is_running), int)
_MOVE: Final = Command(
    update(_table)
    .where((_table.c.id == bindparam("job")) & _is_running)
    .values(
        revoked=_table.c.revoked + bindparam("more"),
        cursor_at=bindparam("at"),
        cursor_id=bindparam("of_id"),
        state=bindparam("new_state"),
        ended_at=bindparam("end"),
    )
)
_CANCEL: Final = Command(
    update(_table)
    .where((_table.c.id == bindparam("job")) & _is_running)
    .values(state=State.CANCELLED.value, ended_at=bindparam("now"))
)


class RevocationJobs:
    """Looks into incidents, and revokes what came of them."""

    def __init__(self, store: Store, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._may_run = True  # whether there may be a job that runs

    # --- looking

    async def page(
        self, scope: Scope, after: Cursor | None = None, *, limit: int = 100
    ) -> tuple[list[Certificate], Cursor | None]:
        """Up to `limit` certificates of the scope, in the order in which they were issued, and
        where the next are; None: there are none.

        Raises:
            NotFound: there is no such CA.
            InvalidArgument: the scope says too little, or too much.
        """
        scope.check()
        at = after or incidents.beginning(scope)
        most = min(limit, MAX_PAGE)

        def read(tx: Transaction) -> tuple[list[Certificate], Cursor | None]:
            _check_authority(tx, scope)
            return incidents.page(tx, scope, at, limit=most)

        return await self._store.read(read)

    async def pages(self, scope: Scope) -> AsyncIterator[list[Certificate]]:
        """Every certificate of the scope, some at a time.

        Raises:
            As `page`.
        """
        at: Cursor | None = None
        while True:
            found, at = await self.page(scope, at, limit=_COUNT_AT_ONCE)
            yield found
            if at is None:
                return
            await asyncio.sleep(0)  # reading alone lets nobody else come between

    async def summary(self, scope: Scope) -> Summary:
        """How many certificates the scope has, and how many there are to revoke.

        Raises:
            As `page`.
        """
        scope.check()
        await self._store.read(lambda tx: _check_authority(tx, scope))
        now, at = self._clock.now(), incidents.beginning(scope)
        total = alive = revoked = 0
        while found := await self._store.read(
            lambda tx, at=at: incidents.briefs(tx, scope, at, limit=_COUNT_AT_ONCE)  # type: ignore[misc]
        ):
            total += len(found)
            alive += sum(each.is_alive(now) for each in found)
            revoked += sum(each.revoked_at is not None for each in found)
            at = Cursor(found[-1].issued_at, found[-1].id)
            await asyncio.sleep(0)
        return Summary(total, alive, revoked, total - alive - revoked)

    # --- jobs

    async def start(
        self,
        scope: Scope,
        *,
        pace: int,
        reason: RevocationReason = RevocationReason.UNSPECIFIED,
        by: Actor,
    ) -> Job:
        """Begins to revoke what the scope has now and is still good, `pace` certificates a second.

        Raises:
            NotFound: there is no such CA.
            InvalidArgument: the scope says too little or too much; or the pace is none.
            Conflict: too many jobs are running.
        """
        if not 1 <= pace <= MAX_PACE:
            raise InvalidArgument(f"pace: 1 to {MAX_PACE} certificates a second")
        found = await self.summary(scope)
        now, job_id = self._clock.now(), str(uuid4())
        at = incidents.beginning(scope)

        def unit(tx: Transaction) -> Job:
            if (tx.first(_COUNT_RUNNING) or 0) >= MAX_RUNNING:
                raise Conflict(f"{MAX_RUNNING} revocations are running")
            tx.run(
                _INSERT,
                id=job_id,
                namespace_id=scope.namespace_id,
                scope=scope.to_json(),
                last_id=inventory.last_id(tx),
                reason=reason.value,
                pace=pace,
                found=found.alive,
                revoked=0,
                state=State.RUNNING.value,
                cursor_at=at.issued_at,
                cursor_id=at.id,
                actor_kind=by.kind.value,
                actor=by.name,
                peer=by.peer,
                trace_id=by.trace_id,
                created_at=now,
                ended_at=None,
            )
            made = _get(tx, scope.namespace_id, job_id)
            _note(tx, made, Action.START_REVOCATION, by, now, pace=pace, found=found.alive)
            return made

        job = await self._store.write(unit)
        self._may_run = True
        return job

    async def all(self, namespace: Namespace) -> list[Job]:
        """The newest jobs, newest first."""
        return await self._store.read(lambda tx: tx.all(_NEWEST, namespace=namespace.id))

    async def get(self, namespace: Namespace, job_id: str) -> Job:
        """The job of that id.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda tx: _get(tx, namespace.id, job_id))

    async def cancel(self, namespace: Namespace, job_id: str, *, by: Actor) -> Job:
        """Ends a job; what it has revoked stays revoked. One that is over stays as it is.

        Raises:
            NotFound: there is none of that id.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> Job:
            job = _get(tx, namespace.id, job_id)
            if tx.run(_CANCEL, job=job_id, now=now):
                _note(tx, job, Action.CANCEL_REVOCATION, by, now, revoked=job.revoked)
            return _get(tx, namespace.id, job_id)

        return await self._store.write(unit)

    async def work(self) -> None:
        """Revokes what every job that runs may revoke in a second. Called once a second or less
        often, it keeps their paces.

        Raises:
            Unavailable: the database cannot answer now; the next call goes on.
        """
        if not self._may_run:
            return
        self._may_run = False  # and true again, where one is started while these are looked at
        running = await self._store.read(lambda tx: tx.all(_RUNNING))
        self._may_run = self._may_run or bool(running)
        for job in running:
            left = job.pace
            while left > 0:
                revoked, goes_on = await self._store.write(
                    lambda tx, job=job, left=left: self._step(tx, job, left)  # type: ignore[misc]
                )
                self._bus.hint(OUTBOX)
                left -= revoked
                if not goes_on:
                    _log.warning("revocation is over", job=job.id)
                    break

    def _step(self, tx: Transaction, job: Job, most: int) -> tuple[int, bool]:
        """Revokes up to `most` certificates; how many, and whether the job goes on."""
        now = self._clock.now()
        job = _get(tx, job.scope.namespace_id, job.id)
        if job.state is not State.RUNNING:
            return 0, False
        found = incidents.briefs(tx, job.scope, job.cursor, last_id=job.last_id, limit=_AT_ONCE)
        is_last, looked_at, chosen = len(found) < _AT_ONCE, job.cursor, list[Brief]()
        for each in found:
            if each.is_alive(now):
                if len(chosen) == most:
                    is_last = False
                    break
                chosen.append(each)
            looked_at = Cursor(each.issued_at, each.id)
        inventory.revoke(tx, [each.id for each in chosen], job.reason, now)
        for device_key in dict.fromkeys(each.device_key for each in chosen):
            outbox.append(
                tx,
                outbox.Kind.DEVICE_REVOKED,
                namespace_id=job.scope.namespace_id,
                subject=device_key,
                now=now,
            )
        audit.append_many(tx, [_entry(job, each, now) for each in chosen])
        tx.run(
            _MOVE,
            job=job.id,
            more=len(chosen),
            at=looked_at.issued_at,
            of_id=looked_at.id,
            new_state=(State.DONE if is_last else State.RUNNING).value,
            end=now if is_last else None,
        )
        if is_last:
            revoked = job.revoked + len(chosen)
            _note(tx, job, Action.FINISH_REVOCATION, SYSTEM, now, revoked=revoked)
        return len(chosen), not is_last


def _get(tx: Transaction, namespace_id: str, job_id: str) -> Job:
    job = tx.first(_GET, namespace=namespace_id, job=job_id)
    if job is None:
        raise NotFound("there is no such revocation")
    return job


def _check_authority(tx: Transaction, scope: Scope) -> None:
    """Raises:
    NotFound: the scope names a CA that is none of its namespace.
    """
    if scope.authority_id is None:
        return
    if authorities.get(tx, scope.authority_id).namespace_id != scope.namespace_id:
        raise NotFound(f"there is no certificate authority {scope.authority_id}")


def _entry(job: Job, revoked: Brief, now: datetime) -> Entry:
    return Entry(
        now,
        job.by,
        Action.REVOKE_CERTIFICATE,
        f"device/{revoked.device_id}",
        job.scope.namespace_id,
        details={
            "serialNumber": revoked.serial,
            "sha256": revoked.sha256.hex(),
            "issuingAuthority": revoked.authority_id,
            "reason": job.reason.value,
            "revocation": job.id,
        },
    )


def _note(
    tx: Transaction, job: Job, action: Action, by: Actor, now: datetime, **details: object
) -> None:
    audit.append(
        tx,
        Entry(now, by, action, f"revocation/{job.id}", job.scope.namespace_id, details=details),
    )
