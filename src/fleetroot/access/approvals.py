"""The second person: what one caller asks for and another must approve.

Which actions need it is a setting of the server, so nobody who calls can switch it off. The first
call of such an action is refused and leaves a request; when another caller has approved it, the
same caller's same call goes through, once. An approval is spent by the attempt, whatever comes of
it.

Two callers are two tokens, or two subjects of an issuer. That they are two people is for whoever
hands out tokens to see to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import bindparam, select, update

from fleetroot.audit import Actor
from fleetroot.errors import NotFound
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import approvals

LIFETIME: Final = timedelta(days=1)
_LISTED: Final = 1000


class Guarded(StrEnum):
    """What can be set to need a second person."""

    REVOKE_ISSUER = "revoke-issuer"
    DELETE_AUTHORITY = "delete-authority"
    REVOKE_INCIDENT = "revoke-incident"  # many certificates at a pace
    BACK_UP = "backup"


@dataclass(frozen=True, slots=True)
class Approval:
    """A request for approval, and what came of it.

    Attributes:
        action: a `Guarded`, or one of a newer program.
        subject: what it is to be done to, as in the audit log.
        requested_by: kind and name of the actor, `token/pipeline`.
    """

    id: str
    action: str
    subject: str
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    approved: bool | None
    used_at: datetime | None

    def status(self, now: datetime) -> str:
        """`used`, `rejected`, `expired`, `approved` or `pending`."""
        if self.used_at is not None:
            return "used"
        if self.approved is False:
            return "rejected"
        if now >= self.expires_at:
            return "expired"
        return "approved" if self.approved else "pending"


_INSERT: Final = Command(insert_into(approvals))
_GET: Final = Query(select(approvals).where(approvals.c.id == bindparam("key")), Approval)
_NEWEST: Final = Query(
    select(approvals).order_by(approvals.c.requested_at.desc()).limit(_LISTED), Approval
)
_OPEN: Final = Query(
    select(approvals)
    .where(
        (approvals.c.action == bindparam("of_action"))
        & (approvals.c.subject == bindparam("on_subject"))
        & (approvals.c.requested_by == bindparam("by"))
        & (approvals.c.used_at.is_(None))
        & (approvals.c.expires_at > bindparam("now"))
    )
    .order_by(approvals.c.requested_at.desc()),
    Approval,
)
_DECIDE: Final = Command(
    update(approvals)
    .where((approvals.c.id == bindparam("key")) & (approvals.c.decided_at.is_(None)))
    .values(
        decided_by=bindparam("by"), decided_at=bindparam("now"), approved=bindparam("is_approved")
    )
)
_USE: Final = Command(
    update(approvals)
    .where((approvals.c.id == bindparam("key")) & (approvals.c.used_at.is_(None)))
    .values(used_at=bindparam("now"))
)


def name_of(actor: Actor) -> str:
    """Who an actor is, where it is compared with another."""
    return f"{actor.kind.value}/{actor.name}"


def get(tx: Transaction, approval_id: str) -> Approval:
    """The approval of that id.

    Raises:
        NotFound: there is none.
    """
    approval = tx.first(_GET, key=approval_id)
    if approval is None:
        raise NotFound(f"there is no approval {approval_id}")
    return approval


def newest(tx: Transaction) -> list[Approval]:
    """The newest requests, newest first."""
    return tx.all(_NEWEST)


def open_ones(
    tx: Transaction, action: Guarded, subject: str, by: str, now: datetime
) -> list[Approval]:
    """The caller's requests for this that are neither used nor expired, newest first."""
    return tx.all(_OPEN, of_action=action.value, on_subject=subject, by=by, now=now)


def insert(tx: Transaction, approval: Approval) -> None:
    """Adds a request."""
    tx.run(
        _INSERT,
        id=approval.id,
        action=approval.action,
        subject=approval.subject,
        requested_by=approval.requested_by,
        requested_at=approval.requested_at,
        expires_at=approval.expires_at,
        decided_by=None,
        decided_at=None,
        approved=None,
        used_at=None,
    )


def decide(tx: Transaction, approval_id: str, by: str, approved: bool, now: datetime) -> bool:
    """Approves or rejects; False if somebody did already."""
    return tx.run(_DECIDE, key=approval_id, by=by, is_approved=approved, now=now) == 1


def use(tx: Transaction, approval_id: str, now: datetime) -> bool:
    """Spends an approval; False if it was spent already."""
    return tx.run(_USE, key=approval_id, now=now) == 1
