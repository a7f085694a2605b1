"""The server's QoS 1 messages that lack their PUBACK, and the packet ids that name them (§2.3.1).

Ids of one direction only: a client numbers its own messages, and the two may be equal.
"""

from __future__ import annotations

from typing import Final

MAX_PACKET_ID: Final = 0xFFFF


class Busy(Exception):
    """As many messages as may be lack their PUBACK. Try again after the next one."""


class Inflight:
    """A bounded window of packet ids, each with the owner's token for its message.

    Args:
        limit: most messages at a time, 1 to 65,535.
    """

    __slots__ = ("_last", "_limit", "_tokens")

    def __init__(self, limit: int) -> None:
        if not 0 < limit <= MAX_PACKET_ID:
            raise ValueError("a window is 1 to 65,535 messages")
        self._limit = limit
        self._tokens: dict[int, object] = {}  # in the order of sending
        self._last = 0

    @property
    def free(self) -> int:
        """How many more messages fit."""
        return self._limit - len(self._tokens)

    def __contains__(self, packet_id: int) -> bool:
        return packet_id in self._tokens

    def next_packet_id(self) -> int:
        """An id that no message in flight has [MQTT-2.3.1-4]; not taken until `hold`.

        Ids are used in turn, not the lowest first, so that a late PUBACK of a message that was
        delivered twice does not meet a new message under its id.

        Raises:
            Busy: the window is full.
        """
        self._check_room()
        packet_id = self._last % MAX_PACKET_ID + 1
        while packet_id in self._tokens:
            packet_id = packet_id % MAX_PACKET_ID + 1
        return packet_id

    def hold(self, packet_id: int, token: object) -> None:
        """Takes a message into the window under an id that is not in it.

        Raises:
            Busy: the window is full.
        """
        self._check_room()
        self._tokens[packet_id] = token
        self._last = packet_id

    def release(self, packet_id: int) -> object:
        """The token of a message in the window, which leaves it."""
        return self._tokens.pop(packet_id)

    def tokens(self) -> dict[int, object]:
        """What is in the window, in the order of sending: packet id to token."""
        return dict(self._tokens)

    def _check_room(self) -> None:
        if len(self._tokens) >= self._limit:
            raise Busy(f"{self._limit} messages lack their PUBACK")
