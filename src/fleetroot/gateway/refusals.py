"""Refusals: what a peer is not told is told here, to the log and to a counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import uuid4

import structlog

_MAX_CHARACTERS: Final = 256  # of a value in the log
_log = structlog.get_logger("fleetroot.refusal")


class Refusals:
    """Where every wire reports what it refused."""

    def __init__(self, count: Callable[[str, str], None]) -> None:
        """`count` is told the kind and the reason of each; it is a metric, so both are of few
        values.
        """
        self._count = count

    def add(
        self,
        kind: str,
        reason: str,
        *,
        peer: str,
        device: str | None = None,
        trace_id: str | None = None,
        label: str | None = None,
    ) -> str:
        """Reports a refusal; returns its trace id, which may be shown to the peer. `label` is what
        is counted, where `reason` is not of few values.
        """
        trace_id = trace_id or str(uuid4())
        # A reason may end in figures or a library's words, which would be a value each.
        self._count(kind, label or reason.partition(":")[0].partition("(")[0].strip()[:64])
        _log.info(
            "refused",
            kind=kind,
            reason=_printable(reason),
            peer=_printable(peer),
            device=None if device is None else _printable(device),
            trace_id=trace_id,
        )
        return trace_id


def _printable(text: str) -> str:
    """What a peer may have made up, harmless on a terminal: bounded, and with escapes for all that
    is not printable (control characters, line and paragraph separators, changes of direction).
    """
    if len(text) > _MAX_CHARACTERS:
        text = text[:_MAX_CHARACTERS] + "…"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )
