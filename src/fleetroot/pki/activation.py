"""Activation: may this chain, which somebody else signed, be an issuing CA of ours from now on?

The certificate answers a request of ours, so its subject and key are held against that. The chain
is in order, the issuing CA first, up to and optionally including the root. Each refusal names the
rule that is broken, because whoever signed has to sign again.

Source: Azure Device Registry, bring your own root; RFC 5280 §4.1, §4.2.1, §6.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final, NoReturn, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from fleetroot.pki.authority_request import AuthoritySigningRequest
from fleetroot.pki.certificate import to_der
from fleetroot.pki.keys import (
    KeyRefusal,
    KeyRefused,
    certified_key,
    is_strongly_signed,
    public_key_info,
)
from fleetroot.pki.rules import (
    ChainRefusal,
    form_problem,
    identifiers_agree,
    is_named_by,
    is_readable,
    is_signed_by,
    issuer_problem,
)
from fleetroot.pki.subjects import name_key

MAX_CHAIN_CERTIFICATES: Final = 4  # of a device's chain of five, the leaf is one
MAX_PEM_CHARACTERS: Final = 48 * 1024
LEAST_VALIDITY: Final = timedelta(days=365)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_ECDSA_SHA2: Final = frozenset(
    {
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
        SignatureAlgorithmOID.ECDSA_WITH_SHA512,
    }
)


class ActivationRule(StrEnum):
    """What a chain must keep to be activated."""

    PEM = "pem"
    VERSION = "version"
    KEY_TYPE = "key_type"
    EXPLICIT_PARAMETERS = "explicit_parameters"
    SIGNATURE_ALGORITHM = "signature_algorithm"
    SUBJECT = "subject"
    PUBLIC_KEY = "public_key"
    BASIC_CONSTRAINTS = "basic_constraints"
    PATH_LENGTH = "path_length"
    KEY_USAGE = "key_usage"
    EXTENDED_KEY_USAGE = "extended_key_usage"
    SUBJECT_KEY_IDENTIFIER = "subject_key_identifier"
    NOT_YET_VALID = "not_yet_valid"
    REMAINING_VALIDITY = "remaining_validity"
    CHAIN = "chain"


class ActivationRefused(Exception):  # a refusal, as everywhere here
    """A chain cannot be activated.

    Attributes:
        rule: which one it breaks.
        message: the same in words that may be shown to the peer.
    """

    def __init__(self, rule: ActivationRule, message: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message


@dataclass(frozen=True, slots=True)
class ActivatedChain:
    """A chain that keeps every rule: the issuing CA first, the root last if it was given."""

    certificates: tuple[x509.Certificate, ...]

    @property
    def issuing(self) -> x509.Certificate:
        """The issuing CA's certificate."""
        return self.certificates[0]


def check_activation(
    pem: str,
    request: AuthoritySigningRequest,
    now: datetime,
    *,
    root: x509.Certificate | None = None,
) -> ActivatedChain:
    """Checks a chain (PEM, the issuing CA first).

    Args:
        pem: what the operator was given by whoever signed.
        request: what it answers.
        root: our own root, whose key is kept elsewhere and which must have signed; its kind of key
            is ours to choose. None: a root that is not ours, where every key is on a NIST curve.

    Raises:
        ActivationRefused: it breaks a rule.
    """
    chain = _read(pem)
    if root is None:
        for certificate in chain:
            _check_key_is_ec(certificate)
        for certificate in chain:
            _check_signature_is_ecdsa(certificate)
    _check_answers(chain[0], request)
    _check_issuing(chain[0], now)
    whole = chain
    if root is not None:
        whole = (chain[0], root)
        if chain[1:] not in ((), (root,)):
            _refuse(ActivationRule.CHAIN, "the namespace's own root must have signed it, directly")
    _check_path(whole, now)
    return ActivatedChain(whole)


def _refuse(rule: ActivationRule, message: str) -> NoReturn:
    raise ActivationRefused(rule, message)


def _read(pem: str) -> tuple[x509.Certificate, ...]:
    if len(pem) > MAX_PEM_CHARACTERS or not pem.isascii():
        _refuse(ActivationRule.PEM, f"the chain is not {MAX_PEM_CHARACTERS} characters of PEM")
    try:
        chain = tuple(x509.load_pem_x509_certificates(pem.encode("ascii")))
    except (ValueError, x509.InvalidVersion):
        _refuse(ActivationRule.PEM, "the chain is not PEM of certificates")
    if len(chain) > MAX_CHAIN_CERTIFICATES:
        _refuse(ActivationRule.PEM, f"more than {MAX_CHAIN_CERTIFICATES} certificates")
    for certificate in chain:
        if not is_readable(certificate):
            _refuse(ActivationRule.PEM, "a certificate cannot be read")
        if certificate.version is not x509.Version.v3:
            _refuse(ActivationRule.VERSION, f"{_words(certificate)} is not an X.509 v3 certificate")
    return chain


