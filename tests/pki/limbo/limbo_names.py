"""Names: of issuers, which chain, and common names, which are device ids."""

from typing import Any

from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from limbo_case import Presented, accepted, presented, refused, under_root
from limbo_forge import ca, key, leaf, name, names, oid, root, sequence

from fleetroot.pki import ChainRefusal
from fleetroot.pki.der import element

EMPTY = x509.Name([])
FOLDS = "accepts: it compares names without case, spaces and string types (RFC 5280 §7.1)"


def spelt(text: bytes, tag: int) -> bytes:
    """A name of one common name, of any string type and contents."""
    attribute = sequence(oid(NameOID.COMMON_NAME.dotted_string), element(tag, text))
    return sequence(element(0x31, attribute))


def printable(text: str) -> x509.Name:
    kind = _ASN1Type.PrintableString
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _type=kind)])


def of(subject: Any) -> Presented:
    return under_root(leaf(subject, own_key=key("device-1")), ca())


def from_issuer(issuer: Any) -> Presented:
    return under_root(leaf(issuer=issuer, signer=key("issuing")), ca())


@accepted(common_name="device-1")
def common_name_as_utf8() -> Presented:
    """RFC 5280 §4.1.2.4: UTF8String."""
    return of("device-1")


@accepted(common_name="device-1")
def common_name_as_printable_string() -> Presented:
    """RFC 5280 §4.1.2.4: PrintableString."""
    return of(printable("device-1"))


@accepted(common_name="device-1")
def common_name_as_bmp_string() -> Presented:
    """RFC 5280 §4.1.2.4: BMPString, of two octets a character."""
    return of(spelt("device-1".encode("utf-16-be"), 0x1E))


@accepted(common_name="device-1")
def common_name_as_teletex_string() -> Presented:
    """RFC 5280 §4.1.2.4: TeletexString, kept for what is old."""
    return of(spelt(b"device-1", 0x14))


@accepted(common_name="Device-1")
def common_name_as_it_is_spelt() -> Presented:
    """RFC 5280 §7.1: no folding of case in what is handed on."""
    return of("Device-1")


@accepted(common_name="d" * 128)
def common_name_of_128_characters() -> Presented:
    """RFC 5280 appendix A.1 has 64 as upper bound; device ids have 128 (our rule)."""
    return of(spelt(b"d" * 128, 0x0C))


@accepted(common_name=None)
def two_common_names() -> Presented:
    """RFC 5280 §4.1.2.6: a subject may have two, and then none of them is the device's."""
    return of(name((NameOID.COMMON_NAME, "device-1"), (NameOID.COMMON_NAME, "device-2")))


@accepted(common_name=None)
def two_common_names_alike() -> Presented:
    """RFC 5280 §4.1.2.6: not even if they are alike."""
    return of(name((NameOID.COMMON_NAME, "device-1"), (NameOID.COMMON_NAME, "device-1")))


@accepted(common_name=None)
def no_common_name() -> Presented:
    """RFC 5280 §4.1.2.6: a subject without a common name names no device."""
    return of(name((NameOID.ORGANIZATION_NAME, "fleet")))


@accepted(common_name=None)
def empty_subject_and_critical_names() -> Presented:
    """RFC 5280 §4.1.2.6: an empty subject is allowed beside a critical SAN."""
    alternative = names(x509.DNSName("a.example"), critical=True)
    return under_root(leaf(EMPTY, extra=[alternative]), ca())


@accepted(common_name=None)
def empty_subject_alone() -> Presented:
    """RFC 5280 §4.1.2.6: who it is, is not asked here; without a common name nobody."""
    return of(EMPTY)


@refused(ChainRefusal.MALFORMED)
def common_name_that_is_no_utf8() -> Presented:
    """RFC 3629 §3: an octet of FF is in no UTF-8."""
    return of(spelt(b"device\xff", 0x0C))


@refused(ChainRefusal.MALFORMED, openssl="accepts: it does not decode what it does not compare")
def common_name_as_bit_string() -> Presented:
    """RFC 5280 §4.1.2.4: no DirectoryString; the library loads it and cannot tell it."""
    return of(spelt(b"\x00device-1", 0x03))


@accepted(common_name="device-1", openssl="refuses: it knows which types a name may have")
def common_name_as_octet_string() -> Presented:
    """RFC 5280 §4.1.2.4: no DirectoryString either, and read as the text that the CA signed."""
    return of(spelt(b"device-1", 0x04))


@refused(ChainRefusal.UNTRUSTED, openssl=FOLDS)
def issuer_in_another_case() -> Presented:
    """RFC 5280 §4.1.2.6: a CA spells its name alike as subject and as issuer."""
    return from_issuer("ISSUING")


@refused(ChainRefusal.UNTRUSTED, openssl=FOLDS)
def issuer_of_another_string_type() -> Presented:
    """RFC 5280 §4.1.2.6: and encodes it alike."""
    return from_issuer(printable("issuing"))


@refused(ChainRefusal.UNTRUSTED, openssl=FOLDS)
def issuer_with_spaces() -> Presented:
    """RFC 5280 §7.1: white space folds there, and not here."""
    return from_issuer("issuing ")


@refused(ChainRefusal.UNTRUSTED)
def issuer_with_an_attribute_more() -> Presented:
    """RFC 5280 §7.1: names of different length differ."""
    return from_issuer(name((NameOID.ORGANIZATION_NAME, "x"), (NameOID.COMMON_NAME, "issuing")))


@refused(ChainRefusal.UNTRUSTED)
def issuer_in_another_order() -> Presented:
    """RFC 5280 §7.1: the order of attributes counts."""
    there = [(NameOID.ORGANIZATION_NAME, "x"), (NameOID.COMMON_NAME, "issuing")]
    issuing = ca(name(*there), own_key=key("issuing"))
    return under_root(leaf(issuer=name(*reversed(there)), signer=key("issuing")), issuing)


@refused(ChainRefusal.MALFORMED, openssl="accepts: empty names chain as well as others")
def issuer_without_a_name() -> Presented:
    """RFC 5280 §4.1.2.4: the issuer is not empty."""
    return presented(leaf(issuer=EMPTY), anchors=(root(EMPTY),))


@accepted()
def issuer_in_another_script() -> Presented:
    """RFC 5280 §4.1.2.4: names are Unicode."""
    return under_root(
        leaf(issuer="Ausstellerin für Geräte 設備"), ca("Ausstellerin für Geräte 設備")
    )
