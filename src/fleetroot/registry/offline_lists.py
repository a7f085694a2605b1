"""Revocation lists of roots whose keys are kept away from the server.

The ceremony is that of certificates: what is to be signed goes out as a file, a signed list comes
back. It is published only if it says of every CA that was revoked here that it was, and is newer
than the one before, so neither a mistake at the ceremony nor an old list can let one in again.

Source: RFC 5280 §5.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.errors import Conflict, InvalidArgument, NotFound, TooLarge
from fleetroot.pki import ForeignList, ForeignListRefused, Revoked, read_foreign_list
from fleetroot.registry import authorities, revocation_lists
from fleetroot.registry.model import Authority, AuthorityKind, Namespace
from fleetroot.registry.revocation_lists import ListHead, PublishedList
from fleetroot.storage import Store, Transaction

MAX_BYTES: Final = 1024 * 1024
_MAX_ENTRIES: Final = 10_000
_MAX_NUMBER: Final = 2**63 - 1
_CLOCKS_DIFFER: Final = timedelta(minutes=5)
_EVER: Final = datetime.min.replace(tzinfo=UTC)
# Of a root there is one list: of CA certificates, or of everything that it issued.
_SCOPES: Final = frozenset({"", "authorities"})


@dataclass(frozen=True, slots=True)
class ListRequest:
    """What the next list of a root is to say.

    Attributes:
        number: its CRL number; a higher one will do, too.
        revoked: every CA of the root that was revoked.
    """

    authority: Authority
    number: int
    revoked: list[Revoked]


class OfflineLists:
    """Asks for lists, and publishes what was signed."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def request(self, namespace: Namespace, authority_id: str) -> ListRequest:
        """What is to be signed now.

        Raises:
            NotFound: the namespace has no such CA.
            Conflict: its key is not kept elsewhere.
        """
        number = int(self._clock.now().timestamp() * 1000)

        def unit(tx: Transaction) -> ListRequest:
            root = _offline(tx, namespace, authority_id)
            before = revocation_lists.get(tx, root.id, 0)
            least = 0 if before is None else before.head.number + 1
            return ListRequest(root, max(number, least), _revoked(tx, root))

        return await self._store.read(unit)

    async def publish(
        self, namespace: Namespace, authority_id: str, crl: bytes, *, by: Actor
    ) -> ListHead:
        """Publishes a list that was signed with the root's key: DER or PEM.

        Raises:
            NotFound: the namespace has no such CA.
            Conflict: its key is not kept elsewhere.
            TooLarge: it has too many bytes.
            InvalidArgument: it cannot be read, was not signed by that root, is not newer than the
                one before, is over or of the future, or leaves out a CA that was revoked.
        """
        if len(crl) > MAX_BYTES:
            raise TooLarge(f"a root's revocation list has at most {MAX_BYTES} bytes")
        root = await self._store.read(lambda tx: _offline(tx, namespace, authority_id))
        try:
            read = await asyncio.to_thread(
                read_foreign_list, crl, root.certificate, [], max_entries=_MAX_ENTRIES
            )
        except ForeignListRefused as refused:
            raise InvalidArgument(refused.message) from refused
        now = self._clock.now()
        number, next_update = _check(read, now)

        def unit(tx: Transaction) -> ListHead:
            known = _revoked(tx, _offline(tx, namespace, authority_id))
            for one in known:
                if one.serial not in read.serials:
                    raise InvalidArgument(
                        f"the revocation list leaves out serial number {one.serial:x}, which was "
                        "revoked here"
                    )
            head = ListHead(root.id, 0, number, len(known), read.this_update, next_update)
            if not revocation_lists.put(tx, PublishedList(head, read.der)):
                raise InvalidArgument("there is a revocation list with as high a number")
            details = {"number": str(number), "sha256": sha256(read.der).hexdigest()}
            subject = f"ca/{root.id}"
            audit.append(
                tx, Entry(now, by, Action.PUBLISH_CRL, subject, namespace.id, details=details)
            )
            return head

        return await self._store.write(unit)


def _check(read: ForeignList, now: datetime) -> tuple[int, datetime]:
    """The number and nextUpdate of a list that may be published."""
    if read.scope not in _SCOPES:
        raise InvalidArgument("the revocation list is not of all CAs of the root")
    if read.number is None or read.number > _MAX_NUMBER:
        raise InvalidArgument("the revocation list has no CRL number, or one of more than 63 bits")
    if read.next_update is None or read.next_update <= now:
        raise InvalidArgument("the revocation list has no nextUpdate, or it is over")
    if read.this_update > now + _CLOCKS_DIFFER:
        raise InvalidArgument("the revocation list is of the future")
    return read.number, read.next_update


def _offline(tx: Transaction, namespace: Namespace, authority_id: str) -> Authority:
    authority = authorities.get(tx, authority_id)
    if authority.namespace_id != namespace.id:
        raise NotFound(f"no certificate authority {authority_id}")
    if authority.kind is not AuthorityKind.ROOT or not authority.is_offline:
        raise Conflict("the CA's key is here: its lists are signed by themselves")
    return authority


def _revoked(tx: Transaction, root: Authority) -> list[Revoked]:
    at = revocation_lists.first_page(root, 0)
    return revocation_lists.page(tx, root, at, _EVER)[0]