def _check_key_is_ec(certificate: x509.Certificate) -> None:
    try:
        key, _ = certified_key(certificate)
    except KeyRefused as refused:
        rule = (
            ActivationRule.EXPLICIT_PARAMETERS
            if refused.reason is KeyRefusal.EXPLICIT_PARAMETERS
            else ActivationRule.KEY_TYPE
        )
        _refuse(rule, f"{_words(certificate)}: {refused.message}")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        _refuse(
            ActivationRule.KEY_TYPE,
            f"the key of {_words(certificate)} is not EC on P-256, P-384 or P-521",
        )


def _check_signature_is_ecdsa(certificate: x509.Certificate) -> None:
    if certificate.signature_algorithm_oid not in _ECDSA_SHA2:
        _refuse(
            ActivationRule.SIGNATURE_ALGORITHM,
            f"{_words(certificate)} is not signed by ECDSA with SHA-256 or stronger",
        )


def _check_answers(issuing: x509.Certificate, request: AuthoritySigningRequest) -> None:
    if name_key(issuing.subject) != name_key(request.subject):
        _refuse(
            ActivationRule.SUBJECT,
            f"the subject is {issuing.subject.rfc4514_string()}, "
            f"but the request's is {request.subject.rfc4514_string()}",
        )
    try:
        key, _ = certified_key(issuing)
    except KeyRefused as refused:
        _refuse(ActivationRule.KEY_TYPE, refused.message)
    if public_key_info(key) != public_key_info(request.public_key):
        _refuse(ActivationRule.PUBLIC_KEY, "the public key is not the request's")


def _check_issuing(issuing: x509.Certificate, now: datetime) -> None:
    constraints = _find(issuing, x509.BasicConstraints)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        _refuse(
            ActivationRule.BASIC_CONSTRAINTS, "basic constraints must be critical, with CA:TRUE"
        )
    usage = _find(issuing, x509.KeyUsage)
    if usage is None or not (
        usage.value.digital_signature and usage.value.key_cert_sign and usage.value.crl_sign
    ):
        _refuse(
            ActivationRule.KEY_USAGE,
            "key usage must have digitalSignature, keyCertSign and cRLSign",
        )
    purposes = _find(issuing, x509.ExtendedKeyUsage)
    if purposes is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes.value:
        _refuse(ActivationRule.EXTENDED_KEY_USAGE, "extended key usage must include clientAuth")
    if _find(issuing, x509.SubjectKeyIdentifier) is None:
        _refuse(ActivationRule.SUBJECT_KEY_IDENTIFIER, "a subject key identifier must be there")
    if now < issuing.not_valid_before_utc:
        _refuse(ActivationRule.NOT_YET_VALID, "the certificate is not valid yet")
    if issuing.not_valid_after_utc < now + LEAST_VALIDITY:
        _refuse(
            ActivationRule.REMAINING_VALIDITY,
            f"the certificate must be valid for at least {LEAST_VALIDITY.days} more days",
        )


def _check_path(chain: Sequence[x509.Certificate], now: datetime) -> None:
    """Each signed by the next; the last by itself, if it is a root."""
    for depth, certificate in enumerate(chain):
        is_anchor = depth > 0 and certificate.subject == certificate.issuer
        problem = issuer_problem(certificate, depth, now, is_anchor=is_anchor) or form_problem(
            certificate, is_anchor=is_anchor
        )
        if problem is ChainRefusal.PATH_LENGTH:
            _refuse(
                ActivationRule.PATH_LENGTH,
                f"the path length of {_words(certificate)} does not permit {depth} CAs below it",
            )
        if problem is not None:
            _refuse(ActivationRule.CHAIN, f"{_words(certificate)}: {problem.value}")
        if not is_strongly_signed(certificate):
            _refuse(
                ActivationRule.SIGNATURE_ALGORITHM,
                f"{_words(certificate)} is not signed with SHA-256 or stronger",
            )
    if len({to_der(certificate) for certificate in chain}) != len(chain):
        _refuse(ActivationRule.CHAIN, "a certificate is there twice")
    if chain[0].subject == chain[0].issuer:
        _refuse(ActivationRule.CHAIN, "the issuing CA must not be self-signed")
    for child, issuer in pairwise(chain):
        if not is_named_by(child, issuer) or not identifiers_agree(child, issuer):
            _refuse(
                ActivationRule.CHAIN,
                f"{_words(issuer)} is not the issuer of {_words(child)}: put the issuing CA first, "
                "then each certificate's issuer behind it",
            )
        if not is_signed_by(child, issuer):
            _refuse(
                ActivationRule.CHAIN,
                f"the signature of {_words(child)} does not verify with the key of "
                f"{_words(issuer)}",
            )
    top = chain[-1]
    if top.subject == top.issuer and not is_signed_by(top, top):
        _refuse(ActivationRule.CHAIN, f"the signature of {_words(top)} does not verify")


def _find(
    certificate: x509.Certificate, kind: type[_Extension]
) -> x509.Extension[_Extension] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _words(certificate: x509.Certificate) -> str:
    return f"'{certificate.subject.rfc4514_string()}'"
