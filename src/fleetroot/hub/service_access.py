"""Who may ask about a hub over its service API: who has a token of its shared access policies."""

from __future__ import annotations

from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import NotFound
from fleetroot.hub import hubs
from fleetroot.hub.model import Hub
from fleetroot.registry import shared_access
from fleetroot.registry.shared_access import Right
from fleetroot.sas import SasToken
from fleetroot.storage import Store


class ServiceAccess:
    """Finds the hub that a service speaks to, and judges its token."""

    def __init__(self, store: Store, sealer: Sealer, clock: Clock) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock

    async def addressed(self, host_name: str) -> Hub:
        """The hub of that host name; the oldest, where none has it.

        Raises:
            NotFound: there is none at all.
        """
        found = await self._store.read(
            lambda tx: hubs.by_host_name(tx, host_name) or hubs.oldest(tx)
        )
        if found is None:
            raise NotFound("there is no hub")
        return found

    async def authorize(self, hub: Hub, token: SasToken, right: Right) -> None:
        """Checks that a caller's token carries `right` on the hub.

        Raises:
            TokenInvalid: the token is not good for this hub.
            Forbidden: it does not carry the right.
        """
        policy = await self._store.read(
            lambda tx: shared_access.find(tx, self._sealer, hub.id, token.key_name or "")
        )
        shared_access.authorize(
            policy, token, resource=hub.host_name, right=right, now=self._clock.now()
        )
