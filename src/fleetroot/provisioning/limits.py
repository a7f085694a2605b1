"""How often devices may ask to be provisioned, and what a wrong credential may cost.

What a stranger could use up for others is counted only once a device has proved who it is: its own
limits, and those of its service. What anybody can use up is counted by source alone, so whoever
guesses makes those wait who share its address, and nobody else. A failed attestation is never held
against a registration id or an enrollment: whoever has the right credential is let in.

All of it is in memory, of bounded size, and of this node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from fleetroot.clock import Clock
from fleetroot.errors import Crowded, Throttled
from fleetroot.ids import canonical
from fleetroot.pace import Pace
from fleetroot.registry.certificate_limit import CertificateLimit

FREE_TRIALS: Final = 16  # enrollment groups, whose keys anybody may have tried


class Rate(NamedTuple):
    """So many at once, and so many a second on the long run."""

    at_once: float
    per_second: float


class Rates(NamedTuple):
    """What devices may ask.

    Attributes:
        source: requests of one source, whoever makes them.
        scope: registrations of one provisioning service, by devices that attested.
        registrations: of one device that attested.
        certificates: of one device that attested, with those that it renews over its connection.
        polls: requests of one device that attested that change nothing.
        trials: keys of enrollment groups that tokens of one source may be held against in vain,
            beyond the first `FREE_TRIALS` of each.
    """

    source: Rate = Rate(5000, 500.0)
    scope: Rate = Rate(20_000, 2000.0)
    registrations: Rate = Rate(60, 1.0)
    certificates: Rate = Rate(60, 0.2)
    polls: Rate = Rate(60, 2.0)
    trials: Rate = Rate(10_000, 1000.0)


def _any(host: str) -> str | None:
    return host


class Limits:
    """Counts what devices ask. Belongs to the event loop."""

    def __init__(
        self,
        clock: Clock,
        rates: Rates | None = None,
        source_of: Callable[[str], str | None] = _any,
    ) -> None:
        """`source_of` gives what a host is counted by; None: it is not."""
        rates = rates or Rates()
        now = clock.monotonic
        self._source_of = source_of
        self._sources = Pace[str](rates.source.per_second, rates.source.at_once, now)
        self._trials = Pace[str](rates.trials.per_second, rates.trials.at_once, now)
        self._scopes = Pace[str](rates.scope.per_second, rates.scope.at_once, now)
        certificates, registrations = rates.certificates, rates.registrations
        # Hubs count against it, too.
        self.certificates = CertificateLimit(
            Pace(certificates.per_second, certificates.at_once, now)
        )
        self._registrations = Pace[tuple[str, str]](
            registrations.per_second, registrations.at_once, now
        )
        self._polls = Pace[tuple[str, str]](rates.polls.per_second, rates.polls.at_once, now)

    def admit(self, peer: str | None) -> str | None:
        """Counts a request of a peer (host and port), and gives the source that it counts for.

        Raises:
            Crowded: the source asks more often than it may.
        """
        source = self._source_of(peer.rpartition(":")[0]) if peer else None
        if source is not None and not self._sources.take(source):
            raise Crowded(
                "source provisions too often",
                retry_after=self._sources.retry_after(source),
            )
        return source

    def most_trials(self, source: str | None) -> int | None:
        """How many enrollment groups a token from there may be held against; None: all."""
        if source is None or not self._trials.is_spent(source):
            return None
        return FREE_TRIALS

    def failed(self, source: str | None, tried: int) -> None:
        """A token from there fitted none of so many groups."""
        if source is not None and tried > FREE_TRIALS:
            self._trials.charge(source, tried - FREE_TRIALS)

    def register(
        self, service_id: str, namespace_id: str, device_key: str, *, certificate: bool
    ) -> None:
        """Counts a registration of a device that attested.

        Raises:
            Throttled: the device registers more often than it may.
            Crowded: all devices of the service do.
        """
        device = (namespace_id, device_key)
        if not self._registrations.take(device):
            raise Throttled(
                "device registers too often",
                retry_after=self._registrations.retry_after(device),
            )
        if certificate:
            self.certificates.take(namespace_id, device_key)
        if not self._scopes.take(service_id):
            raise Crowded(
                "provisioning service is busy",
                retry_after=self._scopes.retry_after(service_id),
            )

    def poll(self, service_id: str, registration_id: str) -> None:
        """Counts a request of a device that attested and only looks.

        Raises:
            Throttled: the device asks more often than it may.
        """
        device = (service_id, canonical(registration_id))
        if not self._polls.take(device):
            raise Throttled(
                "device polls too often",
                retry_after=self._polls.retry_after(device),
            )
