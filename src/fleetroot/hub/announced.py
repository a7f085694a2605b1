"""What is announced of sessions and twins."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fleetroot.hub.model import Identity, Principal
from fleetroot.registry.announcements import Announcement, EventKind, body_of


def connected(principal: Principal, epoch: int, now: datetime) -> Announcement:
    """A device's session has begun; its epoch is above those of all before it."""
    body = body_of(
        moduleId=principal.module_id, sessionEpoch=epoch, authentication=principal.pin.value
    )
    of = (principal.device_key, principal.device_id)
    return Announcement(EventKind.CONNECTED, now, *of, body, principal.hub.id)


def reported(principal: Principal, version: int, patch: bytes, now: datetime) -> Announcement:
    """A device has merged a patch (JSON) into its reported properties; their version then."""
    of_module = f'"moduleId":"{principal.module_id}",' if principal.module_id is not None else ""
    body = f'{{{of_module}"version":{version},"properties":{{"reported":{patch.decode()}}}}}'
    of = (principal.device_key, principal.device_id)
    return Announcement(EventKind.TWIN_REPORTED, now, *of, body, principal.hub.id)


def disconnected(principal: Principal, epoch: int) -> str:
    """The body of what is told when a session is over."""
    return body_of(moduleId=principal.module_id, sessionEpoch=epoch)


def changed(
    identity: Identity,
    version: int,
    sections: dict[str, Any],
    now: datetime,
) -> Announcement:
    """A service has changed a twin.

    Args:
        version: of the desired properties, now.
        sections: by name, what was merged into `tags` and `desired`, or put in their place:
            `{"value": …, "replaced": bool}`.
    """
    body = body_of(moduleId=identity.module_id, desiredVersion=version, **sections)
    of = (identity.device_key, identity.device_id)
    return Announcement(EventKind.TWIN_CHANGED, now, *of, body, identity.hub_id)
