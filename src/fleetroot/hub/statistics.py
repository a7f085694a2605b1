"""How many devices a hub has, and how many are connected.

Source: Azure IoT Hub service REST API, "Statistics".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, false, func, select

from fleetroot.hub.model import Hub
from fleetroot.storage import Query, Store
from fleetroot.storage.schema import devices, identities

# Devices; their modules are not counted.
_of_hub: Final = (identities.c.hub_id == bindparam("hub")) & identities.c.parent_key.is_(None)
_may_connect: Final = identities.c.enabled & func.coalesce(devices.c.enabled, false())
_BY_STATE: Final = Query(
    select(_may_connect, func.count())
    .select_from(
        identities.outerjoin(
            devices,
            (devices.c.namespace_id == bindparam("namespace"))
            & (devices.c.device_key == identities.c.device_key),
        )
    )
    .where(_of_hub)
    .group_by(_may_connect),
    lambda enabled, count: (bool(enabled), int(count)),
)
_CONNECTED: Final = Query(
    select(func.count()).select_from(identities).where(_of_hub & identities.c.connected), int
)


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """A hub's devices.

    Attributes:
        disabled: those that are disabled on the hub, or in the registry, or deleted there.
    """

    enabled: int
    disabled: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.enabled + self.disabled


class Statistics:
    """Counts what a hub has."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def devices(self, hub: Hub) -> DeviceCounts:
        """How many identities the hub has."""
        found = dict(
            await self._store.read(
                lambda tx: tx.all(_BY_STATE, hub=hub.id, namespace=hub.namespace_id)
            )
        )
        return DeviceCounts(found.get(True, 0), found.get(False, 0))

    async def connected(self, hub: Hub) -> int:
        """How many of its devices are connected now."""
        return await self._store.read(lambda tx: tx.first(_CONNECTED, hub=hub.id) or 0)
