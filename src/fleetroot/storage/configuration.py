"""The version of the configuration: whether what is kept in memory is still so.

Provisioning services, hubs, policies, authorities, enrollment groups, uploaded CAs and lists of
other CAs change rarely, and every registration asks for them. Whoever keeps them in memory keeps
the version with them that the same snapshot had, and compares it in the unit of work that acts on
them. Triggers change the version (migrations 0002 and 0011), so no writer can forget to.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select

from fleetroot.storage.prepared import Query
from fleetroot.storage.schema import configuration
from fleetroot.storage.unit import Transaction

_GET: Final = Query(select(configuration.c.version), bytes)


def version(tx: Transaction) -> bytes:
    """What the version is in this snapshot."""
    found = tx.first(_GET)
    assert found is not None  # noqa: S101 - a migration put it there
    return found
