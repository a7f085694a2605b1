"""What ends soon and somebody should know of: CAs in use, what is above them, revocation lists that
people sign, the server's own certificate.

A CA that nobody's certificates will be signed by any more ends in silence, and so does one that is
renewed in time, because its time to be renewed comes earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256

import structlog
from cryptography import x509

from fleetroot.clock import Clock, iso8601
from fleetroot.pki import sha256_fingerprint
from fleetroot.registry import (
    authorities,
    credentials,
    namespaces,
    policies,
    revocation_lists,
)
from fleetroot.registry.model import Authority
from fleetroot.storage import Store, Transaction

_log = structlog.get_logger("fleetroot.expiry")


@dataclass(frozen=True, slots=True)
class Expiring:
    """A certificate or list, and when it ends.

    Attributes:
        what: `root CA`, `issuing CA`, `CA above` (of a root that is not ours), `revocation list`
            (of an offline root), or what others say.
        name: whose it is: `default`, `default/policy`.
    """

    what: str
    name: str
    sha256: bytes
    not_after: datetime


class ExpiryWatch:
    """Looks now and then, keeps what it found, and logs it once a day.

    `others` gives what ends and is not of this room.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        within: timedelta,
        others: Callable[[], list[Expiring]] = list,
    ) -> None:
        self._store = store
        self._clock = clock
        self._within = within
        self._others = others
        self._logged: dict[bytes, date] = {}
        self.soon: list[Expiring] = []
        self.first: datetime | None = None

    async def look(self) -> None:
        """Finds what ends within the time, the first of all first.

        Raises:
            Unavailable: the database cannot answer now.
        """
        now = self._clock.now()
        found = await self._store.read(lambda tx: list(_endings(tx))) + self._others()
        found.sort(key=lambda ending: ending.not_after)
        self.first = found[0].not_after if found else None
        self.soon = [ending for ending in found if ending.not_after <= now + self._within]
        self._logged = {e.sha256: self._log(e, now) for e in self.soon}

    def _log(self, ending: Expiring, now: datetime) -> date:
        if self._logged.get(ending.sha256) != now.date():
            _log.warning(
                "expires soon" if ending.not_after >= now else "has expired",
                what=ending.what,
                name=ending.name,
                sha256=ending.sha256.hex(),
                not_after=iso8601(ending.not_after),
            )
        return now.date()


def _endings(tx: Transaction) -> Iterator[Expiring]:
    for namespace in namespaces.living(tx):
        credential = credentials.find(tx, namespace.id)
        if credential is not None:
            yield _ending("root CA", namespace.name, credential.root)
            if (signed := revocation_lists.get(tx, credential.root.id, 0)) is not None and (
                credential.root.is_offline
            ):
                until = signed.head.next_update
                fingerprint = sha256(signed.der).digest()
                yield Expiring("revocation list", namespace.name, fingerprint, until)
        for policy in policies.of_namespace(tx, namespace.id):
            if policy.authority_id is None:
                continue
            name = f"{namespace.name}/{policy.name}"
            issuing = authorities.get(tx, policy.authority_id)
            yield _ending("issuing CA", name, issuing)
            for der in issuing.external_chain:
                above = x509.load_der_x509_certificate(der)
                yield Expiring(
                    "CA above", name, sha256_fingerprint(above), above.not_valid_after_utc
                )


def _ending(what: str, name: str, authority: Authority) -> Expiring:
    return Expiring(what, name, authority.sha256, authority.not_after)
