"""What a device knows: how to provision, and what provisioning gave it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from fleetroot.agent.credential import SPREAD, Credential
from fleetroot.agent.tls import Endpoint
from fleetroot.pki import KeyType


@dataclass(frozen=True, slots=True)
class Onboarding:
    """How a device provisions.

    Attributes:
        host: the provisioning service, by the name in its certificate.
        ca: whom the device trusts as servers, PEM; None: the system's CAs.
        key_type: of the keys that the device makes.
        symmetric_key: the device's own, raw; None when it was told to forget it.
    """

    host: str
    port: int
    id_scope: str
    registration_id: str
    ca: str | None
    key_type: KeyType
    symmetric_key: bytes | None = field(repr=False)

    @property
    def endpoint(self) -> Endpoint:
        """Where the provisioning service is."""
        return Endpoint(self.host, self.host, self.port)


@dataclass(frozen=True, slots=True)
class Device:
    """A device that has provisioned.

    Attributes:
        hub: host name of the hub that it was assigned to; the port is provisioning's.
        obtained_at: when it got its credential, by its own clock.
    """

    onboarding: Onboarding
    hub: str
    device_id: str
    credential: Credential
    obtained_at: datetime

    def renew_at(self, fraction: float) -> datetime:
        """When to renew: see `Credential.renew_at`. Never sooner than SPREAD of the lifetime after
        the last time, or a device whose clock runs ahead would renew without end.
        """
        credential = self.credential
        return max(credential.renew_at(fraction), self.obtained_at + credential.lifetime * SPREAD)

    def renewed(self, credential: Credential, now: datetime) -> Device:
        """The same device with a new credential."""
        return replace(self, credential=credential, obtained_at=now)

    def without_key(self) -> Device:
        """The same device, which cannot provision again by itself."""
        return replace(self, onboarding=replace(self.onboarding, symmetric_key=None))
