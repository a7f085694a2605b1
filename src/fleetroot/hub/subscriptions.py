"""Subscriptions of devices that connect with CleanSession 0: their table.

SDKs count on them surviving disconnects and restarts: they subscribe once and never again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import bindparam, delete, select

from fleetroot.hub.model import Channel
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import subscriptions

_of_device: Final = (subscriptions.c.hub_id == bindparam("hub")) & (
    subscriptions.c.device_key == bindparam("key")
)
_ALL: Final = Query(
    select(subscriptions.c.channel, subscriptions.c.qos).where(_of_device),
    lambda channel, qos: (Channel(channel), qos),
)
_SAVE: Final = Command(upsert_into(subscriptions))
_REMOVE: Final = Command(
    delete(subscriptions).where(_of_device & (subscriptions.c.channel == bindparam("of_channel")))
)
_CLEAR: Final = Command(delete(subscriptions).where(_of_device))


def load(tx: Transaction, hub_id: str, device_key: str) -> dict[Channel, int]:
    """The QoS that was granted, by channel."""
    return dict(tx.all(_ALL, hub=hub_id, key=device_key))


def save(tx: Transaction, hub_id: str, device_key: str, granted: dict[Channel, int]) -> None:
    """Adds subscriptions, or changes the QoS of those that are there."""
    for channel, qos in granted.items():
        tx.run(_SAVE, hub_id=hub_id, device_key=device_key, channel=channel.value, qos=qos)


def remove(tx: Transaction, hub_id: str, device_key: str, channels: Iterable[Channel]) -> None:
    """Removes subscriptions."""
    for channel in channels:
        tx.run(_REMOVE, hub=hub_id, key=device_key, of_channel=channel.value)


def clear(tx: Transaction, hub_id: str, device_key: str) -> None:
    """Removes every subscription of the device."""
    tx.run(_CLEAR, hub=hub_id, key=device_key)
