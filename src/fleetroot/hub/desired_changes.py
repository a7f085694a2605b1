"""What devices are told of their desired properties.

A device that listens gets each change as a patch with its version, in the order of versions. Where
it does not read, or has not acknowledged what it was sent, changes are gathered into the one patch
that leads from what it was told last to what is wanted now: nothing is lost, and a device costs
two sections of a twin at most. A device that is away asks for its twin when it is back.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from fleetroot.hub.live import LiveSession, LiveTable
from fleetroot.hub.model import Channel, Hub

_MISSING: Final = object()


class DesiredChange(NamedTuple):
    """A change of desired properties: JSON objects as text, and the version that it made."""

    before: str
    after: str
    version: int


class DesiredChanges:
    """Tells the devices that are connected here."""

    def __init__(self, live: LiveTable) -> None:
        self._live = live
        self._gathered: dict[LiveSession, DesiredChange] = {}

    def tell(self, hub: Hub, device_key: str, change: DesiredChange, patch: dict[str, Any]) -> None:
        """Sends a change to its device, if that listens here. Changes of a device must be told in
        the order of their versions.
        """
        session = self._live.on(hub, device_key)
        if session is None or Channel.DESIRED not in session.subscriptions:
            return
        gathered = self._gathered.get(session)
        if gathered is not None:
            self._gathered[session] = DesiredChange(gathered.before, *change[1:])
        elif not self._send(session, patch, change.version):
            self._gathered[session] = change

    def go_on(self, session: LiveSession) -> None:
        """Sends what was gathered for a device whose connection takes more again."""
        gathered = self._gathered.get(session)
        if gathered is None or session.ended is not None:
            return
        way = way_between(orjson.loads(gathered.before), orjson.loads(gathered.after))
        if self._send(session, way, gathered.version):
            self._gathered.pop(session, None)

    def left(self, session: LiveSession) -> None:
        """A device's connection is over."""
        self._gathered.pop(session, None)

    def _send(self, session: LiveSession, patch: dict[str, Any], version: int) -> bool:
        qos = session.subscriptions.get(Channel.DESIRED)
        if qos is None:
            return True  # listens no more: nothing is to be sent
        delivered = partial(self.go_on, session)
        return session.connection.desired_changed(patch, version, qos, delivered)


def way_between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The patch that, merged into `before`, makes `after`."""
    way: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        there = before.get(key, _MISSING)
        if isinstance(value, dict) and isinstance(there, dict):
            below = way_between(there, value)
            if below:
                way[key] = below
        elif _differ(there, value):
            way[key] = value
    return way


def _differ(one: object, other: object) -> bool:
    """Whether two values are not the same JSON: `1`, `1.0` and `true` are three."""
    return type(one) is not type(other) or orjson.dumps(one) != orjson.dumps(other)
