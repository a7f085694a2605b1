"""Whether a caller has seen the newest version of what it changes."""

from __future__ import annotations

from fleetroot.errors import EtagMismatch


def check(if_match: str | None, etag: str) -> None:
    """Lets a change pass; `if_match` is the etag that the caller saw, `*` or None for any.

    Raises:
        EtagMismatch: it saw another version.
    """
    if if_match not in (None, "*", etag):
        raise EtagMismatch("the resource was changed since it was read: read it again")
