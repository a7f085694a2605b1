"""What becomes of a policy's issuing CA after it began: it is followed by another in time, it is
revoked, or its certificate comes at last from whoever signed it.

Each is one unit of work. A crash leaves what was before or what comes after, and nothing between:
the keys of CAs that no commit knows are nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

import structlog
from cryptography import x509

from fleetroot import audit
from fleetroot.audit import SYSTEM, Action, Actor, Entry
from fleetroot.bus import OUTBOX, Bus
from fleetroot.clock import Clock
from fleetroot.custody import KeyCustody
from fleetroot.errors import Conflict, InvalidArgument, Unavailable
from fleetroot.pki import (
    ActivationRefused,
    ActivationRule,
    check_activation,
    read_authority_request,
)
from fleetroot.registry import (
    authorities,
    credentials,
    etags,
    namespaces,
    policies,
    requests,
    succession,
    third_party_lists,
)
from fleetroot.registry.hub_trust import HubTrust
from fleetroot.registry.model import (
    Authority,
    AuthorityRequest,
    Credential,
    Namespace,
    Policy,
    PolicyDetails,
)
from fleetroot.registry.policy_administration import details_of
from fleetroot.registry.publishing import CANNOT_SIGN
from fleetroot.registry.succession import PolicyChanged
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated

T = TypeVar("T")

_ATTEMPTS: Final = 4
_log = structlog.get_logger("fleetroot.lifecycle")


class Lifecycle:
    """Renews, revokes and activates issuing CAs."""

    def __init__(
        self, store: Store, custody: KeyCustody, trust: HubTrust, bus: Bus, clock: Clock
    ) -> None:
        self._store = store
        self._custody = custody
        self._trust = trust
        self._bus = bus
        self._clock = clock

    # --- one CA after the other

    async def renew(self, namespace: Namespace, name: str, *, by: Actor) -> PolicyDetails:
        """Lets another CA sign for the policy from now on, before it is due. Where CAs are signed
        elsewhere, a request for the next one begins to wait, and the old one goes on; one that
        waits already is left as it is.

        Raises:
            NotFound: there is no such policy.
            Unavailable: the root cannot sign now.
        """
        return await _attempt(lambda: self._renew_once(namespace, name, by))

    async def _renew_once(self, namespace: Namespace, name: str, by: Actor) -> PolicyDetails:
        now = self._clock.now()
        details, credential = await self._read(namespace, name)
        if details.request is not None:
            return details
        policy = details.policy
        new = await succession.make_next(self._custody, namespace, credential.root, policy, now)

        def unit(tx: Transaction) -> PolicyDetails:
            succession.check_same(tx, policy)
            succession.put(tx, self._trust, policy, new, now)
            action = (
                Action.REQUEST_ISSUER if isinstance(new, AuthorityRequest) else Action.ROTATE_ISSUER
            )
            _note(tx, action, policy, by, now, issuingAuthority=new.id, before=policy.authority_id)
            return details_of(tx, policies.get(tx, policy.id))

        return await self._store.write(unit)

    async def renew_due(self) -> None:
        """Renews every CA that would soon cut a leaf short. What cannot be renewed now is logged,
        and comes again with the next call.
        """
        for namespace, policy in await self._store.read(self._due):
            try:
                renewed = await self.renew(namespace, policy.name, by=SYSTEM)
            except CANNOT_SIGN as error:
                why = getattr(error, "reason", None) or repr(error)
                _log.error("cannot renew a CA", policy=policy.name, error=why)
                continue
            _log.warning(
                "a CA waits for its certificate" if renewed.request else "CA renewed",
                namespace=namespace.name,
                policy=policy.name,
            )

    def _due(self, tx: Transaction) -> list[tuple[Namespace, Policy]]:
        now, found = self._clock.now(), []
        for policy in policies.living(tx):
            details = details_of(tx, policy)
            credential = credentials.find(tx, policy.namespace_id)
            if details.request is not None or credential is None:
                continue
            # One without a CA lost it in a restore.
            if details.authority is None or succession.is_due(
                policy, details.authority, credential.root, now
            ):
                found.append((namespaces.get(tx, policy.namespace_id), policy))
        return found

    # --- revocation

    async def revoke_issuer(
        self, namespace: Namespace, name: str, *, if_match: str | None = None, by: Actor
    ) -> PolicyDetails:
        """Revokes every CA that signs or signed for the policy, and puts a new one in their place,
        trusted by every hub of the namespace. What they issued does not count from this commit on;
        live connections by it end, and the devices provision again. Where the root's key is kept
        elsewhere, a request for the new CA waits, and nothing is issued before it is activated.

        Raises:
            NotFound: there is no such policy.
            InvalidArgument: its root is not ours.
            Conflict: it has no CA.
            EtagMismatch: it is not the version that `if_match` names.
            Unavailable: the root cannot sign now.
        """
        details = await _attempt(lambda: self._revoke_once(namespace, name, if_match, by))
        self._bus.hint(OUTBOX)
        return details

    async def _revoke_once(
        self, namespace: Namespace, name: str, if_match: str | None, by: Actor
    ) -> PolicyDetails:
        now = self._clock.now()
        details, credential = await self._read(namespace, name)
        policy = details.policy
        etags.check(if_match, policy.etag)
        if policy.external_root:
            raise InvalidArgument(
                "the policy has an external root: revoke its CA there, and its devices here",
                reason="external root",
            )
        if policy.authority_id is None:
            raise Conflict("the policy has no CA that could be revoked", reason="no issuing CA")
        new = await succession.make_next(self._custody, namespace, credential.root, policy, now)

        def unit(tx: Transaction) -> tuple[PolicyDetails, list[Authority]]:
            succession.check_same(tx, policy)
            revoked = succession.revoke_all(tx, self._trust, policy, now)
            if isinstance(new, Authority):
                authorities.insert(tx, new, now)
                policies.set_authority(tx, policy, new.id, now)
                self._trust.trust(tx, namespace.id, new.id, now)
            else:
                requests.insert(tx, new)
            gone = [each.id for each in revoked]
            _note(tx, Action.REVOKE_ISSUER, policy, by, now, revoked=gone, issuingAuthority=new.id)
            return details_of(tx, policies.get(tx, policy.id)), revoked

        after, revoked = await self._store.write(unit)
        for each in revoked:
            self._custody.forget(authorities.key_name(each.namespace_id, each.id))
        return after

    # --- certificates that somebody else signs

    async def activate(
        self,
        namespace: Namespace,
        name: str,
        chain: str,
        *,
        if_match: str | None = None,
        by: Actor,
    ) -> PolicyDetails:
        """Takes the chain that was signed for the policy's request: PEM, the issuing CA first, up
        to and optionally including the root. It signs from this commit on, trusted by every hub
        that trusts its predecessor; or, where the predecessor was revoked, by every hub.

        Raises:
            NotFound: there is no such policy.
            Conflict: it waits for no certificate.
            InvalidArgument: the chain breaks a rule; the `rule` of its info says which.
            EtagMismatch: it is not the version that `if_match` names.
        """
        return await _attempt(lambda: self._activate_once(namespace, name, chain, if_match, by))

    async def _activate_once(
        self, namespace: Namespace, name: str, chain: str, if_match: str | None, by: Actor
    ) -> PolicyDetails:
        now = self._clock.now()
        details, credential = await self._read(namespace, name)
        policy, request = details.policy, details.request
        etags.check(if_match, policy.etag)
        if request is None:
            raise Conflict("the policy waits for no certificate", reason="not pending")
        new = _activated(policy, request, credential, chain, now)

        def unit(tx: Transaction) -> PolicyDetails:
            succession.check_same(tx, policy)
            if new.issuer_id is None and third_party_lists.is_listed(tx, new):
                raise _refusal("revoked", "a certificate of it is on a revocation list")
            waiting = requests.of_policy(tx, policy.id)
            if waiting is None or waiting.id != request.id:
                raise PolicyChanged
            requests.remove_of_policy(tx, policy.id)
            # As the row has it now: a change of the master key seals it anew.
            signs = replace(new, sealed_key=waiting.sealed_key)
            succession.put(tx, self._trust, policy, signs, now)
            _note(
                tx,
                Action.ACTIVATE_ISSUER,
                policy,
                by,
                now,
                issuingAuthority=new.id,
                before=policy.authority_id,
            )
            return details_of(tx, policies.get(tx, policy.id))

        try:
            return await self._store.write(unit)
        except ConstraintViolated as error:
            raise Conflict("the certificate is that of another CA") from error

    async def _read(self, namespace: Namespace, name: str) -> tuple[PolicyDetails, Credential]:
        return await self._store.read(
            lambda tx: (
                details_of(tx, policies.by_name(tx, namespace.id, name)),
                credentials.get(tx, namespace.id),
            )
        )


async def _attempt(once: Callable[[], Awaitable[T]]) -> T:
    """Decides again where somebody else changed the policy in between."""
    for _ in range(_ATTEMPTS):
        try:
            return await once()
        except PolicyChanged:
            continue
    raise Unavailable("the policy is being changed by others", retry_after=1)


def _activated(
    policy: Policy, request: AuthorityRequest, credential: Credential, chain: str, now: datetime
) -> Authority:
    root = None
    if request.issuer_id is not None:
        root = x509.load_der_x509_certificate(credential.root.certificate)
    try:
        checked = check_activation(chain, read_authority_request(request.request), now, root=root)
    except ActivationRefused as refused:
        raise _refusal(refused.rule, refused.message) from refused
    new = authorities.of_activated(request, checked)
    if authorities.ends_at(new) < now + policy.leaf_validity:
        raise _refusal(
            ActivationRule.REMAINING_VALIDITY, "the chain ends before a leaf of the policy would"
        )
    return new


def _refusal(rule: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        f"certificateChain: {message} (rule {rule})",
        info={"rule": rule},
        reason=f"activation refused: {rule}",
    )


def _note(
    tx: Transaction,
    action: Action,
    policy: Policy,
    by: Actor,
    now: datetime,
    **details: object,
) -> None:
    audit.append(
        tx,
        Entry(now, by, action, f"policy/{policy.name}", policy.namespace_id, details=details),
    )
