"""Refusals: what a peer is not told is told here, to the log and to a counter."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import structlog

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
    ) -> str:
        """Reports a refusal; returns its trace id, which may be shown to the peer."""
        trace_id = trace_id or str(uuid4())
        # A reason may end in figures or a library's words, which would be a value each.
        self._count(kind, reason.partition(":")[0].partition("(")[0].strip()[:64])
        _log.info("refused", kind=kind, reason=reason, peer=peer, device=device, trace_id=trace_id)
        return trace_id
