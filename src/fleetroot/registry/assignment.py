"""What a device is to be on a hub: the words that provisioning and hubs share.

Provisioning decides it, a hub carries it out, and neither imports the other; the composition root
gives provisioning a `HubDirectory`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias

from fleetroot.storage import Transaction


@dataclass(frozen=True, slots=True)
class SymmetricKeys:
    """A pair of raw keys; either is good, so that they can be rolled."""

    primary: bytes = field(repr=False)
    secondary: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PolicyPin:
    """The identity authenticates with certificates that the policy issued, and nothing else."""

    policy_id: str


@dataclass(frozen=True, slots=True)
class KeysPin:
    """The identity authenticates with tokens signed by one of its keys."""

    keys: SymmetricKeys


@dataclass(frozen=True, slots=True)
class ThumbprintPin:
    """The identity authenticates with one of the certificates of these thumbprints: SHA-256 over
    DER, in upper-case hexadecimal.
    """

    primary: str | None
    secondary: str | None = None


@dataclass(frozen=True, slots=True)
class UploadedPin:
    """The identity authenticates with any certificate of its device id that leads to a CA which was
    uploaded to its hub and verified.
    """


Pin: TypeAlias = PolicyPin | KeysPin | ThumbprintPin | UploadedPin


@dataclass(frozen=True, slots=True)
class Seat:
    """An identity's place: a device id on a hub."""

    hub_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """What provisioning wants of a hub.

    Attributes:
        hub_id: the hub that the device goes to.
        leaves: where else provisioning had put it; nothing of it stays there.
        migrate: whether its data moves with it, or starts anew from `initial_twin`.
        iot_edge: whether a new identity is that of an edge device.
    """

    hub_id: str
    device_id: str
    pin: Pin
    leaves: tuple[Seat, ...] = ()
    migrate: bool = True
    initial_twin: str | None = None
    iot_edge: bool = False


class HubDirectory(Protocol):
    """What provisioning needs of hubs."""

    def check_initial_twin(self, initial_twin: str) -> None:
        """Checks JSON text of `{tags, properties: {desired}}` against the rules of twins.

        Raises:
            InvalidArgument: it breaks one.
        """
        ...

    def assign(self, assignment: Assignment, now: datetime) -> Callable[[Transaction], None]:
        """Prepares an identity (seals its keys), and returns the part of a unit of work that
        creates it, or changes the one that is there to the new pin.
        """
        ...

    def assign_first(
        self, assignments: Collection[Assignment], now: datetime
    ) -> Callable[[Transaction], bool]:
        """Like `assign`, of devices that were nowhere before. What it returns says False if an
        identity was there already; the unit of work must then be undone.
        """
        ...
