"""Path validation: does this chain lead from a device's leaf to one of these anchors, now?

The library builds and checks the path. Before it, this module bounds what it is given, checks the
leaf and drops what leads nowhere; inside it, every CA is held to `rules.ca_problem`, so that a CA
that breaks a rule is passed over and another path is tried; after it, the path is checked once
more. A refusal has a typed reason, found by inspection of our own and never by reading the
library's messages: the reason may at worst be a wrong word, and cannot turn a refusal into
acceptance.

What the library decides here: signatures, validity of every certificate, basic constraints and
path lengths, unknown critical extensions, name constraints. Revocation is the caller's.

Source: RFC 5280 §6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from fleetroot.pki.certificate import to_der
from fleetroot.pki.rules import (
    ChainRefusal,
    ca_problem,
    form_problem,
    has_free_mailbox,
    has_name_constraints,
    identifiers_agree,
    is_named_by,
    is_readable,
    is_signed_by,
    issuer_problem,
    issuers_key_identifier,
    key_identifier,
    known_problem,
    leaf_problem,
)
from fleetroot.pki.unreadable import UNREADABLE

MAX_CERTIFICATES: Final = 5
MAX_CHAIN_BYTES: Final = 32 * 1024

_MESSAGES: Final[dict[ChainRefusal, str]] = {
    ChainRefusal.EMPTY: "no certificate was presented",
    ChainRefusal.TOO_MANY_CERTIFICATES: f"more than {MAX_CERTIFICATES} certificates",
    ChainRefusal.TOO_LARGE: f"the certificates are larger than {MAX_CHAIN_BYTES} bytes",
    ChainRefusal.MALFORMED: "a certificate cannot be read",
    ChainRefusal.LEAF_IS_CA: "a CA certificate cannot be a device's certificate",
    ChainRefusal.WEAK_KEY: "a certificate's key is too weak or of a kind that is not accepted",
    ChainRefusal.WEAK_SIGNATURE: "a certificate's signature algorithm is too weak or unknown",
    ChainRefusal.EXPIRED: "a certificate has expired",
    ChainRefusal.NOT_YET_VALID: "a certificate is not valid yet",
    ChainRefusal.UNTRUSTED: "the certificates do not lead to a trusted CA",
    ChainRefusal.NOT_A_CA: "a certificate in the place of an issuer is not a CA's",
    ChainRefusal.PATH_LENGTH: "more CAs in a row than a CA's path length permits",
    ChainRefusal.KEY_CERT_SIGN_MISSING: "a CA's key usage does not allow signing certificates",
    ChainRefusal.DIGITAL_SIGNATURE_MISSING: "key usage does not allow signing",
    ChainRefusal.CLIENT_AUTH_MISSING: "extended key usage clientAuth is missing",
    ChainRefusal.NAME_CONSTRAINT: "a CA's name constraints do not allow the name",
    ChainRefusal.UNKNOWN_CRITICAL_EXTENSION: "a critical extension is not understood",
    ChainRefusal.BAD_SIGNATURE: "a certificate's signature does not verify",
    ChainRefusal.INVALID: "the certificates do not form a valid chain",
}


class ChainRefused(Exception):  # a refusal, as everywhere here
    """A chain is refused.

    Attributes:
        reason: which rule it breaks.
        message: the same in words that may be shown to the peer.
    """

    def __init__(self, reason: ChainRefusal) -> None:
        self.reason = reason
        self.message = _MESSAGES[reason]
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class VerifiedChain:
    """A chain that holds.

    Attributes:
        path: leaf first, the anchor last.
    """

    leaf: x509.Certificate
    anchor: x509.Certificate
    path: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class _Anchor:
    certificate: x509.Certificate
    store: Store
    name: bytes
    key_identifier: bytes | None


def _anchor(certificate: x509.Certificate) -> _Anchor:
    if not is_readable(certificate):
        raise ValueError("a trusted certificate cannot be read")
    name = certificate.subject.public_bytes()
    return _Anchor(certificate, Store([certificate]), name, key_identifier(certificate))


class Anchors:
    """CA certificates to which chains may lead, roots or issuing CAs; immutable.

    An anchor is trusted for its name and key, and still has to keep the rules of every CA,
    its own validity among them. Thousands of them are found by name and key identifier.

    Args:
        certificates: the CAs'.
        known: others, of which many may be the same; those are not read again.

    Raises:
        ValueError: the names, dates or extensions of one cannot be read.
    """

    __slots__ = ("_anchors", "_by_subject")

    def __init__(
        self, certificates: Iterable[x509.Certificate], known: Anchors | None = None
    ) -> None:
        read = {} if known is None else known._anchors  # noqa: SLF001 - of this very class
        self._anchors: dict[x509.Certificate, _Anchor] = {
            each: read.get(each) or _anchor(each) for each in certificates
        }
        self._by_subject: dict[bytes, dict[bytes | None, list[_Anchor]]] = {}
        for anchor in self._anchors.values():
            namesakes = self._by_subject.setdefault(anchor.name, {})
            namesakes.setdefault(anchor.key_identifier, []).append(anchor)

    def __len__(self) -> int:
        return len(self._anchors)

    def __iter__(self) -> Iterator[x509.Certificate]:
        return iter(self._anchors)

    def __contains__(self, certificate: object) -> bool:
        return certificate in self._anchors

    def plausible_issuers(self, certificates: Iterable[x509.Certificate]) -> list[_Anchor]:
        """The anchors that could have signed one of these, by name and key identifier; those of the
        first certificate first.
        """
        return list(
            dict.fromkeys(anchor for child in certificates for anchor in self._issuers_of(child))
        )

    def _issuers_of(self, child: x509.Certificate) -> Iterator[_Anchor]:
        namesakes = self._by_subject.get(child.issuer.public_bytes(), {})
        wanted = issuers_key_identifier(child)
        for identifier in namesakes if wanted is None else (wanted, None):
            yield from namesakes.get(identifier, ())


def load_chain(certificates: Sequence[bytes]) -> list[x509.Certificate]:
    """Reads a chain as a peer sent it, in DER, bounded before it is parsed.

    Names, dates and extensions of what it returns can be read without an exception.

    Raises:
        ChainRefused: EMPTY, TOO_MANY_CERTIFICATES, TOO_LARGE or MALFORMED.
    """
    if not certificates:
        raise ChainRefused(ChainRefusal.EMPTY)
    # Room for one anchor: peers may send the root along.
    if len(certificates) > MAX_CERTIFICATES + 1:
        raise ChainRefused(ChainRefusal.TOO_MANY_CERTIFICATES)
    if sum(map(len, certificates)) > MAX_CHAIN_BYTES:
        raise ChainRefused(ChainRefusal.TOO_LARGE)
    try:
        chain = [x509.load_der_x509_certificate(der) for der in certificates]
    except UNREADABLE as error:
        raise ChainRefused(ChainRefusal.MALFORMED) from error
    if not all(map(is_readable, chain)):
        raise ChainRefused(ChainRefusal.MALFORMED)
    return chain


def verify_chain(
    chain: Sequence[x509.Certificate], anchors: Anchors, at: datetime
) -> VerifiedChain:
    """Checks that `chain` leads from its leaf to an anchor.

    Args:
        chain: the leaf first, then intermediates in any order; the anchor may be among them.
        anchors: where the path may end.
        at: the time of this decision, with a zone.

    Raises:
        ChainRefused: it does not.
    """
    intermediates = _bounded_intermediates(chain, anchors)
    leaf, at = chain[0], at.astimezone(UTC)
    if not all(map(is_readable, (leaf, *intermediates))):
        raise ChainRefused(ChainRefusal.MALFORMED)
    if (problem := leaf_problem(leaf, at)) is not None:
        raise ChainRefused(problem)
    try:
        plausible = anchors.plausible_issuers([leaf, *intermediates])
        useful, candidates = _leading_to(plausible, leaf, intermediates, at)
        for anchor in candidates:
            if (path := _path(leaf, useful, anchor, at)) is not None:
                return VerifiedChain(leaf, anchor.certificate, path)
        reason = (
            _diagnosis(leaf, intermediates, anchors, at) if plausible else ChainRefusal.UNTRUSTED
        )
    except UNREADABLE:  # nothing known: whatever is here, is readable
        reason = ChainRefusal.MALFORMED
    raise ChainRefused(reason)


def check_known(certificate: x509.Certificate, at: datetime) -> None:
    """Lets a certificate pass, one of `load_chain`, that is known byte for byte.

    Raises:
        ChainRefused: it is not valid at this time, or its key or signature is weak.
    """
    if (problem := known_problem(certificate, at.astimezone(UTC))) is not None:
        raise ChainRefused(problem)


def _bounded_intermediates(
    chain: Sequence[x509.Certificate], anchors: Anchors
) -> list[x509.Certificate]:
    """What follows the leaf, without anchors and repetitions; refuses what is not small."""
    if not chain:
        raise ChainRefused(ChainRefusal.EMPTY)
    size = 0
    distinct: dict[x509.Certificate, None] = {}
    for certificate in chain:
        size += len(to_der(certificate))
        if size > MAX_CHAIN_BYTES:
            raise ChainRefused(ChainRefusal.TOO_LARGE)
        if certificate not in anchors:
            distinct[certificate] = None
        if len(distinct) > MAX_CERTIFICATES:
            raise ChainRefused(ChainRefusal.TOO_MANY_CERTIFICATES)
    distinct.pop(chain[0], None)
    return list(distinct)


def _leading_to(
    anchors: list[_Anchor],
    leaf: x509.Certificate,
    intermediates: list[x509.Certificate],
    at: datetime,
) -> tuple[list[x509.Certificate], list[_Anchor]]:
    """The intermediates that stand above the leaf, and the anchors that stand above those.

    The library tries every path and checks a signature again each time it comes by, and CAs that
    sign each other make many paths: with four of them, anybody could have half a second of CPU.
    Here each CA is reached once, and the library gets to see only what leads to an anchor. One
    intermediate alone makes no ring, and is spared the second check.
    """
    if len(intermediates) <= 1:
        return intermediates, anchors
    reached = [leaf]
    for child in reached:  # grows while it is walked
        reached += [
            each
            for each in intermediates
            if each not in reached
            and is_named_by(child, each)
            and issuer_problem(each, 0, at) is None
            and is_signed_by(child, each)
        ]
    return reached[1:], [
        anchor
        for anchor in anchors
        if any(is_signed_by(child, anchor.certificate) for child in reached)
    ]


def _accept_ca(
    _policy: Policy, certificate: x509.Certificate, _constraints: x509.BasicConstraints
) -> None:
    """Called by the library for every CA that it considers; raising passes the CA over."""
    if (problem := ca_problem(certificate)) is not None:
        raise ValueError(problem)


# Third-party leaves need no SAN, and CAs of old need no critical basic constraints, so the library
# asks for little; the rules of this room ask for the rest.
_LEAF_POLICY: Final = ExtensionPolicy.permit_all()
_CA_POLICY: Final = ExtensionPolicy.permit_all().require_present(
    x509.BasicConstraints, Criticality.AGNOSTIC, _accept_ca
)


def _path(
    leaf: x509.Certificate,
    intermediates: list[x509.Certificate],
    anchor: _Anchor,
    at: datetime,
) -> tuple[x509.Certificate, ...] | None:
    verifier = (
        PolicyBuilder()
        .time(at)
        .store(anchor.store)
        .max_chain_depth(MAX_CERTIFICATES - 1)
        .extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY)
        .build_client_verifier()
    )
    try:
        path = tuple(verifier.verify(leaf, intermediates).chain)
    except VerificationError:
        return None
    # Held by the library already, or by the leaf not being a CA; it costs nothing to know it here.
    if len(path) < 2 or path[0] != leaf or path[-1] != anchor.certificate:
        return None
    if not all(identifiers_agree(child, issuer) for child, issuer in pairwise(path)):
        return None
    # The library drops what is less than a second from the time.
    if any(at > each.not_valid_after_utc for each in path) or has_free_mailbox(path):
        return None
    return path


def _diagnosis(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    anchors: Anchors,
    at: datetime,
) -> ChainRefusal:
    """Why no path was found: walks from the leaf up, and names the first obstacle."""
    walked = [leaf]
    while len(walked) == 1 or walked[-1] not in anchors:
        child = walked[-1]
        named = [each.certificate for each in anchors.plausible_issuers([child])]
        named += [
            each
            for each in intermediates
            if is_named_by(child, each) and identifiers_agree(child, each)
        ]
        named = [each for each in named if each not in walked]
        if not named:
            return ChainRefusal.UNTRUSTED
        signers = [each for each in named if is_signed_by(child, each)]
        if not signers:
            return ChainRefusal.BAD_SIGNATURE
        problems = [
            issuer_problem(each, len(walked) - 1, at, is_anchor=each in anchors) for each in signers
        ]
        if None not in problems:
            return problems[0] or ChainRefusal.INVALID
        walked.append(signers[problems.index(None)])
    # Every rule of ours is kept, so it is what the library decides: about how each is written,
    # or over the path as a whole.
    for each in walked:
        if (problem := form_problem(each, is_anchor=each in anchors)) is not None:
            return problem
    if any(has_name_constraints(each) for each in walked):
        return ChainRefusal.NAME_CONSTRAINT
    return ChainRefusal.INVALID
