"""The audit log: who did what, when, from where, and what was refused.

This room owns the entries, the chain over them and its signed checkpoints. Whoever changes
something appends an entry in the same unit of work, so there is no change without its entry and no
entry without its change. A refusal changes nothing and may come a million times: `refusals` gathers
them, at a pace, and counts the rest.

Entries are never changed or removed. Every few seconds those that are new are hashed into a
checkpoint, which also names the checkpoint before it and is signed by a key in custody. What that
proves, and what it cannot, is in `docs/decisions/0012-audit-log.md`.

It imports `storage`, `custody` for the key, `pki` for what a key is, and nothing of other rooms.
"""

from fleetroot.audit.log import append, append_many
from fleetroot.audit.model import SYSTEM, Action, Actor, ActorKind, Change, Entry, Outcome

__all__ = [
    "SYSTEM",
    "Action",
    "Actor",
    "ActorKind",
    "Change",
    "Entry",
    "Outcome",
    "append",
    "append_many",
]
