"""Reading and rotating the keys of shared access policies; both are in the audit log."""

from __future__ import annotations

from fleetroot.audit import Action, Actor
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.registry import service_resources, shared_access
from fleetroot.registry.service_resources import Owner
from fleetroot.registry.shared_access import SharedAccessPolicy, WhichKey
from fleetroot.storage import Store, Transaction


class AccessKeys:
    """The keys of hubs and provisioning services."""

    def __init__(self, store: Store, sealer: Sealer, clock: Clock) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock

    async def read_all(self, owner: Owner, *, by: Actor) -> list[SharedAccessPolicy]:
        """Every policy of a hub or provisioning service, with its keys."""
        now = self._clock.now()

        def unit(tx: Transaction) -> list[SharedAccessPolicy]:
            found = shared_access.all_(tx, self._sealer, owner.id)
            details = {"policies": [policy.name for policy in found]}
            service_resources.log(tx, Action.READ_KEYS, owner, by, now, details)
            return found

        return await self._store.write(unit)

    async def read(self, owner: Owner, name: str, *, by: Actor) -> SharedAccessPolicy:
        """One policy, with its keys.

        Raises:
            NotFound: there is none of that name.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> SharedAccessPolicy:
            found = shared_access.get(tx, self._sealer, owner.id, name)
            details = {"policies": [name]}
            service_resources.log(tx, Action.READ_KEYS, owner, by, now, details)
            return found

        return await self._store.write(unit)

    async def rotate(
        self, owner: Owner, name: str, which: WhichKey, *, by: Actor
    ) -> SharedAccessPolicy:
        """Draws one of a policy's keys anew; tokens that the old one signed are good no more.

        Raises:
            NotFound: there is none of that name.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> SharedAccessPolicy:
            rotated = shared_access.rotate(tx, self._sealer, owner.id, name, which)
            details = {"policy": name, "key": which.value}
            service_resources.log(tx, Action.ROTATE_KEY, owner, by, now, details)
            return rotated

        return await self._store.write(unit)
