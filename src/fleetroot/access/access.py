"""The room's face: tokens are made, rotated and revoked here, and callers authenticated."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from fleetroot import audit
from fleetroot.access import approvals, issuers, oidc, tokens
from fleetroot.access.approvals import Approval, Guarded
from fleetroot.access.issuers import PublishedKeys
from fleetroot.access.model import EVERYWHERE, Caller, Grant, Role, Token
from fleetroot.access.oidc import OidcIssuer
from fleetroot.access.tokens import KeptToken, TokenText
from fleetroot.audit import Action, Actor, ActorKind, Entry
from fleetroot.clock import Clock, iso8601
from fleetroot.errors import (
    AlreadyExists,
    ApprovalNeeded,
    Forbidden,
    InvalidArgument,
    Unauthorized,
)
from fleetroot.ids import check_name
from fleetroot.storage import Store, Transaction

FIRST: Final = "bootstrap"
DEFAULT_LIFETIME: Final = timedelta(days=90)
DEFAULT_OVERLAP: Final = timedelta(hours=1)
MAX_LIFETIME: Final = timedelta(days=3660)
_RENEW_BEFORE: Final = timedelta(days=30)  # of the first token, by itself
_MAX_OVERLAP: Final = timedelta(days=7)
_USE_IS_NEWS: Final = timedelta(minutes=1)


class Access:
    """Who calls, and the tokens that say so."""

    def __init__(
        self, store: Store, clock: Clock, *, second_person_for: Collection[Guarded] = ()
    ) -> None:
        self._store = store
        self._clock = clock
        self._second_person_for = frozenset(second_person_for)
        self._published = PublishedKeys(clock)
        self._used: dict[str, datetime] = {}  # token ids, and uses that are not written yet

    async def authenticate(self, bearer: str, peer: str | None, trace_id: str) -> Caller:
        """Who bears this token.

        Raises:
            Unauthorized: it is nobody's, or not good any more.
            Unavailable: the database cannot answer now, or an issuer.
        """
        text, now = TokenText.parse(bearer), self._clock.now()
        if text is None:
            return await self._of_issuer(bearer, now, peer, trace_id)
        kept = await self._store.read(lambda tx: tokens.find(tx, text.id))
        if kept is None or not kept.is_good(text, now):
            raise Unauthorized("no operator token")
        token = kept.token
        if token.last_used_at is None or now - token.last_used_at > _USE_IS_NEWS:
            self._used[token.id] = now
        actor = Actor(ActorKind.TOKEN, token.name, peer, trace_id)
        return Caller(actor, (token.grant,))

    async def _of_issuer(
        self, bearer: str, now: datetime, peer: str | None, trace_id: str
    ) -> Caller:
        url = oidc.issuer_of(bearer)
        if url is None:
            raise Unauthorized("no operator token")
        issuer = await self._store.read(lambda tx: issuers.by_url(tx, url))
        if issuer is None:
            raise Unauthorized("token of an unknown issuer")
        keys = await self._published.get(issuer, oidc.key_id_of(bearer))
        return oidc.verify(bearer, issuer, keys, now, peer=peer, trace_id=trace_id)

    async def write_uses(self) -> None:
        """Writes when tokens were used last."""
        used, self._used = self._used, {}

        def unit(tx: Transaction) -> None:
            for token_id, at in used.items():
                tokens.used(tx, token_id, at)

        if used:
            await self._store.write(unit)

    # --- tokens

    async def tokens(self) -> list[Token]:
        """Every token, oldest first; those that are revoked or expired too."""
        return await self._store.read(tokens.all_)

    async def create_token(
        self,
        name: str,
        grant: Grant,
        *,
        by: Actor,
        lifetime: timedelta = DEFAULT_LIFETIME,
    ) -> tuple[Token, TokenText]:
        """Makes a token; its text is told here and never again.

        Raises:
            InvalidArgument: the name or the lifetime cannot be.
            AlreadyExists: another token of that name is not revoked.
        """
        check_name(name, "token")
        _check_lifetime(lifetime)
        now, text = self._clock.now(), TokenText.new()
        token = Token(
            id=text.id,
            name=name,
            grant=grant,
            created_by=by.name,
            created_at=now,
            rotated_at=None,
            expires_at=now + lifetime,
            former_until=None,
            last_used_at=None,
            revoked_at=None,
        )

        def unit(tx: Transaction) -> None:
            if any(other.name == name and other.revoked_at is None for other in tokens.all_(tx)):
                raise AlreadyExists(f"there is a token {name} that is not revoked")
            tokens.insert(tx, token, text)
            self._log(tx, Action.CREATE_TOKEN, token, by, now)

        await self._store.write(unit)
        return token, text

    async def first_token(self, kept: str | None) -> TokenText | None:
        """The owner's token of the first start, by which everybody else's are made: `kept`, while
        it is good for long enough, else a new one; None once it was revoked.

        Args:
            kept: the text that was handed out before, if it is still there.
        """
        before = await self._first()
        if before is None:
            made = await self.create_token(FIRST, Grant(Role.OWNER, EVERYWHERE), by=audit.SYSTEM)
            return made[1]
        if before.token.revoked_at is not None:
            return None
        text = TokenText.parse(kept or "")
        is_it = text is not None and hmac.compare_digest(text.sha256, before.sha256)
        if is_it and self._clock.now() < before.token.expires_at - _RENEW_BEFORE:
            return text
        return (await self.rotate_token(before.token.id, by=audit.SYSTEM))[1]

    async def _first(self) -> KeptToken | None:
        def read(tx: Transaction) -> KeptToken | None:
            named = [token for token in tokens.all_(tx) if token.name == FIRST]
            return tokens.find(tx, named[-1].id) if named else None

        return await self._store.read(read)

    async def rotate_token(
        self,
        name: str,
        *,
        by: Actor,
        lifetime: timedelta = DEFAULT_LIFETIME,
        overlap: timedelta = DEFAULT_OVERLAP,
    ) -> tuple[Token, TokenText]:
        """Gives a token a new secret and a new lifetime; the old secret is good for `overlap`
        more, so that nobody who has it stumbles.

        Raises:
            NotFound: there is no such token.
            InvalidArgument: it is revoked, or a duration is out of range.
        """
        _check_lifetime(lifetime)
        if not timedelta() <= overlap <= _MAX_OVERLAP:
            raise InvalidArgument(f"overlap: at most {_MAX_OVERLAP.days} days")
        now = self._clock.now()

        def unit(tx: Transaction) -> tuple[Token, TokenText]:
            token = tokens.get(tx, name)
            if token.revoked_at is not None:
                raise InvalidArgument(f"the token {token.name} is revoked")
            text = TokenText.new(token.id)
            rotated = replace(
                token, rotated_at=now, expires_at=now + lifetime, former_until=now + overlap
            )
            tokens.rotate(tx, text, until=now + overlap, expires=now + lifetime, now=now)
            self._log(tx, Action.ROTATE_TOKEN, rotated, by, now)
            return rotated, text

        return await self._store.write(unit)

    async def revoke_token(self, name: str, *, by: Actor) -> Token:
        """Ends a token at once, and for ever.

        Raises:
            NotFound: there is no such token.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> Token:
            token = tokens.get(tx, name)
            if token.revoked_at is not None:
                return token
            tokens.revoke(tx, token.id, now)
            self._log(tx, Action.REVOKE_TOKEN, token, by, now)
            return replace(token, revoked_at=now)

        return await self._store.write(unit)

    # --- the second person

    async def claim(self, action: Guarded, subject: str, *, by: Actor) -> None:
        """Lets the caller pass once, if the action needs nobody else or somebody else has approved
        it.

        Raises:
            ApprovalNeeded: nobody has; the request for it is noted, and `info` names it.
        """
        if action not in self._second_person_for:
            return
        now, name = self._clock.now(), approvals.name_of(by)

        def unit(tx: Transaction) -> Approval | None:
            """What still has to be approved."""
            there = approvals.open_ones(tx, action, subject, name, now)
            for approval in there:
                if approval.approved and approvals.use(tx, approval.id, now):
                    self._log_approval(tx, Action.USE_APPROVAL, approval, by, now)
                    return None
            pending = [approval for approval in there if approval.approved is None]
            if pending:
                return pending[0]
            made = Approval(
                id=str(uuid4()),
                action=action.value,
                subject=subject,
                requested_by=name,
                requested_at=now,
                expires_at=now + approvals.LIFETIME,
                decided_by=None,
                decided_at=None,
                approved=None,
                used_at=None,
            )
            approvals.insert(tx, made)
            self._log_approval(tx, Action.REQUEST_APPROVAL, made, by, now)
            return made

        pending = await self._store.write(unit)
        if pending is not None:
            raise ApprovalNeeded(
                f"this needs a second person: fleetroot approval approve {pending.id}",
                info={"approvalId": pending.id, "expiresAt": iso8601(pending.expires_at)},
                reason="needs a second person",
            )

    async def approvals(self) -> list[Approval]:
        """The newest requests for approval, newest first."""
        return await self._store.read(approvals.newest)

    async def decide(self, approval_id: str, *, approve: bool, by: Actor) -> Approval:
        """Approves a request, or rejects it.

        Raises:
            NotFound: there is none of that id.
            Forbidden: the caller is who asked.
            AlreadyExists: it was decided already, or its time is over.
        """
        now, name = self._clock.now(), approvals.name_of(by)

        def unit(tx: Transaction) -> Approval:
            approval = approvals.get(tx, approval_id)
            if approval.requested_by == name and approve:
                raise Forbidden(
                    "a second person must approve this, not the one who asked",
                    reason="own approval",
                )
            is_late = now >= approval.expires_at
            if is_late or not approvals.decide(tx, approval_id, name, approve, now):
                raise AlreadyExists(f"the approval is {approval.status(now)} already")
            action = Action.GIVE_APPROVAL if approve else Action.REJECT_APPROVAL
            self._log_approval(tx, action, approval, by, now)
            return approvals.get(tx, approval_id)

        return await self._store.write(unit)

    @staticmethod
    def _log_approval(
        tx: Transaction, action: Action, approval: Approval, by: Actor, now: datetime
    ) -> None:
        details = {"approval": approval.id, "action": approval.action}
        audit.append(tx, Entry(now, by, action, approval.subject, details=details))

    # --- OIDC issuers

    async def oidc_issuers(self) -> list[OidcIssuer]:
        """Every issuer whose tokens are taken, by name."""
        return await self._store.read(issuers.all_)

    async def put_oidc_issuer(self, issuer: OidcIssuer, *, by: Actor) -> None:
        """Takes an issuer's tokens from now on, or changes what they give.

        Raises:
            InvalidArgument: it cannot be one.
            AlreadyExists: another name has this issuer.
        """
        check_name(issuer.name, "OIDC issuer")
        issuers.check(issuer)
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            there = issuers.by_url(tx, issuer.issuer)
            if there is not None and there.name != issuer.name:
                raise AlreadyExists(f"{there.name} has this issuer")
            issuers.put(tx, issuer)
            roles = {value: grant.role.value for value, grant in issuer.roles.items()}
            details = {"issuer": issuer.issuer, "audience": issuer.audience, "roles": roles}
            subject = f"oidc-issuer/{issuer.name}"
            audit.append(tx, Entry(now, by, Action.PUT_OIDC_ISSUER, subject, details=details))

        await self._store.write(unit)

    async def remove_oidc_issuer(self, name: str, *, by: Actor) -> None:
        """Takes an issuer's tokens no more.

        Raises:
            NotFound: there is none of that name.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            issuers.remove(tx, name)
            audit.append(tx, Entry(now, by, Action.DELETE_OIDC_ISSUER, f"oidc-issuer/{name}"))

        await self._store.write(unit)

    @staticmethod
    def _log(tx: Transaction, action: Action, token: Token, by: Actor, now: datetime) -> None:
        audit.append(
            tx,
            Entry(
                now,
                by,
                action,
                f"token/{token.id}",
                token.grant.namespace_id,
                details={
                    "name": token.name,
                    "role": token.grant.role.value,
                    "expiresAt": iso8601(token.expires_at),
                },
            ),
        )


def _check_lifetime(lifetime: timedelta) -> None:
    if not timedelta(minutes=1) <= lifetime <= MAX_LIFETIME:
        raise InvalidArgument(f"lifetime: from a minute to {MAX_LIFETIME.days} days")
