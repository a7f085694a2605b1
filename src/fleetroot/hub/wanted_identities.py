"""What services want of an identity, and what it becomes.

An update keeps what it does not name. It keeps the kind of proof, too, unless it brings what the
other kind needs: a client of Azure that sends no authentication sends keys that are empty strings,
and a device of a policy must not be opened to keys because somebody wrote down why it is disabled.

Source: Azure IoT Hub service REST API, "Devices", "Modules"; and the code of `azure-iothub` 1.16.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hmac import compare_digest
from typing import Any, Final, TypeAlias

from fleetroot.custody import Sealer
from fleetroot.errors import InvalidArgument
from fleetroot.hub import identities
from fleetroot.hub.model import Identity, Pin
from fleetroot.ids import canonical, check_device_id, check_module_id, identity_key, new_uuid
from fleetroot.registry.devices import new_etag

MAX_SCOPES: Final = 16
_KEY_BYTES: Final = 32  # of one that is generated
_MIN_KEY_BYTES: Final = 16
_MAX_KEY_BYTES: Final = 64
_THUMBPRINT: Final = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}")


@dataclass(frozen=True, slots=True)
class WantedKeys:
    """Raw keys, of 16 to 64 bytes; None: of a new identity generated, otherwise kept."""

    primary: bytes | None = field(default=None, repr=False)
    secondary: bytes | None = field(default=None, repr=False)

    @property
    def says_nothing(self) -> bool:
        """Whether neither is given."""
        return self.primary is None and self.secondary is None


@dataclass(frozen=True, slots=True)
class WantedThumbprints:
    """SHA-1 or SHA-256 of certificates, hexadecimal in any case."""

    primary: str | None
    secondary: str | None = None


@dataclass(frozen=True, slots=True)
class WantedAuthority:
    """Certificates of a CA: of the policy that the registry has the device under; where it has
    none, of the CAs that were uploaded to the hub and verified. An identity that knows one of these
    already keeps it.
    """


WantedAuthentication: TypeAlias = WantedKeys | WantedThumbprints | WantedAuthority


@dataclass(frozen=True, slots=True)
class WantedIdentity:
    """What a service says of an identity. None: nothing.

    Attributes:
        module_id: of a module; None for the device itself.
        twin: that a new one begins with, `{tags, properties: {desired}}`, which was checked.
    """

    device_id: str
    module_id: str | None = None
    authentication: WantedAuthentication | None = None
    enabled: bool | None = None
    status_reason: str | None = None
    iot_edge: bool | None = None
    device_scope: str | None = None
    parent_scopes: tuple[str, ...] | None = None
    managed_by: str | None = None
    twin: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        """Of its identity."""
        return identity_key(self.device_id, self.module_id)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A wish that was checked, with keys that are sealed: the part that needs no database.

    Attributes:
        sealed: the keys as they are when nothing is kept.
    """

    wanted: WantedIdentity
    sealed: tuple[bytes, bytes] | None


def prepare(sealer: Sealer, hub_id: str, wanted: WantedIdentity) -> Prepared:
    """Checks what somebody wants, and seals its keys.

    Raises:
        InvalidArgument: it cannot be.
    """
    check_device_id(wanted.device_id)
    if wanted.module_id is not None:
        check_module_id(wanted.module_id)
    asked = wanted.authentication or WantedKeys()
    if isinstance(asked, WantedThumbprints):
        _check_thumbprints(asked)
    if not isinstance(asked, WantedKeys):
        return Prepared(wanted, None)
    sealed = [
        sealer.seal(identities.key_name(hub_id, wanted.key, which), _checked_key(which, key))
        for which, key in (("primary", asked.primary), ("secondary", asked.secondary))
    ]
    return Prepared(wanted, (sealed[0], sealed[1]))


def _checked_key(which: str, key: bytes | None) -> bytes:
    if key is None:
        return secrets.token_bytes(_KEY_BYTES)
    if not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
        raise InvalidArgument(
            f"{which}Key: must be {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes, as base64"
        )
    return key


def _check_thumbprints(wanted: WantedThumbprints) -> None:
    if wanted.primary is None and wanted.secondary is None:
        raise InvalidArgument("x509Thumbprint: primaryThumbprint or secondaryThumbprint: required")
    for name, value in ("primary", wanted.primary), ("secondary", wanted.secondary):
        if value is not None and not _THUMBPRINT.fullmatch(value):
            raise InvalidArgument(
                f"{name}Thumbprint: must be SHA-1 or SHA-256 of a certificate, in hexadecimal"
            )


