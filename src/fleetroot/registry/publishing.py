"""The duty that keeps revocation lists and OCSP responders' certificates up to date.

A list is signed when something of its shard was revoked, and before its time is over; what comes
while others are gathered or signed shares the next signing. What cannot be signed now (a token is
away) keeps its last list, which is good until its nextUpdate, and is tried again. Lists of offline
roots come from elsewhere (`offline_lists`); what they do not have yet is logged here.

A list's number is the time in milliseconds, or one more than that of the list before where the
clock would have it go back.

Source: RFC 5280 §3.3, §5.2.3.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import structlog
from cryptography import x509

from fleetroot.clock import Clock
from fleetroot.custody import KeyCustody, SealBroken, WrongMasterKey
from fleetroot.errors import FleetrootError, NotFound
from fleetroot.pki import CrlScope, Issuer, IssuerExpired, LintFailed, PkiUrls, Revoked, sign_crl
from fleetroot.registry import authorities, revocation_lists
from fleetroot.registry.model import Authority, AuthorityKind
from fleetroot.registry.ocsp_responders import OcspResponders
from fleetroot.registry.outbox import Kind, Notice, OutboxReader
from fleetroot.registry.revocation_lists import ListHead, PublishedList
from fleetroot.storage import Store

_log = structlog.get_logger("fleetroot.revocation")

LIST_LIFETIME: Final = timedelta(days=7)
_RENEW_AFTER: Final = timedelta(days=1)
# RFC 5280 §3.3: a certificate leaves the lists only after one that was made when it had expired.
# A little longer, for verifiers whose clocks are behind.
_STAYS: Final = timedelta(minutes=10)
_SKEW: Final = timedelta(minutes=1)
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ROUND_SECONDS: Final = 60.0  # between looks at what is due, when nobody tells of anything
_RETRY_SECONDS: Final = 10.0
_SHARE: Final = 10  # of the time at most one part goes into signing lists
_WARN_SECONDS: Final = 3600.0
# Why a CA cannot sign now. None of it is a reason not to sign for the others.
CANNOT_SIGN: Final = (FleetrootError, SealBroken, WrongMasterKey, IssuerExpired, LintFailed)


class _Due(NamedTuple):
    """A list that is to be made, after `before`."""

    shard: int
    before: ListHead | None
    covers: int


class RevocationPublisher:
    """Signs lists, and has responders renewed, for every CA whose key is here."""

    def __init__(
        self,
        store: Store,
        custody: KeyCustody,
        responders: OcspResponders,
        clock: Clock,
        *,
        batch: timedelta = timedelta(seconds=2),
    ) -> None:
        self._store = store
        self._custody = custody
        self._responders = responders
        self._clock = clock
        self._batch = batch.total_seconds()
        self._told = asyncio.Event()
        self._lock = asyncio.Lock()
        self._warned: dict[str, float] = {}

    def listen_to(self, outbox: OutboxReader) -> None:
        """Looks for what is due soon after the outbox tells of anything."""
        outbox.listen(self._heard)

    async def _heard(self, notice: Notice) -> None:
        if notice.kind != Kind.CERTIFICATE_UNKNOWN:
            self._told.set()

    async def run(self) -> None:
        """Signs what is due, until cancelled."""
        wait = 0.0
        while True:
            try:
                async with asyncio.timeout(wait):
                    await self._told.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(self._batch)  # others share the signing
            self._told.clear()
            start = self._clock.monotonic()
            try:
                done = await self.update()
            except Exception:  # noqa: BLE001 - whatever it is, this must not end
                _log.exception("cannot publish revocation lists")
                done = False
            took = self._clock.monotonic() - start
            await asyncio.sleep(took * (_SHARE - 1))
            wait = _ROUND_SECONDS if done else _RETRY_SECONDS

    async def update(self) -> bool:
        """Signs every list that is due, and renews responders; whether all that is due was done.

        Raises:
            Unavailable: the database cannot answer now.
        """
        async with self._lock:
            now = self._clock.now()
            heads = await self._store.read(revocation_lists.heads)
            done = True
            for authority in await self._store.read(authorities.every):
                if authority.not_before <= now <= authority.not_after:
                    done = await self._update_one(authority, heads, now) and done
            return done

    async def find(self, authority_id: str, shard: int) -> PublishedList:
        """The newest list of a shard; it is made if there is none yet.

        Raises:
            NotFound: there is no such shard, or nobody here can sign its list.
            Unavailable: the database cannot answer now.
        """
        found = await self._store.read(lambda tx: revocation_lists.get(tx, authority_id, shard))
        if found is None:
            authority = await self._store.read(lambda tx: authorities.get(tx, authority_id))
            if shard in revocation_lists.shards_of(authority) and authority.sealed_key:
                await self.update()
                found = await self._store.read(
                    lambda tx: revocation_lists.get(tx, authority_id, shard)
                )
        if found is None:
            raise NotFound("no such revocation list")
        return found

    async def heads(self) -> list[ListHead]:
        """Every list there is, by authority and shard."""
        return list((await self._store.read(revocation_lists.heads)).values())

    async def _update_one(
        self, authority: Authority, heads: dict[tuple[str, int], ListHead], now: datetime
    ) -> bool:
        counts = await self._store.read(lambda tx: revocation_lists.counts(tx, authority))
        try:
            if authority.sealed_key is not None:
                await self._responders.renew(authority, now)
            await self._sign_all(authority, list(_due(authority, heads, counts, now)), now)
        except NotFound as error:
            self._warn(authority, error.reason)
            return True  # until it is brought
        except CANNOT_SIGN as error:
            self._warn(authority, getattr(error, "reason", None) or repr(error))
            return False
        self._warned.pop(authority.id, None)
        return True

    async def _sign_all(self, authority: Authority, due: list[_Due], now: datetime) -> None:
        """Signs lists and publishes them together; those that were signed, if it cannot go on."""
        made: list[PublishedList] = []
        try:
            for one in due:
                made.append(await self._sign(authority, one, now))
        finally:
            if made:
                await self._store.write(lambda tx: [revocation_lists.put(tx, one) for one in made])

    async def _sign(self, authority: Authority, due: _Due, now: datetime) -> PublishedList:
        before = due.before
        # Nothing leaves the list of a clock that is behind or was ahead.
        seen = _NEVER if before is None else min(before.this_update, now) - _STAYS
        revoked: list[Revoked] = []
        at: revocation_lists.Cursor | None = revocation_lists.first_page(authority, due.shard)
        while at is not None:
            some, at = await self._store.read(
                lambda tx, at=at: revocation_lists.page(tx, authority, at, seen)  # type: ignore[misc]
            )
            revoked += some
            await asyncio.sleep(0)  # reading alone lets nobody else come between
        number = int(now.timestamp() * 1000)
        if before is not None:
            number = max(number, before.number + 1)
        der = await asyncio.to_thread(self._make, authority, due.shard, revoked, number, now)
        head = ListHead(
            authority.id,
            due.shard,
            number,
            due.covers,
            now,
            min(now + LIST_LIFETIME, authority.not_after),
        )
        return PublishedList(head, der)

    def _make(
        self, authority: Authority, shard: int, revoked: list[Revoked], number: int, now: datetime
    ) -> bytes:
        """Runs in a thread: a long list takes as long as hundreds of handshakes."""
        is_root = authority.kind is AuthorityKind.ROOT
        return sign_crl(
            Issuer(x509.load_der_x509_certificate(authority.certificate)),
            authorities.signing_key(self._custody, authority),
            revoked=revoked,
            scope=CrlScope(
                None if is_root else PkiUrls(authority.pki_url, authority.id).crl(shard),
                of_authorities=is_root,
            ),
            number=number,
            now=now,
            lifetime=LIST_LIFETIME,
        )

    def _warn(self, authority: Authority, why: str) -> None:
        now = self._clock.monotonic()
        if now - self._warned.get(authority.id, -_WARN_SECONDS) >= _WARN_SECONDS:
            self._warned[authority.id] = now
            _log.warning(
                "cannot sign a revocation list; the last one stays",
                authority=authority.id,
                kind=authority.kind.value,
                reason=why,
            )


def _due(
    authority: Authority,
    heads: dict[tuple[str, int], ListHead],
    counts: Counter[int],
    now: datetime,
) -> Iterator[_Due]:
    for shard in revocation_lists.shards_of(authority):
        head = heads.get((authority.id, shard))
        if head is None or head.covers != counts[shard] or _is_old(authority, head, now):
            yield _Due(shard, head, counts[shard])


def _is_old(authority: Authority, head: ListHead, now: datetime) -> bool:
    """An offline root's list is renewed when people do it; `ExpiryWatch` reminds them."""
    return not authority.is_offline and (
        now >= head.this_update + _RENEW_AFTER
        or now < head.this_update - _SKEW  # the clock was ahead when it was made
    )
