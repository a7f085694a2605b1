"""Lint before signing, of revocation lists and OCSP answers; how it works is in `lint`.

A list's entries are checked where they are encoded: the library would take a hundred thousand of
them apart for it.

Source: RFC 5280 §5; RFC 6960 §4.2; RFC 9654 §2.1.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtensionOID

from fleetroot.pki.certificate import to_der
from fleetroot.pki.keys import is_strongly_signed
from fleetroot.pki.lint import SERIAL_END, Rule, check

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

MAX_NONCE: Final = 128  # RFC 9654 §2.1
_CRL_EXTENSIONS: Final = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    ExtensionOID.CRL_NUMBER: False,
    ExtensionOID.ISSUING_DISTRIBUTION_POINT: True,
}


class ListDraft(NamedTuple):
    """A list that is about to be signed, by the key of `issuer`, to be found at `url`; see
    `crl.CrlScope`.
    """

    crl: x509.CertificateRevocationList
    issuer: x509.Certificate
    url: str | None

    def get(self, kind: type[_Extension]) -> _Extension:
        """Raises:
        ExtensionNotFound: it has none.
        """
        return self.crl.extensions.get_extension_for_class(kind).value


CRL_RULES: Final[tuple[Rule[ListDraft], ...]] = (
    Rule(
        "RFC 5280 §5.1.1.2",
        "ECDSA or RSA with SHA-2, or ML-DSA",
        lambda it: is_strongly_signed(it.crl),
    ),
    Rule(
        "RFC 5280 §5.1.2.3",
        "the issuer's name, spelt as in its certificate",
        lambda it: it.crl.issuer.public_bytes() == it.issuer.subject.public_bytes(),
    ),
    Rule(
        "RFC 5280 §5.1.2.5",
        "a nextUpdate behind thisUpdate",
        lambda it: (
            it.crl.next_update_utc is not None and it.crl.last_update_utc < it.crl.next_update_utc
        ),
    ),
    Rule(
        "RFC 5280 §6.3.3 (f)",
        "an issuer that may sign lists and is valid when it does",
        lambda it: (
            it.issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
            and it.issuer.not_valid_before_utc
            <= it.crl.last_update_utc
            <= it.issuer.not_valid_after_utc
        ),
    ),
    Rule(
        "RFC 5280 §5.2",
        "key identifier, number and distribution point, the last one critical, and nothing else",
        lambda it: {e.oid: e.critical for e in it.crl.extensions} == _CRL_EXTENSIONS,
    ),
    Rule(
        "RFC 5280 §5.2.1",
        "the issuer's key identifier",
        lambda it: it.get(x509.AuthorityKeyIdentifier).key_identifier is not None,
    ),
    Rule(
        "RFC 5280 §5.2.3",
        "a number of at most 20 octets",
        lambda it: 0 <= it.get(x509.CRLNumber).crl_number < SERIAL_END,
    ),
    Rule(
        "RFC 5280 §5.2.5",
        "the URL where it is found; none where it is not one of several",
        lambda it: (
            [name.value for name in it.get(x509.IssuingDistributionPoint).full_name or ()]
            == ([] if it.url is None else [it.url])
        ),
    ),
    Rule(
        "RFC 5280 §5.2.5",
        "user certificates or CA certificates, for every reason, of this issuer only",
        lambda it: _is_of_one_kind(it.get(x509.IssuingDistributionPoint)),
    ),
)


class AnswerDraft(NamedTuple):
    """An OCSP answer that is about to be signed by `responder`."""

    answer: ocsp.OCSPResponse
    responder: x509.Certificate


ANSWER_RULES: Final[tuple[Rule[AnswerDraft], ...]] = (
    Rule(
        "RFC 6960 §4.2.1",
        "a response to say something with",
        lambda it: it.answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL,
    ),
    Rule(
        "RFC 6960 §4.2.2.3",
        "the responder by its key",
        lambda it: (
            it.answer.responder_key_hash
            == x509.SubjectKeyIdentifier.from_public_key(it.responder.public_key()).digest
        ),
    ),
    Rule(
        "RFC 6960 §4.2.2.2",
        "the responder's certificate, and no other",
        lambda it: [to_der(one) for one in it.answer.certificates] == [to_der(it.responder)],
    ),
    Rule(
        "RFC 6960 §4.2.2.1",
        "thisUpdate not behind producedAt, and a nextUpdate behind both",
        lambda it: (
            it.answer.next_update_utc is not None
            and it.answer.this_update_utc <= it.answer.produced_at_utc < it.answer.next_update_utc
        ),
    ),
    Rule(
        "RFC 6960 §4.2.2.2",
        "a responder that is valid for as long as the answer is",
        lambda it: (
            it.answer.next_update_utc is not None
            and it.responder.not_valid_before_utc <= it.answer.this_update_utc
            and it.answer.next_update_utc <= it.responder.not_valid_after_utc
        ),
    ),
    Rule(
        "RFC 6960 §4.2.1",
        "a time of revocation that is not ahead, where it is revoked, and none elsewhere",
        lambda it: (
            (it.answer.certificate_status is ocsp.OCSPCertStatus.REVOKED)
            == (it.answer.revocation_time_utc is not None)
            and (
                it.answer.revocation_time_utc is None
                or it.answer.revocation_time_utc <= it.answer.produced_at_utc
            )
        ),
    ),
    Rule(
        "RFC 9654 §2.1",
        "a nonce of 1 to 128 octets, not critical, or none",
        lambda it: all(
            isinstance(e.value, x509.OCSPNonce)
            and not e.critical
            and 0 < len(e.value.nonce) <= MAX_NONCE
            for e in it.answer.extensions
        ),
    ),
)


def check_crl(
    crl: x509.CertificateRevocationList, issuer: x509.Certificate, url: str | None
) -> None:
    """Holds a draft of a list against the rules.

    Raises:
        LintFailed: it breaks one.
    """
    check("the revocation list", ListDraft(crl, issuer, url), CRL_RULES)


def check_answer(answer: ocsp.OCSPResponse, responder: x509.Certificate) -> None:
    """Holds a draft of an OCSP answer against the rules.

    Raises:
        LintFailed: it breaks one.
    """
    check("the OCSP answer", AnswerDraft(answer, responder), ANSWER_RULES)


def _is_of_one_kind(point: x509.IssuingDistributionPoint) -> bool:
    return (
        point.only_contains_user_certs != point.only_contains_ca_certs
        and not point.only_contains_attribute_certs
        and not point.indirect_crl
        and point.only_some_reasons is None
    )