def made_of(prepared: Prepared, hub_id: str, policy_id: str | None, now: datetime) -> Identity:
    """A new identity.

    Args:
        policy_id: that the registry has the device under.
    """
    wanted, etag = prepared.wanted, new_etag()
    is_module = wanted.module_id is not None
    new = Identity(
        hub_id=hub_id,
        device_key=wanted.key,
        device_id=wanted.device_id,
        generation_id=new_uuid(),
        enabled=True,
        pin=Pin.KEYS,
        policy_id=None,
        sealed_primary=None,
        sealed_secondary=None,
        # Above those of an identity that was here before, whose session may not have ended yet.
        session_epoch=int(now.timestamp() * 1000),
        connected=False,
        connection_changed_at=None,
        etag=etag,
        created_at=now,
        updated_at=now,
        module_id=wanted.module_id,
        parent_key=canonical(wanted.device_id) if is_module else None,
        pin_etag=etag,
    )
    asked = wanted.authentication or WantedKeys()
    return _with_pin(_with_words(new, wanted, now), asked, prepared.sealed, policy_id)


def changed(
    sealer: Sealer, there: Identity, prepared: Prepared, policy_id: str | None, now: datetime
) -> Identity:
    """What an identity becomes: `pin_etag` is another one where it will be let in by something
    else.
    """
    etag = new_etag()
    after = _with_words(replace(there, etag=etag, updated_at=now), prepared.wanted, now)
    asked = prepared.wanted.authentication
    if isinstance(asked, WantedKeys):
        keys = identities.open_keys(sealer, there) or (None, None)
        # The keys of now are no other keys, however they are sealed.
        asked = WantedKeys(
            None if _is_same(asked.primary, keys[0]) else asked.primary,
            None if _is_same(asked.secondary, keys[1]) else asked.secondary,
        )
        if asked.says_nothing:
            return after
    if asked is None:
        return after
    after = _with_pin(after, asked, prepared.sealed, policy_id)
    return after if _proof(after) == _proof(there) else replace(after, pin_etag=etag)


def _is_same(key: bytes | None, other: bytes | None) -> bool:
    return key is not None and other is not None and compare_digest(key, other)


def _proof(identity: Identity) -> tuple[object, ...]:
    return (
        identity.pin,
        identity.policy_id,
        identity.sealed_primary,
        identity.sealed_secondary,
        identity.primary_thumbprint,
        identity.secondary_thumbprint,
    )


def _with_words(identity: Identity, wanted: WantedIdentity, now: datetime) -> Identity:
    """With everything but how it proves who it is."""
    enabled = identity.enabled if wanted.enabled is None else wanted.enabled
    reason, at = wanted.status_reason, identity.status_changed_at
    if enabled != identity.enabled:
        at = now  # and a reason of before says nothing of it
    elif reason is None:
        reason = identity.status_reason
    edge = identity.iot_edge if wanted.iot_edge is None else wanted.iot_edge
    scope, parents = identity.device_scope, identity.parent_scopes
    if edge:
        scope = scope or identities.edge_scope(identity.device_id, now)
    elif wanted.device_scope is not None:
        scope = wanted.device_scope or None
        parents = None if scope is None else json.dumps([scope])  # of a leaf, its parent's
    if wanted.parent_scopes is not None:
        parents = json.dumps(wanted.parent_scopes)
    return replace(
        identity,
        enabled=enabled,
        status_reason=reason or None,
        status_changed_at=at,
        iot_edge=edge,
        device_scope=scope,
        parent_scopes=parents,
        managed_by=identity.managed_by if wanted.managed_by is None else wanted.managed_by,
    )


def _with_pin(
    identity: Identity,
    asked: WantedAuthentication,
    sealed: tuple[bytes, bytes] | None,
    policy_id: str | None,
) -> Identity:
    bare = replace(
        identity,
        policy_id=None,
        sealed_primary=None,
        sealed_secondary=None,
        primary_thumbprint=None,
        secondary_thumbprint=None,
    )
    match asked:
        case WantedThumbprints(primary, secondary):
            return replace(
                bare,
                pin=Pin.THUMBPRINTS,
                primary_thumbprint=primary and primary.upper(),
                secondary_thumbprint=secondary and secondary.upper(),
            )
        case WantedAuthority():
            if identity.pin in (Pin.POLICY, Pin.UPLOADED):
                return identity
            if policy_id is None or identity.is_module:
                return replace(bare, pin=Pin.UPLOADED)
            return replace(bare, pin=Pin.POLICY, policy_id=policy_id)
        case WantedKeys(first, second):
            assert sealed is not None  # noqa: S101 - `prepare` sealed them
            kept_first = identity.sealed_primary if first is None else None
            kept_second = identity.sealed_secondary if second is None else None
            return replace(
                bare,
                pin=Pin.KEYS,
                sealed_primary=kept_first or sealed[0],
                sealed_secondary=kept_second or sealed[1],
            )
