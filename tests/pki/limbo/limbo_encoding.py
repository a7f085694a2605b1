"""How certificates are written: versions, serial numbers, DER and what is not DER."""

from limbo_case import Presented, accepted, presented, refused, under_root
from limbo_forge import ca, leaf, oid, root, sequence, unknown

from fleetroot.pki import ChainRefusal
from fleetroot.pki.der import element, first_element, skip_element, unwrap_sequence

TRAILING = "accepts: it reads the certificate and leaves what follows"
ANY_VERSION = "accepts: it does not look at the version"
NO_SIGN = "accepts: a serial number is any number to it"
BER = "accepts: it reads BER where this is not signed, and re-encodes it"


def of_serial(serial: int | bytes) -> Presented:
    return under_root(leaf(serial=serial), ca())


@refused(ChainRefusal.CLIENT_AUTH_MISSING, openssl="accepts: without purposes any is allowed to it")
def version_1_leaf() -> Presented:
    """RFC 5280 §4.1.2.1: version 1 has no extensions, so no purpose."""
    return under_root(leaf(version=None, extensions=None), ca())


@refused(ChainRefusal.MALFORMED, openssl=ANY_VERSION)
def version_1_leaf_with_extensions() -> Presented:
    """RFC 5280 §4.1.2.9: extensions are of version 3 only."""
    return under_root(leaf(version=None), ca())


@refused(ChainRefusal.NOT_A_CA)
def version_1_intermediate() -> Presented:
    """RFC 5280 §6.1.4 (k): version 1 cannot say that it is a CA's."""
    return under_root(leaf(), ca(version=None, extensions=None))


@refused(ChainRefusal.MALFORMED, openssl=ANY_VERSION)
def version_1_intermediate_with_extensions() -> Presented:
    """RFC 5280 §4.1.2.9: nor does it help to say it."""
    return under_root(leaf(), ca(version=None))


@refused(ChainRefusal.NOT_A_CA, openssl="accepts: a self-signed one of version 1 is a root to it")
def version_1_anchor() -> Presented:
    """RFC 5280 §6.1.4 (k): an anchor of version 1 is no CA here."""
    return presented(leaf(), ca(), anchors=(root(version=None, extensions=None),))


@refused(ChainRefusal.MALFORMED, openssl=ANY_VERSION)
def version_2() -> Presented:
    """RFC 5280 §4.1.2.1: version 2 has no extensions, and nobody uses it."""
    return under_root(leaf(version=1), ca())


@refused(ChainRefusal.MALFORMED, openssl=ANY_VERSION)
def version_4() -> Presented:
    """RFC 5280 §4.1.2.1: there is none."""
    return under_root(leaf(version=3), ca())


@refused(ChainRefusal.MALFORMED, openssl="accepts: it reads a default that is written out")
def version_1_written_out() -> Presented:
    """X.690 §11.5: in DER, a default is left out."""
    return under_root(leaf(version=0), ca())


@accepted()
def serial_of_zero() -> Presented:
    """RFC 5280 §4.1.2.2: not conforming, and users should be prepared for it."""
    return of_serial(0)


@accepted()
def serial_of_20_octets() -> Presented:
    """RFC 5280 §4.1.2.2: the longest."""
    return of_serial((1 << 159) - 1)


@accepted()
def serial_of_160_bits() -> Presented:
    """RFC 5280 §4.1.2.2: 20 octets and one for the sign, as some CAs have it; harmless."""
    return of_serial((1 << 160) - 1)


@refused(ChainRefusal.MALFORMED, openssl=NO_SIGN)
def serial_of_22_octets() -> Presented:
    """RFC 5280 §4.1.2.2: too long."""
    return of_serial(1 << 168)


@refused(ChainRefusal.MALFORMED, openssl=NO_SIGN)
def serial_below_zero() -> Presented:
    """RFC 5280 §4.1.2.2: it must be positive."""
    return of_serial(-1)


