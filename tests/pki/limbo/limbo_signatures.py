"""Signature algorithms: weak, unknown, oddly spelt, and not what the outside says."""

from cryptography.hazmat.primitives import hashes
from limbo_case import Presented, accepted, refused, under_root
from limbo_forge import (
    ECDSA_SHA1,
    ECDSA_SHA3_256,
    ECDSA_SHA224,
    ECDSA_SHA256,
    ECDSA_SHA384,
    ECDSA_SHA512,
    NULL,
    PSS_SHA1,
    PSS_SHA256,
    PSS_SHA384,
    RSA_MD5,
    RSA_SHA1,
    RSA_SHA256,
    RSA_SHA512,
    Signature,
    ca,
    key,
    leaf,
    oid,
    pss,
    sequence,
)

from fleetroot.pki import ChainRefusal

NO_LEVEL = "accepts: it has no list of algorithms, only a security level, and none is asked for"
UNHEARD = sequence(oid("1.3.6.1.4.1.55555.4"))


def by_rsa(signature: Signature) -> Presented:
    issuing = key("of ca", "RSA-2048")
    return under_root(leaf(signer=issuing, signature=signature), ca(own_key=issuing))


@accepted()
def ecdsa_p256_sha512() -> Presented:
    """RFC 5758 §3.2: the hash need not be the curve's own, if it is no weaker."""
    return under_root(leaf(signature=ECDSA_SHA512), ca())


@accepted()
def rsa_sha512() -> Presented:
    """RFC 4055 §5: RSA with SHA-512."""
    return by_rsa(RSA_SHA512)


@accepted()
def rsa_pss_sha256() -> Presented:
    """RFC 4055 §3.1: PSS with SHA-256 throughout and a salt of 32."""
    return by_rsa(PSS_SHA256)


@accepted()
def rsa_pss_sha384() -> Presented:
    """RFC 4055 §3.1: PSS with SHA-384 throughout and a salt of 48."""
    return by_rsa(PSS_SHA384)


@refused(ChainRefusal.WEAK_SIGNATURE, openssl=NO_LEVEL)
def ecdsa_sha1_of_the_leaf() -> Presented:
    """RFC 9155 §1: SHA-1 collides."""
    return under_root(leaf(signature=ECDSA_SHA1), ca())


@refused(ChainRefusal.WEAK_SIGNATURE, openssl=NO_LEVEL)
def ecdsa_sha1_of_the_intermediate() -> Presented:
    """RFC 9155 §1: under a CA's certificate even more so."""
    return under_root(leaf(), ca(signature=ECDSA_SHA1))


@refused(ChainRefusal.WEAK_SIGNATURE, openssl=NO_LEVEL)
def rsa_sha1() -> Presented:
    """RFC 9155 §1: SHA-1 with RSA."""
    return by_rsa(RSA_SHA1)


@refused(ChainRefusal.WEAK_SIGNATURE, openssl=NO_LEVEL)
def rsa_md5() -> Presented:
    """RFC 6151 §2: a CA was forged with MD5 in 2008."""
    return by_rsa(RSA_MD5)


@refused(ChainRefusal.WEAK_SIGNATURE, openssl=NO_LEVEL)
def rsa_pss_sha1() -> Presented:
    """RFC 4055 §3.1: the defaults of PSS are SHA-1."""
    return by_rsa(PSS_SHA1)


@refused(ChainRefusal.WEAK_SIGNATURE, openssl=NO_LEVEL)
def rsa_pss_with_a_short_salt() -> Presented:
    """RFC 4055 §3.1: the salt should be as long as the hash, and has to be."""
    return by_rsa(pss(hashes.SHA256(), "2.16.840.1.101.3.4.2.1", salt=20))


@refused(ChainRefusal.WEAK_SIGNATURE)
def rsa_pss_without_parameters() -> Presented:
    """RFC 4055 §3.1: in a certificate the parameters must be there."""
    return by_rsa(PSS_SHA256.spelt(sequence(oid("1.2.840.113549.1.1.10"))))


