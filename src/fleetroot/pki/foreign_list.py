"""Reading a revocation list of somebody else's CA.

Taken is what says plainly which certificates of one CA are revoked: a complete list, signed by that
very CA, for all reasons. Lists that add to others (deltas), speak for other CAs (indirect) or have
anything critical that is not understood are refused: to overlook an entry would be to accept a
revoked certificate.

Source: RFC 5280 §5, §6.3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from fleetroot.pki.keys import KeyRefused, certified_key, is_strongly_signed
from fleetroot.pki.rules import ca_problem
from fleetroot.pki.unreadable import UNREADABLE

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_PEM: Final = b"-----BEGIN "
_MAX_CERTIFICATE: Final = 16 * 1024
_UNDERSTOOD: Final = {
    ExtensionOID.ISSUING_DISTRIBUTION_POINT,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
}
_REFUSED: Final = "the revocation list "


class ForeignListRefused(Exception):  # a refusal, as everywhere here
    """A list is not taken; `message` says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ForeignList(NamedTuple):
    """A list that was verified.

    Attributes:
        scope: the URL of its distribution point; empty where it has none.
    """

    der: bytes
    authority: x509.Certificate
    scope: str
    number: int | None
    this_update: datetime
    next_update: datetime | None
    serials: frozenset[int]


def read_foreign_list(
    crl: bytes, authority: bytes | None, known: Sequence[bytes], *, max_entries: int
) -> ForeignList:
    """Reads a list and verifies its signature.

    Args:
        crl: DER or PEM.
        authority: the CA's certificate, DER or PEM; None to look among `known` ones (DER).

    Raises:
        ForeignListRefused: it cannot be read, is not signed by that CA, has more than `max_entries`
            entries, or is of a kind that is not taken.
    """
    try:
        parsed = x509.load_pem_x509_crl(crl) if _is_pem(crl) else x509.load_der_x509_crl(crl)
        if len(parsed) > max_entries:
            raise ForeignListRefused(f"{_REFUSED}has more than {max_entries} entries")
        extensions = {each.oid: each for each in parsed.extensions}
        candidates = [_certificate(authority)] if authority else [*map(_certificate, known)]
        signer = _signer(parsed, candidates)
        scope = _scope(parsed)
        number = _find(parsed, x509.CRLNumber)
        if any(e.critical and oid not in _UNDERSTOOD for oid, e in extensions.items()):
            raise ForeignListRefused(f"{_REFUSED}has a critical extension that is not understood")
        return ForeignList(
            der=parsed.public_bytes(Encoding.DER),
            authority=signer,
            scope=scope,
            number=None if number is None else number.crl_number,
            this_update=parsed.last_update_utc,
            next_update=parsed.next_update_utc,
            serials=frozenset(_serials(parsed)),
        )
    except UNREADABLE as error:
        raise ForeignListRefused(f"{_REFUSED}or the CA certificate cannot be read") from error


def _is_pem(data: bytes) -> bool:
    return data.lstrip().startswith(_PEM)


def _certificate(data: bytes) -> x509.Certificate:
    if len(data) > _MAX_CERTIFICATE:
        raise ForeignListRefused("the CA certificate is too large")
    if _is_pem(data):
        return x509.load_pem_x509_certificate(data)
    return x509.load_der_x509_certificate(data)


def _signer(
    crl: x509.CertificateRevocationList, candidates: Sequence[x509.Certificate]
) -> x509.Certificate:
    named = [one for one in candidates if one.subject == crl.issuer]
    if not named:
        raise ForeignListRefused("no certificate of the CA that issued the list is known")
    if not is_strongly_signed(crl):
        raise ForeignListRefused(f"{_REFUSED}is signed with a weak or unknown algorithm")
    for one in named:
        if _may_sign_lists(one) and crl.is_signature_valid(one.public_key()):  # type: ignore[arg-type]
            return one
    raise ForeignListRefused("the signature on the revocation list is not of that CA")


def _may_sign_lists(certificate: x509.Certificate) -> bool:
    try:
        certified_key(certificate)
    except KeyRefused:
        return False
    if ca_problem(certificate) is not None:
        return False
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage.crl_sign  # RFC 5280 §4.2.1.3


def _scope(crl: x509.CertificateRevocationList) -> str:
    if _find(crl, x509.DeltaCRLIndicator) is not None:
        raise ForeignListRefused("a delta list is not taken, bring the complete one")
    point = _find(crl, x509.IssuingDistributionPoint)
    if point is None:
        return ""
    if point.indirect_crl or point.only_contains_attribute_certs or point.only_some_reasons:
        raise ForeignListRefused(
            "only lists of a CA's own certificates, for all reasons, are taken"
        )
    if point.full_name is None:
        kind = (point.only_contains_user_certs, point.only_contains_ca_certs)
        return {(True, False): "users", (False, True): "authorities"}.get(kind, "")
    return str(point.full_name[0].value)


def _serials(crl: x509.CertificateRevocationList) -> list[int]:
    serials = []
    for entry in crl:
        if any(each.critical for each in entry.extensions):
            raise ForeignListRefused("an entry has a critical extension that is not understood")
        serials.append(entry.serial_number)
    return serials


def _find(crl: x509.CertificateRevocationList, kind: type[_Extension]) -> _Extension | None:
    try:
        return crl.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
