"""What a case of the corpus is: a chain as a peer presents it, and the one right answer.

A case is a function named for what it presents, with a sentence that cites the rule. It runs only
when it is tested, so that keys are made for what is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from limbo_forge import root
from pki_workshop import NOW

from fleetroot.pki import ChainRefusal

UNSAID = "(nothing is said of it)"


@dataclass(frozen=True, slots=True)
class Presented:
    """A chain as a peer sent it, leaf first, and what it is held against; all in DER.

    Attributes:
        path: the path that must be found, where there is a choice.
    """

    chain: tuple[bytes, ...]
    anchors: tuple[bytes, ...]
    at: datetime
    path: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One chain and its verdict.

    Attributes:
        refused: why it is refused; None where it is accepted.
        common_name: what the accepted leaf's common name is read as.
        openssl: where OpenSSL decides otherwise: what it does, and why that is no reason to follow.
    """

    topic: str
    build: Callable[[], Presented]
    refused: ChainRefusal | None
    common_name: str | None
    openssl: str

    @property
    def name(self) -> str:
        return f"{self.topic}/{self.build.__name__}"

    @property
    def says(self) -> str:
        return self.build.__doc__ or ""


CASES: list[Case] = []


def presented(
    *chain: bytes,
    anchors: tuple[bytes, ...],
    at: datetime = NOW,
    path: tuple[bytes, ...] | None = None,
) -> Presented:
    return Presented(chain, anchors, at, path)


def under_root(*chain: bytes) -> Presented:
    """Held against one root, which is in order."""
    return presented(*chain, anchors=(root(),))


def accepted(
    *, common_name: str | None = UNSAID, openssl: str = ""
) -> Callable[[Callable[[], Presented]], Callable[[], Presented]]:
    return _case(None, common_name, openssl)


def refused(
    reason: ChainRefusal, *, openssl: str = ""
) -> Callable[[Callable[[], Presented]], Callable[[], Presented]]:
    return _case(reason, UNSAID, openssl)


def _case(
    reason: ChainRefusal | None, common_name: str | None, openssl: str
) -> Callable[[Callable[[], Presented]], Callable[[], Presented]]:
    def enter(build: Callable[[], Presented]) -> Callable[[], Presented]:
        topic = build.__module__.removeprefix("limbo_").replace("_", "-")
        CASES.append(Case(topic, build, reason, common_name, openssl))
        return build

    return enter
