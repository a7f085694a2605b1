"""Key identifiers (RFC 5280 §4.2.1.1, §4.2.1.2): hints to the right key, and refused if wrong."""

from cryptography import x509
from limbo_case import Presented, accepted, presented, refused, under_root
from limbo_forge import ca, common_name, extension, key, key_identifier, leaf, root

from fleetroot.pki import ChainRefusal

OTHER = b"another key's identifier"


@accepted()
def none_anywhere() -> Presented:
    """RFC 5280 §4.2.1.1: CAs must write them, and validation does not need them."""
    bare = {"authority": None, "identifier": None}
    return presented(leaf(**bare), ca(**bare), anchors=(root(**bare),))


@accepted()
def none_of_the_authority() -> Presented:
    """RFC 5280 §4.2.1.1: a leaf that says nothing of its issuer's key."""
    return under_root(leaf(authority=None), ca())


@accepted()
def none_of_the_issuer() -> Presented:
    """RFC 5280 §4.2.1.2: an issuer that says nothing of its key."""
    return under_root(leaf(), ca(identifier=None))


@refused(ChainRefusal.UNTRUSTED)
def authority_of_another_key() -> Presented:
    """RFC 5280 §4.2.1.1: the leaf wants another key of that name."""
    return under_root(leaf(authority=OTHER), ca())


@refused(ChainRefusal.UNTRUSTED)
def issuer_of_another_identifier() -> Presented:
    """RFC 5280 §4.2.1.2: the issuer's identifier is not the one that the leaf wants."""
    return under_root(leaf(), ca(identifier=OTHER))


@refused(ChainRefusal.UNTRUSTED)
def authority_of_the_intermediate_of_another_key() -> Presented:
    """RFC 5280 §4.2.1.1: so between an intermediate and the anchor."""
    return under_root(leaf(), ca(authority=OTHER))


@accepted()
def of_the_cas_own_making() -> Presented:
    """RFC 5280 §4.2.1.2: how an identifier is derived is up to the CA, if both are alike."""
    return under_root(leaf(authority=OTHER), ca(identifier=OTHER))


@accepted(openssl="refuses: it takes the first issuer that fits and tries no other")
def same_for_two_keys_of_one_name() -> Presented:
    """RFC 4158 §3.5.12: an identifier is a hint; the signature decides."""
    wrong = ca(own_key=key("wrong"), identifier=OTHER)
    right = ca(identifier=OTHER)
    device = leaf(authority=OTHER)
    return presented(device, wrong, right, anchors=(root(),), path=(device, right, root()))


@accepted(openssl="refuses: it holds issuer and serial number of the hint against the issuer")
def authority_by_another_serial_number() -> Presented:
    """RFC 5280 §4.2.1.1: issuer and serial number help to find a certificate, and bind nothing."""
    elsewhere = x509.AuthorityKeyIdentifier(
        key_identifier(key("issuing")), [x509.DirectoryName(common_name("elsewhere"))], 7
    )
    return under_root(leaf(authority=None, extra=[extension(elsewhere)]), ca())
