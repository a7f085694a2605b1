"""What a hub trusts, for people: its issuing CAs and the policies that they sign for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select

from fleetroot.storage import Query, Transaction
from fleetroot.storage.schema import authorities, hub_authorities, policies


@dataclass(frozen=True, slots=True)
class TrustedAuthority:
    """An issuing CA that was synchronized to a hub.

    Attributes:
        policy: the name of the policy whose leaves it signs, or signed; None: that is gone.
    """

    id: str
    policy: str | None
    not_after: datetime
    synchronized_at: datetime


_OF_HUB: Final = Query(
    select(
        authorities.c.id,
        policies.c.name,
        authorities.c.not_after,
        hub_authorities.c.synchronized_at,
    )
    .select_from(
        hub_authorities.join(
            authorities, authorities.c.id == hub_authorities.c.authority_id
        ).outerjoin(policies, policies.c.id == authorities.c.policy_id)
    )
    .where(hub_authorities.c.hub_id == bindparam("hub"))
    .order_by(authorities.c.created_at, authorities.c.id),
    TrustedAuthority,
)


def of_hub(tx: Transaction, hub_id: str) -> list[TrustedAuthority]:
    """The issuing CAs that the hub trusts, oldest first."""
    return tx.all(_OF_HUB, hub=hub_id)
