"""How often a device may ask for certificates, wherever it does: when it provisions, and over the
connection that it renews by.
"""

from __future__ import annotations

from fleetroot.errors import Throttled
from fleetroot.pace import Pace


class CertificateLimit:
    """Counts the certificates that devices ask for. Belongs to the event loop."""

    def __init__(self, pace: Pace[tuple[str, str]]) -> None:
        self._pace = pace

    def take(self, namespace_id: str, device_key: str) -> None:
        """Counts a request of a device that has proved who it is.

        Raises:
            Throttled: the device asks more often than it may.
        """
        device = (namespace_id, device_key)
        if not self._pace.take(device):
            raise Throttled(
                "device asks for certificates too often",
                retry_after=self._pace.retry_after(device),
            )
