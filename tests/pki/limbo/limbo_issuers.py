"""Who may sign: basic constraints, path lengths, keyCertSign."""

from cryptography import x509
from limbo_case import Presented, accepted, presented, refused
from limbo_forge import TRUE, ca, extension, integer, key, leaf, raw_extension, root, sequence
from pki_workshop import usage

from fleetroot.pki import ChainRefusal

BASIC_CONSTRAINTS = "2.5.29.19"


def under(*chain: bytes, **spoilt: int) -> Presented:
    return presented(*chain, anchors=(root(**spoilt),))


def with_constraints(value: bytes, *, critical: bool = True) -> bytes:
    return ca(
        ca=None,
        purposes=None,
        key_usage=usage(certificates=True),
        extra=[raw_extension(BASIC_CONSTRAINTS, value, critical=critical)],
    )


@refused(ChainRefusal.NOT_A_CA)
def intermediate_that_says_it_is_none() -> Presented:
    """RFC 5280 §6.1.4 (k): CA:FALSE."""
    return under(leaf(), ca(ca=False))


@refused(ChainRefusal.NOT_A_CA)
def intermediate_that_says_it_is_none_and_may_sign() -> Presented:
    """RFC 5280 §4.2.1.9: keyCertSign without CA:TRUE makes no CA."""
    return under(leaf(), ca(ca=False, key_usage=usage(certificates=True)))


@refused(ChainRefusal.NOT_A_CA)
def intermediate_without_basic_constraints() -> Presented:
    """RFC 5280 §6.1.4 (k): in version 3 they must be there."""
    return under(leaf(), ca(ca=None, purposes=None))


@refused(ChainRefusal.NOT_A_CA)
def intermediate_without_basic_constraints_that_may_sign() -> Presented:
    """RFC 5280 §4.2.1.9: keyCertSign is no substitute."""
    return under(leaf(), ca(ca=None, purposes=None, key_usage=usage(certificates=True)))


@refused(ChainRefusal.NOT_A_CA)
def upper_intermediate_that_is_none() -> Presented:
    """RFC 5280 §6.1.4 (k): every certificate but the leaf is a CA's."""
    return under(leaf(issuer="lower"), ca("lower", "upper"), ca("upper", ca=False))


@accepted()
def basic_constraints_not_critical() -> Presented:
    """RFC 5280 §4.2.1.9: CAs must mark them critical, and validation does not ask."""
    return under(leaf(), with_constraints(sequence(TRUE), critical=False))


@refused(ChainRefusal.MALFORMED, openssl="accepts: it reads any byte but zero as true")
def basic_constraints_with_a_true_of_1() -> Presented:
    """X.690 §11.1: in DER, TRUE is FF."""
    return under(leaf(), with_constraints(sequence(b"\x01\x01\x01")))


@refused(ChainRefusal.MALFORMED, openssl="accepts: it reads a default that is written out")
def basic_constraints_with_a_false_written_out() -> Presented:
    """X.690 §11.5: in DER, a default is left out."""
    false = raw_extension(BASIC_CONSTRAINTS, sequence(b"\x01\x01\x00"))
    return under(leaf(ca=None, extra=[false]), ca())


@accepted()
def path_length_0_above_the_leaf() -> Presented:
    """RFC 5280 §4.2.1.9: 0 permits leaves."""
    return under(leaf(), ca(path_length=0))


@refused(ChainRefusal.PATH_LENGTH)
def path_length_0_above_a_ca() -> Presented:
    """RFC 5280 §6.1.4 (l): 0 permits no CA beneath."""
    return under(leaf(issuer="lower"), ca("lower", "upper"), ca("upper", path_length=0))


@accepted()
def path_length_1_above_one_ca() -> Presented:
    """RFC 5280 §4.2.1.9: the leaf is not counted."""
    return under(leaf(), ca(), path_length=1)


@refused(ChainRefusal.PATH_LENGTH)
def path_length_1_above_two_cas() -> Presented:
    """RFC 5280 §6.1.4 (l): one CA too many."""
    return under(leaf(issuer="lower"), ca("lower", "upper"), ca("upper"), path_length=1)


@refused(ChainRefusal.PATH_LENGTH)
def path_length_0_of_the_anchor() -> Presented:
    """RFC 5280 §6.1.4 (m): an anchor's path length counts here."""
    return under(leaf(), ca(), path_length=0)


