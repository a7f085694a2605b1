"""What a hub needs of provisioning when it goes, or goes to another namespace.

These are parts of the hub's unit of work. Provisioning implements them; the composition root brings
them here.
"""

from __future__ import annotations

from typing import Protocol

from fleetroot.storage import Transaction


class HubReferences(Protocol):
    """Who refers to a hub."""

    def linked_by(self, tx: Transaction, hub_id: str) -> list[str]:
        """The names of the provisioning services that may assign devices to the hub."""
        ...

    def forget(self, tx: Transaction, hub_id: str) -> None:
        """Forgets the registrations that led to the hub: their devices are to register again."""
        ...