@refused(ChainRefusal.MALFORMED, openssl=NO_SIGN)
def serial_below_zero_of_the_intermediate() -> Presented:
    """RFC 5280 §4.1.2.2: so in a CA."""
    return under_root(leaf(), ca(serial=-1))


@refused(ChainRefusal.MALFORMED)
def serial_with_a_needless_octet() -> Presented:
    """X.690 §8.3.2: an integer is written in as few octets as it needs."""
    return of_serial(b"\x02\x02\x00\x01")


@refused(ChainRefusal.MALFORMED)
def serial_of_no_octets() -> Presented:
    """X.690 §8.3.1: an integer has one octet at least."""
    return of_serial(b"\x02\x00")


@refused(ChainRefusal.MALFORMED, openssl=TRAILING)
def octets_after_the_leaf() -> Presented:
    """RFC 5280 §4.1: one certificate and nothing after it."""
    return under_root(leaf() + b"\x00", ca())


@refused(ChainRefusal.MALFORMED, openssl=TRAILING)
def octets_after_the_intermediate() -> Presented:
    """RFC 5280 §4.1: so with an intermediate."""
    return under_root(leaf(), ca() + leaf())


@refused(ChainRefusal.MALFORMED)
def octets_inside_the_signed_part() -> Presented:
    """RFC 5280 §4.1: nothing follows the extensions."""
    longer = lambda tbs: sequence(unwrap_sequence(tbs), b"\x05\x00")  # noqa: E731
    return under_root(leaf(spoil=longer), ca())


@refused(ChainRefusal.MALFORMED)
def cut_short() -> Presented:
    """X.690 §8.1.3: a length that runs past the end."""
    return under_root(leaf()[:-1], ca())


@refused(ChainRefusal.MALFORMED)
def no_octets() -> Presented:
    """RFC 5280 §4.1: a certificate of nothing."""
    return under_root(b"", ca())


@refused(ChainRefusal.MALFORMED)
def text() -> Presented:
    """RFC 7468 §5: PEM is not what TLS carries."""
    return under_root(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", ca())


@refused(ChainRefusal.MALFORMED, openssl=BER)
def indefinite_length() -> Presented:
    """X.690 §10.1: in DER, lengths are definite."""
    return under_root(b"\x30\x80" + unwrap_sequence(leaf()) + b"\x00\x00", ca())


@refused(ChainRefusal.MALFORMED, openssl=BER)
def length_with_a_needless_octet() -> Presented:
    """X.690 §10.1: and as short as can be."""
    inside = unwrap_sequence(leaf())
    return under_root(b"\x30\x83\x00" + len(inside).to_bytes(2, "big") + inside, ca())


@refused(ChainRefusal.MALFORMED, openssl="accepts: it reads a default that is written out")
def criticality_of_false_written_out() -> Presented:
    """X.690 §11.5: in DER, a default is left out."""
    written = sequence(oid("1.3.6.1.4.1.55555.1"), b"\x01\x01\x00", element(0x04, b"\x05\x00"))
    return under_root(leaf(extra=[written]), ca())


@refused(ChainRefusal.MALFORMED)
def criticality_of_1() -> Presented:
    """X.690 §11.1: in DER, TRUE is FF."""
    odd = unknown(critical=True).replace(b"\x01\x01\xff", b"\x01\x01\x01")
    return under_root(leaf(extra=[odd]), ca())


@refused(ChainRefusal.MALFORMED)
def signature_with_nine_unused_bits() -> Presented:
    """X.690 §8.6.2: of an octet, at most seven bits are unused."""
    inside = unwrap_sequence(leaf())
    rest = skip_element(inside)
    bits = unwrap_sequence(skip_element(rest))
    torn = element(0x03, b"\x09" + bits[1:])
    return under_root(sequence(first_element(inside), first_element(rest), torn), ca())