@refused(ChainRefusal.PATH_LENGTH)
def path_length_that_a_lower_ca_would_raise() -> Presented:
    """RFC 5280 §6.1.4 (m): a lower CA cannot permit more than an upper one did."""
    return under(
        leaf(issuer="lower"),
        ca("lower", "upper", path_length=5),
        ca("upper", path_length=0),
    )


@accepted()
def path_lengths_that_fall_by_one() -> Presented:
    """RFC 5280 §6.1.4 (l): each is used up to the last."""
    return under(
        leaf(issuer="3"),
        ca("3", "2", path_length=0),
        ca("2", "1", path_length=1),
        ca("1", path_length=2),
        path_length=3,
    )


@refused(
    ChainRefusal.PATH_LENGTH,
    openssl="accepts: it does not count self-issued CAs, as RFC 5280 §4.2.1.9 has it",
)
def path_length_0_above_a_self_issued_ca() -> Presented:
    """RFC 5280 §6.1.4 (l): self-issued CAs are not counted there; our library counts every CA."""
    return under(
        leaf(signer=key("new")), ca("issuing", "issuing", own_key=key("new")), ca(path_length=0)
    )


@accepted()
def self_issued_ca_with_room() -> Presented:
    """RFC 5280 §6.1: a CA that signs its own new key."""
    return under(
        leaf(signer=key("new")), ca("issuing", "issuing", own_key=key("new")), ca(path_length=1)
    )


@refused(ChainRefusal.MALFORMED)
def path_length_below_zero() -> Presented:
    """RFC 5280 §4.2.1.9: the least is 0."""
    return under(leaf(), with_constraints(sequence(TRUE, integer(-1))))


@refused(ChainRefusal.MALFORMED, openssl="accepts: it takes a number that it cannot hold as none")
def path_length_of_80_bits() -> Presented:
    """RFC 5280 §4.2.1.9: longer than any path."""
    return under(leaf(), with_constraints(sequence(TRUE, integer(1 << 80))))


@refused(ChainRefusal.MALFORMED, openssl="accepts: it does not mind on a leaf")
def path_length_of_a_leaf() -> Presented:
    """RFC 5280 §4.2.1.9: only with CA:TRUE."""
    bare = raw_extension(BASIC_CONSTRAINTS, sequence(integer(0)), critical=True)
    return under(leaf(ca=None, extra=[bare]), ca())


@refused(ChainRefusal.KEY_CERT_SIGN_MISSING)
def intermediate_without_key_cert_sign() -> Presented:
    """RFC 5280 §6.1.4 (n): a key usage that is there has to allow signing certificates."""
    return under(leaf(), ca(key_usage=usage(sign=True)))


@refused(ChainRefusal.KEY_CERT_SIGN_MISSING)
def intermediate_for_crls_only() -> Presented:
    """RFC 5280 §4.2.1.3: cRLSign is not keyCertSign."""
    crls = x509.KeyUsage(True, False, False, False, False, False, True, False, False)
    return under(leaf(), ca(key_usage=crls))


@refused(ChainRefusal.KEY_CERT_SIGN_MISSING)
def intermediate_without_key_cert_sign_not_critical() -> Presented:
    """RFC 5280 §6.1.4 (n): critical or not."""
    return under(leaf(), ca(key_usage=None, extra=[extension(usage(sign=True))]))


@accepted()
def intermediate_without_key_usage() -> Presented:
    """RFC 5280 §6.1.4 (n): only where it is present."""
    return under(leaf(), ca(key_usage=None))


@accepted()
def intermediate_for_certificates_alone() -> Presented:
    """RFC 5280 §4.2.1.3: a CA needs no digitalSignature."""
    return under(leaf(), ca(key_usage=usage(certificates=True)))


@refused(ChainRefusal.LEAF_IS_CA, openssl="accepts: to it any certificate may be a leaf")
def leaf_that_may_sign_certificates() -> Presented:
    """RFC 5280 §4.2.1.9: keyCertSign without CA:TRUE contradicts itself (our rule)."""
    return under(leaf(key_usage=usage(sign=True, certificates=True)), ca())


@refused(ChainRefusal.LEAF_IS_CA, openssl="accepts: to it any certificate may be a leaf")
def leaf_that_is_a_ca() -> Presented:
    """Our rule: a CA's certificate is refused as a leaf."""
    return under(leaf(ca=True), ca())


@accepted()
def leaf_without_basic_constraints() -> Presented:
    """RFC 5280 §4.2.1.9: a leaf needs none."""
    return under(leaf(ca=None), ca())
