"""Which devices have to renew soon: certificates that end within a time and were not replaced yet.

What was revoked, itself or with its CA, and what is over, is not among them, nor is a certificate
whose device has a newer one that counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Select, bindparam, exists, func, or_, select, type_coerce

from fleetroot.errors import InvalidArgument
from fleetroot.registry import inventory
from fleetroot.registry.model import Certificate
from fleetroot.storage import Query, Transaction
from fleetroot.storage.schema import authorities, certificates, policies

_DAY: Final = 86_400_000_000  # microseconds, which is what times are kept in
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ANY_POLICY: Final = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Behind which certificate a page begins."""

    not_after: datetime
    id: int

    @classmethod
    def parse(cls, text: str) -> Place:
        """What `str` made.

        Raises:
            InvalidArgument: it did not make it.
        """
        try:
            ends, id_ = (int(part) for part in text.split(".", 1))
            if not (0 <= ends < 1 << 53 and 0 <= id_ < 1 << 63):
                raise ValueError
            return cls(_EPOCH + timedelta(microseconds=ends), id_)
        except (ValueError, OverflowError):
            raise InvalidArgument("after: not the next of a page") from None

    def __str__(self) -> str:
        return f"{(self.not_after - _EPOCH) // timedelta(microseconds=1)}.{self.id}"


@dataclass(frozen=True, slots=True)
class DayCount:
    """How many certificates of a policy end on a day, UTC."""

    policy: str
    day: date
    certificates: int


def _day_count(policy: str, day: int, count: int) -> DayCount:
    return DayCount(policy, (_EPOCH + timedelta(days=day)).date(), count)


_newer: Final = certificates.alias("newer")


def _that_end(statement: Select[Any]) -> Select[Any]:
    """Of those that `ix_certificates_alive` has in the time; the index that begins with the
    namespace would give nearly all.
    """
    return (
        statement.where(certificates.c.expired_at.is_(None))
        .where(certificates.c.not_after >= bindparam("now"))
        .where(certificates.c.not_after <= bindparam("until"))
        .where(certificates.c.namespace_id.concat("") == bindparam("namespace"))
        .where(certificates.c.revoked_at.is_(None))
        .where(authorities.c.revoked_at.is_(None))
        .where(
            or_(
                bindparam("policy") == _ANY_POLICY,
                certificates.c.policy_id == bindparam("policy"),
            )
        )
        .where(
            ~exists()
            .where(_newer.c.namespace_id == certificates.c.namespace_id)
            .where(_newer.c.device_key == certificates.c.device_key)
            .where(_newer.c.id > certificates.c.id)
            .where(_newer.c.revoked_at.is_(None))
        )
    )


_PAGE: Final = Query(
    _that_end(inventory.found)
    .where(certificates.c.not_after >= bindparam("after"))
    .where(
        or_(
            certificates.c.not_after > bindparam("after"),
            certificates.c.id > bindparam("after_id"),
        )
    )
    .order_by(certificates.c.not_after, certificates.c.id)
    .limit(bindparam("limit")),
    inventory.row,
)
_ends: Final = _that_end(
    select(
        policies.c.name,
        (type_coerce(certificates.c.not_after, BigInteger) // _DAY).label("day"),
    ).select_from(
        certificates.join(authorities, authorities.c.id == certificates.c.authority_id).join(
            policies, policies.c.id == certificates.c.policy_id
        )
    )
).subquery()  # the day is bound once: PostgreSQL groups by no second parameter of the same value
_COUNTS: Final = Query(
    select(_ends.c.name, _ends.c.day, func.count())
    .group_by(_ends.c.name, _ends.c.day)
    .order_by(_ends.c.day, _ends.c.name),
    _day_count,
)


@dataclass(frozen=True, slots=True)
class Expiring:
    """Which certificates are meant.

    Attributes:
        policy_id: only of this policy; None: of all.
    """

    namespace_id: str
    now: datetime
    until: datetime
    policy_id: str | None = None

    def page(self, tx: Transaction, after: Place | None, limit: int) -> list[Certificate]:
        """Up to `limit` of them behind a place, those that end first before the others."""
        place = after or Place(_EPOCH, 0)
        return tx.all(_PAGE, **self._bounds, after=place.not_after, after_id=place.id, limit=limit)

    def counts(self, tx: Transaction) -> list[DayCount]:
        """How many there are, by day and policy."""
        return tx.all(_COUNTS, **self._bounds)

    @property
    def _bounds(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace_id,
            "now": self.now,
            "until": self.until,
            "policy": self.policy_id or _ANY_POLICY,
        }
