"""Refusals: what a peer is not told is told here.

Each is counted, by kind and a reason of a closed set. Each is a line of the log, with its trace id,
until one peer or all of them make too many: then lines are left out and counted, because a log that
a stranger can fill is an attack of its own. And where the peer said who it is, the device's history
has it, for `fleetroot device explain` and `fleetroot registration explain`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

from fleetroot.audit import Actor, ActorKind, Entry, Outcome
from fleetroot.clock import Clock
from fleetroot.errors import Crowded, FleetrootError, Throttled, Unavailable
from fleetroot.gateway.reasons import label_of, label_of_error
from fleetroot.gateway.refusal_history import Occurrence, RefusalHistory, Subject
from fleetroot.gateway.tls import source_of
from fleetroot.ids import new_uuid
from fleetroot.pace import Pace

_MAX_CHARACTERS: Final = 256  # of a value in the log
_LINES_OF_SOURCE: Final = 10  # at once, for one reason; then one every so many seconds
_SECONDS_OF_SOURCE: Final = 10.0
_log = structlog.get_logger("fleetroot.refusal")


def new_trace_id() -> str:
    """An id for one connection or request, by which what became of it is found."""
    return new_uuid()


class Refusals:
    """Where every wire reports what it refused."""

    def __init__(
        self,
        count: Callable[[str, str], None],
        clock: Clock,
        *,
        history: RefusalHistory | None = None,
        lines_per_second: float = 20.0,
        charge: Callable[[str], object] = lambda _source: None,
        note: Callable[[Entry, str], None] = lambda _entry, _label: None,
    ) -> None:
        """Describes what becomes of a refusal.

        Args:
            count: told the kind and the reason of each; it is a metric, so both are of few values.
            clock: for the history's times, and the log's pace.
            history: where the last refusals of devices are kept.
            lines_per_second: most lines of the log, on the long run.
            charge: told the source of each refusal that is the peer's own fault.
            note: told each, as an entry for the audit log, and its reason as it is counted.
        """
        self.history = history or RefusalHistory()
        self._count = count
        self._clock = clock
        self._charge = charge
        self._note = note
        monotonic = clock.monotonic
        self._pace_of_source: Pace[tuple[str, str, str]] = Pace(
            1 / _SECONDS_OF_SOURCE, _LINES_OF_SOURCE, monotonic
        )
        self._pace: Pace[None] = Pace(lines_per_second, 10 * lines_per_second, monotonic)
        self._left_out: Counter[tuple[str, str]] = Counter()

    def add(
        self,
        kind: str,
        reason: str | FleetrootError,
        *,
        peer: str,
        device: str | None = None,
        about: Subject | None = None,
        trace_id: str | None = None,
        label: str | None = None,
        charge: bool = True,
        actor: Actor | None = None,
    ) -> str:
        """Reports a refusal; returns its trace id, which may be shown to the peer.

        Args:
            kind: what was refused, in a word.
            reason: a phrase of `reasons.ADVICE`, with more behind a colon where there is more; or
                the error.
            peer: host and port.
            device: what it said it is, for the log.
            about: the same, for the device's history.
            trace_id: of the connection or request; None makes one.
            label: what is counted, where it is not what `reason` starts with.
            charge: the peer's address answers for it. What passes by itself is never charged.
            actor: who it is for certain, where that is known.
        """
        trace_id = trace_id or new_trace_id()
        device = about.id if about else device
        if isinstance(reason, FleetrootError):
            label = label or label_of_error(reason)
            passes = isinstance(reason, Unavailable) and (
                not isinstance(reason, Throttled) or isinstance(reason, Crowded)
            )
            charge = charge and not passes
            reason = reason.reason
        label = label or label_of(reason)
        self._count(kind, label)
        source = source_of(peer.rpartition(":")[0])
        if charge:
            self._charge(source)
        if about is not None:
            subject = Subject(about.kind, _printable(about.at), _printable(about.id))
            occurrence = Occurrence(
                self._clock.now(), _printable(peer), trace_id, _printable(reason)
            )
            self.history.add(subject, kind, label, source, occurrence)
        peer, reason = _printable(peer), _printable(reason)
        named = f"{about.kind}/{about.id}" if about else f"device/{device}" if device else "peer"
        self._note(
            Entry(
                self._clock.now(),
                actor or Actor(ActorKind.UNKNOWN, "", peer, trace_id),
                kind,
                _printable(named),
                outcome=Outcome.REFUSED,
                reason=reason,
            ),
            label,
        )
        if self._is_worth_a_line(kind, label, source):
            _log.info(
                "refused",
                kind=kind,
                reason=reason,
                peer=peer,
                device=None if device is None else _printable(device),
                trace_id=trace_id,
            )
        return trace_id

    def summarize(self) -> None:
        """Logs how many refusals got no line of their own since the last time."""
        left_out, self._left_out = self._left_out, Counter()
        for (kind, reason), count in left_out.items():
            _log.info("refused, without a line each", kind=kind, reason=reason, count=count)

    def _is_worth_a_line(self, kind: str, label: str, source: str) -> bool:
        worth = self._pace_of_source.take((kind, label, source)) and self._pace.take(None)
        if not worth:
            self._left_out[kind, label] += 1
        return worth


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
