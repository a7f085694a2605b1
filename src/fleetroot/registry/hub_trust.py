"""What the registry needs of hubs when CAs follow each other or end.

These are parts of units of work: a CA is trusted by the commit that lets it sign, and not trusted
any more by the commit that revokes it. Hubs implement it; the composition root brings it here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from fleetroot.storage import Transaction


class HubTrust(Protocol):
    """Which issuing CAs the hubs trust."""

    def succeed(self, tx: Transaction, before: str, after: str, now: datetime) -> None:
        """Every hub that trusts the CA `before` trusts the CA `after`, too."""
        ...

    def trust(self, tx: Transaction, namespace_id: str, authority_id: str, now: datetime) -> None:
        """Every hub of the namespace trusts the CA."""
        ...

    def distrust(self, tx: Transaction, authority_id: str) -> None:
        """No hub trusts the CA any more; the caller tells it through the outbox."""
        ...