@refused(ChainRefusal.WEAK_SIGNATURE, openssl="accepts: RFC 4055 §5 has it so")
def rsa_without_null() -> Presented:
    """RFC 4055 §5: the parameters must be NULL; that they may lack, our library does not take."""
    return by_rsa(RSA_SHA256.spelt(sequence(oid("1.2.840.113549.1.1.11"))))


@refused(ChainRefusal.MALFORMED, openssl="accepts: it does not look at the parameters")
def ecdsa_with_null() -> Presented:
    """RFC 5758 §3.2: ECDSA has no parameters, not even NULL."""
    spelt = sequence(oid("1.2.840.10045.4.3.2"), NULL)
    return under_root(leaf(signature=ECDSA_SHA256.spelt(spelt)), ca())


@refused(ChainRefusal.WEAK_SIGNATURE, openssl=NO_LEVEL)
def ecdsa_sha224() -> Presented:
    """RFC 5758 §3.2: below the strength that is asked for."""
    return under_root(leaf(signature=ECDSA_SHA224), ca())


@refused(ChainRefusal.WEAK_SIGNATURE, openssl=NO_LEVEL)
def ecdsa_sha3() -> Presented:
    """RFC 8692 §2 and its like: strong, and not on the list."""
    return under_root(leaf(signature=ECDSA_SHA3_256), ca())


@refused(ChainRefusal.WEAK_SIGNATURE)
def algorithm_nobody_knows_of_the_leaf() -> Presented:
    """RFC 5280 §4.1.1.2: an algorithm without a name here."""
    return under_root(leaf(signature=ECDSA_SHA256.spelt(UNHEARD)), ca())


@refused(ChainRefusal.WEAK_SIGNATURE)
def algorithm_nobody_knows_of_the_intermediate() -> Presented:
    """RFC 5280 §4.1.1.2: so under a CA's certificate."""
    return under_root(leaf(), ca(signature=ECDSA_SHA256.spelt(UNHEARD)))


@refused(ChainRefusal.WEAK_SIGNATURE)
def none_at_all() -> Presented:
    """RFC 9925 §3.1: a certificate whose signature says that there is none."""
    unsigned = Signature(sequence(oid("1.3.6.1.5.5.7.6.36")), lambda _key, _tbs: b"")
    return under_root(leaf(signature=unsigned), ca())


@refused(ChainRefusal.BAD_SIGNATURE)
def another_inside_than_outside() -> Presented:
    """RFC 5280 §4.1.1.2: both must be the same."""
    return under_root(leaf(outer_identifier=ECDSA_SHA384.identifier), ca())


@refused(ChainRefusal.BAD_SIGNATURE)
def sha1_inside_and_sha256_outside() -> Presented:
    """RFC 5280 §4.1.1.2: a weak one cannot pass for a strong one."""
    device = leaf(signature=ECDSA_SHA1, outer_identifier=ECDSA_SHA256.identifier)
    return under_root(device, ca())


@refused(ChainRefusal.BAD_SIGNATURE)
def sha256_inside_and_sha1_by_hand() -> Presented:
    """RFC 5280 §6.1.3 (a)(1): the signature is of SHA-1, whatever both places say."""
    return under_root(leaf(signature=ECDSA_SHA1.spelt(ECDSA_SHA256.identifier)), ca())


@refused(ChainRefusal.BAD_SIGNATURE)
def rsa_said_of_a_ca_on_a_curve() -> Presented:
    """RFC 5280 §4.1.1.2: the algorithm is not one of the issuer's key."""
    return under_root(leaf(signature=ECDSA_SHA256.spelt(RSA_SHA256.identifier)), ca())


@refused(ChainRefusal.BAD_SIGNATURE)
def empty() -> Presented:
    """RFC 5280 §4.1.1.3: a signature of no bits."""
    nothing = Signature(ECDSA_SHA256.identifier, lambda _key, _tbs: b"")
    return under_root(leaf(signature=nothing), ca())
