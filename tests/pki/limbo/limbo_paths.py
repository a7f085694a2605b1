"""Which certificates make the path: order, missing links, repetitions, strangers, cross-signing."""

from limbo_case import Presented, accepted, presented, refused
from limbo_forge import ca, key, key_identifier, leaf, root
from pki_workshop import NOW

from fleetroot.pki import ChainRefusal

ROOT = root()
ISSUING = ca()
NO_OTHER_PATH = "refuses: it takes the first issuer that fits and tries no other"


@accepted()
def leaf_issuing_root() -> Presented:
    """RFC 5280 §6.1: the plain case."""
    device = leaf()
    return presented(device, ISSUING, anchors=(ROOT,), path=(device, ISSUING, ROOT))


@accepted()
def leaf_under_root() -> Presented:
    """RFC 5280 §6.1: a path may have no intermediate."""
    return presented(leaf(issuer="root"), anchors=(ROOT,))


@accepted()
def root_sent_along() -> Presented:
    """RFC 5246 §7.4.2: the root may be left out or sent."""
    device = leaf()
    return presented(device, ISSUING, ROOT, anchors=(ROOT,), path=(device, ISSUING, ROOT))


@accepted()
def root_sent_before_the_intermediate() -> Presented:
    """RFC 8446 §4.4.2: order after the leaf is not to be relied on."""
    return presented(leaf(), ROOT, ISSUING, anchors=(ROOT,))


@accepted()
def four_intermediates_in_reverse() -> Presented:
    """RFC 8446 §4.4.2: the longest path we take, in the worst order."""
    one, two, three, four = ca("1"), ca("2", "1"), ca("3", "2"), ca("4", "3")
    device = leaf(issuer="4")
    return presented(
        device,
        one,
        two,
        three,
        four,
        anchors=(ROOT,),
        path=(device, four, three, two, one, ROOT),
    )


@refused(ChainRefusal.UNTRUSTED)
def leaf_last() -> Presented:
    """RFC 8446 §4.4.2: the sender's own certificate comes first; here a CA of one name does not."""
    return presented(leaf("gateway", "other"), leaf(), ISSUING, anchors=(ROOT,))


@refused(ChainRefusal.LEAF_IS_CA, openssl="accepts: to it any certificate may be a leaf")
def intermediate_first() -> Presented:
    """RFC 8446 §4.4.2: whoever sends a CA certificate first claims to be that CA."""
    return presented(ISSUING, leaf(), anchors=(ROOT,))


@refused(ChainRefusal.UNTRUSTED)
def intermediate_missing() -> Presented:
    """RFC 5280 §6.1 (a): no certificate has the leaf's issuer as its subject."""
    return presented(leaf(), anchors=(ROOT,))


@refused(ChainRefusal.UNTRUSTED)
def upper_intermediate_missing() -> Presented:
    """RFC 5280 §6.1 (a): the link is missing between the intermediate and the anchor."""
    return presented(leaf(issuer="lower"), ca("lower", "upper"), anchors=(ROOT,))


@refused(ChainRefusal.UNTRUSTED)
def middle_intermediate_missing() -> Presented:
    """RFC 5280 §6.1 (a): what is above the gap does not help."""
    return presented(leaf(issuer="3"), ca("3", "2"), ca("1"), anchors=(ROOT,))


@accepted()
def every_certificate_twice() -> Presented:
    """RFC 5280 §6.1: no certificate occurs twice in a path, so what is sent twice counts once."""
    device = leaf()
    return presented(device, ISSUING, device, ISSUING, ROOT, ROOT, anchors=(ROOT,))


@accepted()
def strangers_between() -> Presented:
    """RFC 4158 §2.4.2: what has no part in the path is passed over, whatever is wrong with it."""
    stranger = root("stranger", not_after=NOW, key_usage=None)
    other = leaf("device-2", "stranger")
    return presented(leaf(), stranger, other, ISSUING, anchors=(ROOT,))


@accepted(openssl=NO_OTHER_PATH)
def crossed_ca_with_the_untrusted_root_first() -> Presented:
    """RFC 4158 §2.3: a CA has two certificates, and one of them leads to the anchor."""
    device, crossed = leaf(), ca("issuing", "new root")
    new = root("new root")
    return presented(device, ISSUING, crossed, anchors=(new,), path=(device, crossed, new))


