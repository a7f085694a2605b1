"""Devices that speak to a hub without a session: each request over HTTPS proves who it is of, by
the very rules by which a connection is let in.
"""

from __future__ import annotations

from fleetroot.clock import Clock
from fleetroot.errors import Unauthorized, Unavailable
from fleetroot.hub import hubs
from fleetroot.hub.alerts import Alerts, NeverIssued
from fleetroot.hub.authentication import Authentication, CertificateExpired
from fleetroot.hub.model import Principal, Proof
from fleetroot.registry import inventory
from fleetroot.registry.outbox import OutboxReader
from fleetroot.storage import Store, Transaction


class DeviceAccess:
    """Says who a request is of."""

    def __init__(
        self,
        store: Store,
        authentication: Authentication,
        alerts: Alerts,
        outbox: OutboxReader,
        clock: Clock,
    ) -> None:
        self._store = store
        self._authentication = authentication
        self._alerts = alerts
        self._outbox = outbox
        self._clock = clock

    async def authenticate(
        self, host_name: str, device_id: str, proof: Proof | None, *, peer: str, trace_id: str
    ) -> Principal:
        """The device, on the hub of that host name.

        Raises:
            Unauthorized: it is not let in.
            Unavailable: the database cannot answer now.
        """
        if not self._outbox.has_lease:
            raise Unavailable("the hub cannot tell who was revoked", retry_after=5)
        now = self._clock.now()

        def authenticate(tx: Transaction) -> Principal:
            hub = hubs.by_host_name(tx, host_name)
            if hub is None:
                raise Unauthorized("no such hub")
            return self._authentication.authenticate(tx, hub, device_id, proof, now)

        try:
            return await self._store.read(authenticate)
        except CertificateExpired as expired:
            # Durable before the device hears it, so that it stays so whatever the clock does.
            fingerprint = expired.sha256
            await self._store.write(lambda tx: inventory.mark_one_expired(tx, fingerprint, now))
            raise
        except NeverIssued as refused:
            await self._alerts.certificate_unknown(refused.shown, peer, trace_id)
            raise
