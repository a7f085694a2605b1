"""Policies, as operators create, change and delete them.

A policy begins with its first CA, or with the request for one where its root is not in this
process. What it says of leaves may be changed, what it says of its CAs may not.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import uuid4

from cryptography import x509

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.custody import KeyCustody
from fleetroot.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Unavailable
from fleetroot.ids import canonical, check_name
from fleetroot.pki import KeyType, name_key, parse_subject
from fleetroot.registry import (
    authorities,
    credentials,
    devices,
    etags,
    inventory,
    policies,
    requests,
    succession,
)
from fleetroot.registry.hub_trust import HubTrust
from fleetroot.registry.model import (
    Authority,
    AuthorityRequest,
    Namespace,
    Policy,
    PolicyDetails,
)
from fleetroot.registry.succession import PolicyChanged
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated

_ATTEMPTS: Final = 4
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class LeafLimits:
    """Within what a policy may choose how long its leaves live."""

    shortest: timedelta = 7 * _DAY
    longest: timedelta = 90 * _DAY

    def check(self, validity: timedelta) -> None:
        """Raises:
        InvalidArgument: the validity is out of them.
        """
        if not self.shortest <= validity <= self.longest:
            raise InvalidArgument(
                f"leaf validity: must be {self.shortest / _DAY:g} to {self.longest / _DAY:g} days "
                "(settings leaf_validity_min_days, leaf_validity_max_days)",
                reason="leaf validity out of range",
            )


@dataclass(frozen=True, slots=True)
class PolicyPatch:
    """What is to change; None: stays."""

    leaf_validity: timedelta | None = None
    leaf_key_types: frozenset[KeyType] | None = None


class PolicyAdministration:
    """The policies of every namespace."""

    def __init__(
        self,
        store: Store,
        custody: KeyCustody,
        trust: HubTrust,
        clock: Clock,
        limits: LeafLimits | None = None,
    ) -> None:
        self._store = store
        self._custody = custody
        self._trust = trust
        self._clock = clock
        self._limits = limits or LeafLimits()

    async def create(
        self,
        namespace: Namespace,
        name: str,
        *,
        leaf_validity: timedelta = policies.DEFAULT_LEAF_VALIDITY,
        leaf_key_types: Collection[KeyType] = policies.DEFAULT_LEAF_KEY_TYPES,
        authority_key_type: KeyType = KeyType.EC_P384,
        subject: str | None = None,
        bring_your_own_root: bool = False,
        by: Actor,
    ) -> Policy:
        """Creates a policy with its first CA; or, where the root is not ours or its key is kept
        elsewhere, with a key and a request that waits to be activated.

        Args:
            subject: of its CAs: RFC 4514 text or a common name; None: each gets one of its own.

        Raises:
            InvalidArgument: the name, the validity, a key type or the subject cannot be.
            AlreadyExists: there is one of that name, or of that subject; or the root has it.
            NotFound: the namespace has no credential.
        """
        check_name(name, "policy")
        self._limits.check(leaf_validity)
        _check_leaf_key_types(leaf_key_types)
        _check_authority_key_type(authority_key_type, is_external=bring_your_own_root)
        now = self._clock.now()
        policy = Policy(
            id=str(uuid4()),
            namespace_id=namespace.id,
            name=name,
            authority_id=None,
            leaf_validity=leaf_validity,
            leaf_key_types=frozenset(leaf_key_types),
            etag=devices.new_etag(),
            created_at=now,
            updated_at=now,
            authority_key_type=authority_key_type,
            external_root=bring_your_own_root,
            subject=_canonical_subject(subject),
            deleted_at=None,
        )
        root = (await self._store.read(lambda tx: credentials.get(tx, namespace.id))).root
        first = await succession.make_next(self._custody, namespace, root, policy, now)
        if isinstance(first, Authority):
            policy = replace(policy, authority_id=first.id)

        def unit(tx: Transaction) -> None:
            credential = credentials.get(tx, namespace.id)
            if credential.root.id != root.id:
                raise NotFound("the namespace has another credential now")
            if canonical(name) == canonical(credential.root_name):
                raise AlreadyExists(f"the namespace's root CA is called {name}")
            _check_subject_is_free(tx, policy)
            if isinstance(first, Authority):
                authorities.insert(tx, first, now)
            policies.insert(tx, policy)
            if isinstance(first, AuthorityRequest):
                requests.insert(tx, first)
            details = {"issuingAuthority": first.id, "bringYourOwnRoot": bring_your_own_root}
            audit.append(
                tx,
                Entry(
                    now, by, Action.CREATE_POLICY, f"policy/{name}", namespace.id, details=details
                ),
            )

        try:
            await self._store.write(unit)
        except ConstraintViolated as error:
            raise AlreadyExists(f"the policy {name} exists") from error
        return policy

    async def get(self, namespace: Namespace, name: str) -> PolicyDetails:
        """The policy of that name, with its CA.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(
            lambda tx: details_of(tx, policies.by_name(tx, namespace.id, name))
        )

    async def list_all(self, namespace: Namespace) -> list[PolicyDetails]:
        """Every policy of the namespace, by name."""
        return await self._store.read(
            lambda tx: [details_of(tx, each) for each in policies.of_namespace(tx, namespace.id)]
        )

    async def patch(
        self,
        namespace: Namespace,
        name: str,
        patch: PolicyPatch,
        *,
        if_match: str | None = None,
        by: Actor,
    ) -> PolicyDetails:
        """Changes what the policy's leaves are from now on. A CA that would cut such a leaf short
        is followed by another one in the same unit of work.

        Raises:
            NotFound: there is none of that name.
            InvalidArgument: the validity or the key types cannot be.
            EtagMismatch: it is not the version that `if_match` names.
            Conflict: the CA ends before such a leaf would, and is signed elsewhere.
        """
        if patch.leaf_validity is not None:
            self._limits.check(patch.leaf_validity)
        if patch.leaf_key_types is not None:
            _check_leaf_key_types(patch.leaf_key_types)
        for _ in range(_ATTEMPTS):
            try:
                return await self._patch_once(namespace, name, patch, if_match, by)
            except PolicyChanged:
                continue
        raise Unavailable("the policy is being changed by others", retry_after=1)

    async def _patch_once(
        self,
        namespace: Namespace,
        name: str,
        patch: PolicyPatch,
        if_match: str | None,
        by: Actor,
    ) -> PolicyDetails:
        now = self._clock.now()
        before = await self.get(namespace, name)
        policy = before.policy
        etags.check(if_match, policy.etag)
        after = replace(
            policy,
            leaf_validity=patch.leaf_validity or policy.leaf_validity,
            leaf_key_types=patch.leaf_key_types or policy.leaf_key_types,
        )
        root = (await self._store.read(lambda tx: credentials.get(tx, namespace.id))).root
        new = None
        if before.authority is not None and succession.is_due(after, before.authority, root, now):
            if not succession.needs_request(policy, root):
                new = await succession.make_next(self._custody, namespace, root, after, now)
            elif authorities.ends_at(before.authority) < now + after.leaf_validity:
                raise Conflict("the policy's CA ends before such a leaf would: renew it first")

        def unit(tx: Transaction) -> PolicyDetails:
            succession.check_same(tx, policy)
            policies.set_leaves(
                tx,
                policy,
                validity=after.leaf_validity,
                key_types=after.leaf_key_types,
                now=now,
            )
            changed = {
                "leafValiditySeconds": int(after.leaf_validity.total_seconds()),
                "leafKeyTypes": sorted(after.leaf_key_types),
            }
            if new is not None:
                succession.put(tx, self._trust, policy, new, now)
                changed["issuingAuthority"] = new.id
            audit.append(
                tx,
                Entry(
                    now, by, Action.UPDATE_POLICY, f"policy/{name}", namespace.id, details=changed
                ),
            )
            return details_of(tx, policies.get(tx, policy.id))

        return await self._store.write(unit)

    async def delete(
        self, namespace: Namespace, name: str, *, if_match: str | None = None, by: Actor
    ) -> None:
        """Deletes the policy: it issues nothing any more, and enrollments that name it fail to.
        What it issued works until it expires.

        Raises:
            NotFound: there is none of that name.
            EtagMismatch: it is not the version that `if_match` names.
            Conflict: with a root that is not ours, a certificate of it is not revoked.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            policy = policies.by_name(tx, namespace.id, name)
            etags.check(if_match, policy.etag)
            # Nobody here could put its CA on a revocation list afterwards.
            if policy.external_root and inventory.any_counts(tx, policy.id, now):
                raise Conflict(
                    "the policy has an external root: revoke every device of it first",
                    reason="external root and devices that are not revoked",
                )
            requests.remove_of_policy(tx, policy.id)
            policies.delete(tx, policy, now)
            audit.append(tx, Entry(now, by, Action.DELETE_POLICY, f"policy/{name}", namespace.id))

        await self._store.write(unit)


def details_of(tx: Transaction, policy: Policy) -> PolicyDetails:
    """The policy with its CA and the request that waits."""
    authority = authorities.get(tx, policy.authority_id) if policy.authority_id else None
    return PolicyDetails(policy, authority, requests.of_policy(tx, policy.id))


def _check_leaf_key_types(key_types: Collection[KeyType]) -> None:
    if not key_types:
        raise InvalidArgument("a policy must allow a key type")


def _check_authority_key_type(key_type: KeyType, *, is_external: bool) -> None:
    allowed = authorities.EXTERNAL_KEY_TYPES if is_external else authorities.AUTHORITY_KEY_TYPES
    if key_type not in allowed:
        of = " with an external root" if is_external else ""
        raise InvalidArgument(
            f"a CA{of} cannot have a key of type {key_type}, use {', '.join(sorted(allowed))}"
        )


def _canonical_subject(subject: str | None) -> str | None:
    if subject is None:
        return None
    try:
        return parse_subject(subject).rfc4514_string()
    except ValueError as error:
        raise InvalidArgument(f"subject: {error}") from error


def _check_subject_is_free(tx: Transaction, policy: Policy) -> None:
    """Raises:
    AlreadyExists: another policy of the namespace, or its root, has the subject.
    """
    if policy.subject is None:
        return
    wanted, living = name_key(parse_subject(policy.subject)), set()
    for other in policies.of_namespace(tx, policy.namespace_id):
        living.add(other.id)
        if other.subject and name_key(parse_subject(other.subject)) == wanted:
            raise AlreadyExists(f"the subject is that of policy {other.name}")
    for authority in authorities.of_namespace(tx, policy.namespace_id):
        if authority.policy_id is None or authority.policy_id in living:
            _check_differs(authority, wanted)


def _check_differs(authority: Authority, wanted: str) -> None:
    certificate = x509.load_der_x509_certificate(authority.certificate)
    if name_key(certificate.subject) == wanted:
        raise AlreadyExists("the subject is that of another CA of the namespace")
