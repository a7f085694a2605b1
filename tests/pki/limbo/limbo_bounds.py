"""How much is looked at: number and size of what is sent, before anything is parsed."""

from limbo_case import Presented, accepted, presented, refused, under_root
from limbo_forge import ca, key, leaf, octets, raw_extension, root

from fleetroot.pki import MAX_CHAIN_BYTES, ChainRefusal

NO_BOUND = "accepts: it builds paths of up to 100 certificates of any size"


def heavy(size: int) -> bytes:
    """An extension that nobody reads, of about this size."""
    return raw_extension("1.3.6.1.4.1.55555.5", octets(bytes(size)))


@refused(ChainRefusal.TOO_MANY_CERTIFICATES, openssl=NO_BOUND)
def a_hundred_certificates() -> Presented:
    """Our rule: counted before they are read; no signature is checked."""
    strangers = [root(f"stranger {n}", own_key=key("x"), signer=key("x")) for n in range(98)]
    return under_root(leaf(), *strangers, ca())


@refused(ChainRefusal.EMPTY)
def nothing() -> Presented:
    """RFC 8446 §4.4.2.4: a client may send no certificate, and is nobody then."""
    return under_root()


@accepted()
def five_and_the_root() -> Presented:
    """Our rule: a leaf, four intermediates, and the root that was sent along."""
    cas = [ca("1"), ca("2", "1"), ca("3", "2"), ca("4", "3")]
    return under_root(leaf(issuer="4"), *cas, root())


@refused(ChainRefusal.TOO_MANY_CERTIFICATES, openssl=NO_BOUND)
def six_without_the_root() -> Presented:
    """Our rule: five intermediates are one too many, were they in order."""
    cas = [ca("1"), ca("2", "1"), ca("3", "2"), ca("4", "3"), ca("5", "4")]
    return under_root(leaf(issuer="5"), *cas)


@refused(ChainRefusal.TOO_MANY_CERTIFICATES, openssl=NO_BOUND)
def seven_of_which_two_are_the_root() -> Presented:
    """Our rule: what is sent is counted before it is read, so repetitions count."""
    cas = [ca("1"), ca("2", "1"), ca("3", "2"), ca("4", "3")]
    return under_root(leaf(issuer="4"), *cas, root(), root())


@refused(ChainRefusal.TOO_MANY_CERTIFICATES)
def a_hundred_pieces_of_nothing() -> Presented:
    """Our rule: the number is looked at before the contents."""
    return under_root(*[b"\x00"] * 100)


@accepted()
def almost_32_kib() -> Presented:
    """Our rule: 32 KiB in all."""
    return under_root(leaf(extra=[heavy(MAX_CHAIN_BYTES - 2000)]), ca())


@refused(ChainRefusal.TOO_LARGE, openssl=NO_BOUND)
def over_32_kib_in_the_leaf() -> Presented:
    """Our rule: a certificate larger than any that is needed."""
    return under_root(leaf(extra=[heavy(MAX_CHAIN_BYTES)]), ca())


@refused(ChainRefusal.TOO_LARGE, openssl=NO_BOUND)
def over_32_kib_together() -> Presented:
    """Our rule: it is the sum that counts."""
    return under_root(
        leaf(extra=[heavy(MAX_CHAIN_BYTES // 2)]), ca(extra=[heavy(MAX_CHAIN_BYTES // 2)])
    )


@refused(ChainRefusal.TOO_LARGE)
def over_32_kib_of_nothing() -> Presented:
    """Our rule: the size is looked at before the contents."""
    return presented(bytes(MAX_CHAIN_BYTES + 1), anchors=(root(),))
