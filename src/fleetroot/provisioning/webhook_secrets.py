"""What a provisioning service signs its calls of webhooks with: two secrets, sealed.

A call carries a signature by each, so that either can be drawn anew while the receivers know the
other. They are drawn when they are first needed.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final

from sqlalchemy import bindparam, delete, select

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.custody import RecordName, Sealer
from fleetroot.provisioning.model import Service
from fleetroot.registry.shared_access import WhichKey
from fleetroot.storage import Command, Query, Store, Transaction
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import webhook_secrets

SIGNATURE_HEADER: Final = "fleetroot-signature"
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class WebhookSecrets:
    """The secrets of one service, raw."""

    primary: bytes = field(repr=False)
    secondary: bytes = field(repr=False)

    def signature(self, body: bytes, now: datetime) -> str:
        """The header's value: `t`, the time in Unix seconds, and two `v1`, each the HMAC-SHA256 of
        the time in decimal, a full stop and the body, in hexadecimal.
        """
        time = str(int(now.timestamp()))
        signed = time.encode() + b"." + body
        macs = (hmac.new(key, signed, sha256) for key in (self.primary, self.secondary))
        return ",".join((f"t={time}", *(f"v1={mac.hexdigest()}" for mac in macs)))


_SAVE: Final = Command(upsert_into(webhook_secrets))
_of_service: Final = webhook_secrets.c.service_id == bindparam("service")
_GET: Final = Query(
    select(webhook_secrets.c.sealed_primary, webhook_secrets.c.sealed_secondary).where(_of_service),
    lambda primary, secondary: (primary, secondary),
)
_REMOVE: Final = Command(delete(webhook_secrets).where(_of_service))


def remove(tx: Transaction, service_id: str) -> None:
    """Forgets the secrets of a service that goes."""
    tx.run(_REMOVE, service=service_id)


def key_name(service_id: str, which: str) -> RecordName:
    """What a secret is sealed as."""
    return RecordName(kind=f"webhook-secret-{which}", namespace=service_id, id="", version=1)


class WebhookSecretStore:
    """The secrets of every service."""

    def __init__(self, store: Store, sealer: Sealer, clock: Clock) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock

    async def of(self, service: Service) -> WebhookSecrets:
        """The service's secrets, to sign with."""
        found = await self._store.read(lambda tx: self._find(tx, service))
        if found is not None:
            return found
        return await self._store.write(lambda tx: self._get(tx, service))

    async def read(self, service: Service, *, by: Actor) -> WebhookSecrets:
        """The service's secrets, for an operator; it is in the audit log."""

        def unit(tx: Transaction) -> WebhookSecrets:
            self._log(tx, Action.READ_KEYS, service, by, {})
            return self._get(tx, service)

        return await self._store.write(unit)

    async def rotate(self, service: Service, which: WhichKey, *, by: Actor) -> WebhookSecrets:
        """Draws one of the service's secrets anew."""

        def unit(tx: Transaction) -> WebhookSecrets:
            there, new = self._get(tx, service), secrets.token_bytes(_BYTES)
            rotated = (
                WebhookSecrets(new, there.secondary)
                if which is WhichKey.PRIMARY
                else WebhookSecrets(there.primary, new)
            )
            self._save(tx, service, rotated)
            self._log(tx, Action.ROTATE_KEY, service, by, {"key": which.value})
            return rotated

        return await self._store.write(unit)

    def _find(self, tx: Transaction, service: Service) -> WebhookSecrets | None:
        sealed = tx.first(_GET, service=service.id)
        if sealed is None:
            return None
        return WebhookSecrets(
            self._sealer.open(key_name(service.id, "primary"), sealed[0]),
            self._sealer.open(key_name(service.id, "secondary"), sealed[1]),
        )

    def _get(self, tx: Transaction, service: Service) -> WebhookSecrets:
        found = self._find(tx, service)
        if found is None:
            found = WebhookSecrets(secrets.token_bytes(_BYTES), secrets.token_bytes(_BYTES))
            self._save(tx, service, found)
        return found

    def _save(self, tx: Transaction, service: Service, new: WebhookSecrets) -> None:
        tx.run(
            _SAVE,
            service_id=service.id,
            sealed_primary=self._sealer.seal(key_name(service.id, "primary"), new.primary),
            sealed_secondary=self._sealer.seal(key_name(service.id, "secondary"), new.secondary),
            changed_at=self._clock.now(),
        )

    def _log(
        self, tx: Transaction, action: Action, service: Service, by: Actor, more: dict[str, str]
    ) -> None:
        audit.append(
            tx,
            Entry(
                self._clock.now(),
                by,
                action,
                f"provisioning-service/{service.name}",
                service.namespace_id,
                details={"of": "webhooks", **more},
            ),
        )
