"""How one issuing CA follows another.

The next CA of a policy is made outside of any transaction, and is nothing until one unit of work
puts it in place. That unit also lets every hub trust it that trusts its predecessor, so there is no
moment at which it signs and is not trusted. The predecessor stays trusted: what it signed is good
to its end.

A CA that somebody else signs begins as a request, which waits while the predecessor goes on.

A policy whose CAs were revoked and that has no other yet, as a restore leaves it, is due like one
whose CA ends soon; its next CA is trusted by every hub of the namespace.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

from fleetroot.custody import KeyCustody
from fleetroot.errors import Unavailable
from fleetroot.pki import IssuerExpired, parse_subject
from fleetroot.registry import authorities, outbox, policies, requests
from fleetroot.registry.hub_trust import HubTrust
from fleetroot.registry.model import Authority, AuthorityRequest, Namespace, Policy
from fleetroot.storage import Transaction

# How long before it would cut a leaf short a CA is followed by the next one.
ROTATION_MARGIN: Final = timedelta(days=30)
REQUEST_MARGIN: Final = timedelta(days=90)  # where people have to sign the next one
_LEAST_GAIN: Final = timedelta(days=1)


class PolicyChanged(Exception):
    """The policy is not as it was read."""


def needs_request(policy: Policy, root: Authority) -> bool:
    """Whether the policy's CAs are signed elsewhere."""
    return policy.external_root or root.is_offline


def is_due(policy: Policy, issuing: Authority, root: Authority, now: datetime) -> bool:
    """Whether the policy's CA is to be followed by another one, lest it cut a leaf short."""
    left = authorities.ends_at(issuing) - now
    if needs_request(policy, root):
        return left < policy.leaf_validity + REQUEST_MARGIN
    # Under a root that ends soon itself, another CA would not live longer.
    gain = min(now + authorities.ISSUING_VALIDITY, root.not_after) - issuing.not_after
    return left < policy.leaf_validity + ROTATION_MARGIN and gain > _LEAST_GAIN


async def make_next(
    custody: KeyCustody, namespace: Namespace, root: Authority, policy: Policy, now: datetime
) -> Authority | AuthorityRequest:
    """The next CA of the policy, or the request for one; nothing is stored yet. In a thread,
    because an RSA key takes seconds.

    Raises:
        Unavailable: the root is not valid now.
    """
    name = f"Fleetroot {namespace.name} {policy.name}"
    subject = parse_subject(policy.subject) if policy.subject else None
    if needs_request(policy, root):
        return await asyncio.to_thread(
            authorities.make_request,
            custody,
            root=root,
            is_external=policy.external_root,
            name=name,
            key_type=policy.authority_key_type,
            now=now,
            policy_id=policy.id,
            subject=subject,
        )
    try:
        return await asyncio.to_thread(
            authorities.make_issuing,
            custody,
            root=root,
            name=name,
            key_type=policy.authority_key_type,
            now=now,
            policy_id=policy.id,
            subject=subject,
        )
    except IssuerExpired as error:
        raise Unavailable("the root cannot sign now", reason=str(error)) from error


def check_same(tx: Transaction, policy: Policy) -> None:
    """Raises:
    PolicyChanged: the policy was changed or deleted since it was read.
    """
    if policies.get(tx, policy.id).etag != policy.etag:
        raise PolicyChanged


def put(
    tx: Transaction,
    trust: HubTrust,
    policy: Policy,
    new: Authority | AuthorityRequest,
    now: datetime,
) -> None:
    """Lets the new CA sign for the policy from this commit on, trusted by every hub that trusts
    its predecessor. A request begins to wait, in place of one that waits already.
    """
    if isinstance(new, AuthorityRequest):
        requests.remove_of_policy(tx, policy.id)
        requests.insert(tx, new)
        policies.set_authority(tx, policy, policy.authority_id, now)  # another version of it
        return
    had_others = bool(authorities.of_policy(tx, policy.namespace_id, policy.id))
    authorities.insert(tx, new, now)
    policies.set_authority(tx, policy, new.id, now)
    if policy.authority_id is not None:
        trust.succeed(tx, policy.authority_id, new.id, now)
    elif had_others:
        trust.trust(tx, policy.namespace_id, new.id, now)


def revoke_all(tx: Transaction, trust: HubTrust, policy: Policy, now: datetime) -> list[Authority]:
    """Revokes every CA that signs or signed for the policy, and what waits for a certificate;
    nothing signs for it from this commit on. Returns those that were not revoked before.
    """
    revoked = [
        each
        for each in authorities.of_policy(tx, policy.namespace_id, policy.id)
        if each.not_after >= now and authorities.revoke(tx, each, now)
    ]
    for each in revoked:
        trust.distrust(tx, each.id)
        outbox.append(
            tx,
            outbox.Kind.ISSUER_DISTRUSTED,
            namespace_id=policy.namespace_id,
            subject=each.id,
            now=now,
        )
    requests.remove_of_policy(tx, policy.id)
    policies.set_authority(tx, policy, None, now)
    return revoked
