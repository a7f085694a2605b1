"""Alerts: a certificate was shown that one of our CAs signed, and that the inventory does not have.

Nobody issued it here, so somebody else can use the key of that CA; or the inventory lost it. Either
is for people to hear of at once: by a line of the log, a metric, an event of the outbox and an
entry of the audit log. Who has the key can show any number of such certificates, so of a flood the
first get all of these and the rest are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from fleetroot import audit
from fleetroot.audit import Action, Actor, ActorKind, Entry, Outcome
from fleetroot.clock import Clock
from fleetroot.errors import Unauthorized
from fleetroot.hub.model import Hub
from fleetroot.ids import canonical
from fleetroot.pace import Pace
from fleetroot.registry import outbox
from fleetroot.storage import Store, Transaction

CERTIFICATE_NOT_IN_INVENTORY: Final = "certificateNotInInventory"
_BURST: Final = 100  # alerts at once
_EVERY: Final = timedelta(minutes=1)  # and one as often, on the long run
_log = structlog.get_logger("fleetroot.alert")


@dataclass(frozen=True, slots=True)
class UnknownCertificate:
    """A certificate as it was shown.

    Attributes:
        device_id: who it was shown for; nothing about it need be true.
        authority_id: the CA whose key signed it.
        sha256, serial: hexadecimal.
    """

    hub: Hub
    device_id: str
    authority_id: str
    sha256: str
    serial: str


class NeverIssued(Unauthorized):
    """A certificate was shown that nobody issued here."""

    def __init__(self, reason: str, shown: UnknownCertificate) -> None:
        super().__init__(reason)
        self.shown = shown


class Alerts:
    """Raises alerts, at a pace."""

    def __init__(self, store: Store, clock: Clock, count: Callable[[str], None]) -> None:
        """`count` is told the kind of each, those that get nothing else among them."""
        self._store = store
        self._clock = clock
        self._count = count
        self._pace: Pace[None] = Pace(1 / _EVERY.total_seconds(), _BURST, clock.monotonic)
        self._left_out = 0  # since the last that was told

    async def certificate_unknown(
        self, shown: UnknownCertificate, peer: str, trace_id: str
    ) -> None:
        """Raises the alert for a certificate that is not in the inventory.

        Raises:
            Unavailable: the database cannot answer now.
        """
        self._count(CERTIFICATE_NOT_IN_INVENTORY)
        if not self._pace.take(None):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        now, hub = self._clock.now(), shown.hub
        details: dict[str, object] = {
            "hub": hub.name,
            "issuingAuthority": shown.authority_id,
            "serialNumber": shown.serial,
            "sha256": shown.sha256,
        }
        if left_out:
            details["notToldBefore"] = left_out
        _log.critical(
            "possible CA theft: a certificate of ours that we never issued",
            alert=CERTIFICATE_NOT_IN_INVENTORY,
            hub=hub.name,
            device_id=shown.device_id,
            issuing_authority=shown.authority_id,
            sha256=shown.sha256,
            peer=peer,
            trace_id=trace_id,
            left_out=left_out,
        )
        entry = Entry(
            now,
            Actor(ActorKind.UNKNOWN, "", peer, trace_id),
            Action.ALERT_CERTIFICATE,
            f"device/{shown.device_id}",
            hub.namespace_id,
            Outcome.REFUSED,
            "certificate not in the inventory",
            details,
        )

        def unit(tx: Transaction) -> None:
            audit.append(tx, entry)
            outbox.append(
                tx,
                outbox.Kind.CERTIFICATE_UNKNOWN,
                namespace_id=hub.namespace_id,
                subject=canonical(shown.device_id),
                now=now,
            )

        await self._store.write(unit)
