"""Where a path may end: roots, issuing CAs, anchors that break rules, anchors of one name."""

from limbo_case import Presented, accepted, presented, refused
from limbo_forge import ECDSA_SHA1, SECOND, SERVER, ca, key, leaf, root
from pki_workshop import NOW, usage

from fleetroot.pki import ChainRefusal

ISSUING = ca()


@accepted()
def issuing_ca_alone() -> Presented:
    """RFC 5280 §6.1.1 (d): an anchor is a name and a key, it need not be a root (our rule)."""
    device = leaf()
    return presented(device, anchors=(ISSUING,), path=(device, ISSUING))


@accepted()
def issuing_ca_of_which_the_root_is_sent_along() -> Presented:
    """RFC 5280 §6.1.1 (d): what is above the anchor does not matter."""
    device = leaf()
    return presented(device, ISSUING, root(), anchors=(ISSUING,), path=(device, ISSUING))


@refused(ChainRefusal.UNTRUSTED)
def issuing_ca_and_a_leaf_of_its_root() -> Presented:
    """Our rule: an issuing CA as anchor says nothing of its siblings, nor of the root above."""
    return presented(leaf(issuer="sibling"), ca("sibling"), root(), anchors=(ISSUING,))


@accepted()
def nearest_of_two() -> Presented:
    """RFC 5280 §6.1.1 (d): the path ends at the first anchor that it meets."""
    device = leaf()
    return presented(device, ISSUING, anchors=(root(), ISSUING), path=(device, ISSUING))


@refused(ChainRefusal.UNTRUSTED)
def none_at_all() -> Presented:
    """RFC 5280 §6.1.1 (d): without an anchor nothing is trusted."""
    return presented(leaf(), ISSUING, root(), anchors=())


@refused(ChainRefusal.UNTRUSTED)
def somebody_elses() -> Presented:
    """RFC 5280 §6.1.1 (d): the path ends at a root that is not trusted."""
    return presented(leaf(), ISSUING, root(), anchors=(root("other"),))


@refused(ChainRefusal.LEAF_IS_CA, openssl="accepts: to it a trusted CA is also a client")
def presented_as_leaf() -> Presented:
    """Our rule: a CA certificate is no device's, were it an anchor."""
    return presented(ISSUING, anchors=(ISSUING,))


@refused(ChainRefusal.UNTRUSTED, openssl="accepts: with partial chains it trusts a leaf itself")
def leaf_as_its_own() -> Presented:
    """RFC 5280 §6.1 (c): a leaf is not trusted for standing among the anchors."""
    device = leaf()
    return presented(device, anchors=(device,))


@refused(ChainRefusal.UNTRUSTED, openssl="accepts: it trusts a leaf for its own self-signature")
def self_signed_leaf_as_its_own() -> Presented:
    """RFC 5280 §6.1 (c): nor if it is self-signed; thumbprints are another proof (our rule)."""
    device = leaf(issuer="device-1")
    return presented(device, anchors=(device,))


@refused(ChainRefusal.NOT_A_CA)
def no_ca() -> Presented:
    """RFC 5280 §4.2.1.9: CA:FALSE is not waived for an anchor."""
    return presented(leaf(issuer="root"), anchors=(root(ca=False),))


@refused(ChainRefusal.KEY_CERT_SIGN_MISSING)
def no_key_cert_sign() -> Presented:
    """RFC 5280 §4.2.1.3: nor is keyCertSign."""
    return presented(leaf(), ISSUING, anchors=(root(key_usage=usage(sign=True)),))


@refused(ChainRefusal.CLIENT_AUTH_MISSING)
def for_servers_only() -> Presented:
    """RFC 5280 §4.2.1.12: an anchor for servers vouches for no client."""
    return presented(leaf(), ISSUING, anchors=(root(purposes=[SERVER]),))


@refused(ChainRefusal.EXPIRED)
def expired() -> Presented:
    """RFC 5280 §4.1.2.5: the validity of an anchor counts here, as that of every CA."""
    return presented(leaf(), ISSUING, anchors=(root(not_after=NOW - SECOND),))


@refused(ChainRefusal.NOT_YET_VALID)
def not_yet_valid() -> Presented:
    """RFC 5280 §4.1.2.5: so does its beginning."""
    return presented(leaf(), ISSUING, anchors=(root(not_before=NOW + SECOND),))


@refused(ChainRefusal.EXPIRED)
def expired_issuing_ca() -> Presented:
    """RFC 5280 §4.1.2.5: an issuing CA as anchor expires as well."""
    return presented(leaf(), anchors=(ca(not_after=NOW - SECOND),))


@accepted()
def self_signed_with_sha1() -> Presented:
    """RFC 5280 §6.1.1 (d): how an anchor is signed does not matter, only its name and key."""
    return presented(leaf(), ISSUING, anchors=(root(signature=ECDSA_SHA1),))


@refused(ChainRefusal.PATH_LENGTH)
def self_signed_with_sha1_and_without_room() -> Presented:
    """RFC 5280 §6.1.1 (d): so its signature is not the reason either, where there is another."""
    return presented(leaf(), ISSUING, anchors=(root(signature=ECDSA_SHA1, path_length=0),))


@accepted()
def self_signature_that_does_not_verify() -> Presented:
    """RFC 5280 §6.1.1 (d): the signature on an anchor is not looked at."""
    return presented(leaf(), ISSUING, anchors=(root(signer=key("thief"), authority=None),))


@accepted()
def two_of_one_name_by_identifier() -> Presented:
    """RFC 5280 §4.2.1.1: key identifiers tell keys of one name apart."""
    new = root(own_key=key("new"), signer=key("new"))
    device = leaf(issuer="root", signer=key("new"))
    return presented(device, anchors=(root(), new), path=(device, new))


@accepted(openssl="refuses: it takes the first anchor of the name and tries no other")
def two_of_one_name_without_identifiers() -> Presented:
    """RFC 4158 §3.5.12: without identifiers the signature tells them apart."""
    bare = {"authority": None, "identifier": None}
    new = root(own_key=key("new"), signer=key("new"), **bare)
    device = leaf(issuer="root", signer=key("new"), **bare)
    return presented(device, anchors=(root(**bare), new), path=(device, new))


@refused(ChainRefusal.UNTRUSTED)
def same_key_under_another_name() -> Presented:
    """RFC 5280 §6.1.3 (a)(4): the key is right, and the names do not chain."""
    return presented(leaf(issuer="root"), anchors=(root("renamed", own_key=key("root")),))


@accepted()
def one_key_under_two_names() -> Presented:
    """RFC 5280 §6.1.3 (a)(4): of two anchors with one key, the one that is named."""
    renamed = root("renamed", own_key=key("root"), signer=key("root"))
    device = leaf(issuer="renamed", signer=key("root"))
    return presented(device, anchors=(root(), renamed), path=(device, renamed))


@accepted()
def renewed_with_its_key() -> Presented:
    """RFC 5280 §6.1.1 (d): an expired anchor beside its renewal does no harm."""
    old, new = root(not_after=NOW - SECOND), root(serial=2)
    device = leaf()
    return presented(device, ISSUING, anchors=(old, new), path=(device, ISSUING, new))


@accepted()
def given_twice() -> Presented:
    """RFC 5280 §6.1.1 (d): one anchor, said twice."""
    return presented(leaf(), ISSUING, anchors=(root(), root()))