@accepted()
def crossed_ca_with_both_roots_trusted() -> Presented:
    """RFC 4158 §2.3: either path will do."""
    return presented(leaf(), ISSUING, ca("issuing", "new root"), anchors=(root("new root"), ROOT))


@accepted(openssl=NO_OTHER_PATH)
def crossed_root() -> Presented:
    """RFC 4158 §2.3: a new root, signed by the old one that is trusted, beside its own self."""
    issuing, crossed = ca("issuing", "new root"), ca("new root", "root")
    return presented(leaf(), issuing, root("new root"), crossed, anchors=(ROOT,))


@accepted()
def crossed_ca_that_expired_beside_the_valid_one() -> Presented:
    """RFC 4158 §3.1: one dead end does not end the search."""
    return presented(leaf(), ca(not_after=NOW.replace(day=14)), ISSUING, anchors=(ROOT,))


@accepted(openssl=NO_OTHER_PATH)
def crossed_ca_that_is_no_ca_beside_the_valid_one() -> Presented:
    """RFC 4158 §3.1: nor does one that breaks a rule of ours alone."""
    return presented(leaf(), ca(ca=False), ISSUING, anchors=(ROOT,))


@refused(ChainRefusal.UNTRUSTED)
def cas_that_sign_each_other() -> Presented:
    """RFC 4158 §2.3: a ring of cross-certificates leads nowhere, and the search ends."""
    return presented(leaf(issuer="a"), ca("a", "b"), ca("b", "a"), anchors=(ROOT,))


@accepted(openssl=NO_OTHER_PATH)
def ring_with_a_way_out() -> Presented:
    """RFC 4158 §2.3: of a ring of cross-certificates, one CA is signed by the anchor too."""
    return presented(leaf(issuer="a"), ca("a", "b"), ca("b", "a"), ca("b", "root"), anchors=(ROOT,))


@refused(ChainRefusal.UNTRUSTED)
def self_signed_leaf() -> Presented:
    """RFC 5280 §6.1 (a): signed by itself and by no anchor."""
    return presented(leaf(issuer="device-1"), anchors=(ROOT,))


@refused(ChainRefusal.UNTRUSTED)
def self_signed_leaf_with_the_name_of_the_anchor() -> Presented:
    """RFC 5280 §4.2.1.1: the name is the anchor's, key and identifier are not."""
    thief = key("thief")
    return presented(leaf("root", "root", own_key=thief, signer=thief), anchors=(ROOT,))


@refused(ChainRefusal.UNTRUSTED)
def chain_of_its_own_root() -> Presented:
    """RFC 5280 §6.1.1 (d): a root that the peer brings along is no anchor."""
    cuckoo = root("cuckoo")
    return presented(leaf(issuer="cuckoo"), cuckoo, anchors=(ROOT,))


@refused(ChainRefusal.BAD_SIGNATURE)
def forged_by_another_key_without_identifiers() -> Presented:
    """RFC 5280 §6.1.3 (a)(1): the anchor's name under a signature of another key."""
    forged = leaf(issuer="root", signer=key("thief"), authority=None)
    return presented(forged, anchors=(ROOT,))


@refused(ChainRefusal.BAD_SIGNATURE)
def forged_intermediate_with_copied_identifiers() -> Presented:
    """RFC 5280 §6.1.3 (a)(1): names and key identifiers are right, the signature is not."""
    forged = ca(signer=key("thief"), authority=key_identifier(key("root")))
    return presented(leaf(), forged, anchors=(ROOT,))


@refused(ChainRefusal.BAD_SIGNATURE)
def signature_changed() -> Presented:
    """RFC 5280 §6.1.3 (a)(1): the last bit of the leaf's signature is another."""
    device = leaf()
    return presented(device[:-1] + bytes([device[-1] ^ 1]), ISSUING, anchors=(ROOT,))


@refused(ChainRefusal.BAD_SIGNATURE)
def subject_changed() -> Presented:
    """RFC 5280 §6.1.3 (a)(1): the leaf names another device than was signed."""
    return presented(leaf().replace(b"device-1", b"device-2"), ISSUING, anchors=(ROOT,))


@refused(ChainRefusal.NOT_A_CA)
def leaf_signed_by_a_device() -> Presented:
    """RFC 5280 §6.1.4 (k): a device with a certificate of ours cannot make more devices."""
    return presented(leaf("other", "device-1"), leaf(), ISSUING, anchors=(ROOT,))
