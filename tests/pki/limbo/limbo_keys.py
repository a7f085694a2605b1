"""Kinds of keys, of leaves and of CAs: accepted, weak, oddly spelt."""

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from limbo_case import Presented, accepted, refused, under_root
from limbo_forge import (
    NULL,
    bits,
    ca,
    integer,
    key,
    leaf,
    octets,
    oid,
    sequence,
)

from fleetroot.pki import ChainRefusal

NO_LEVEL = "accepts: its security level is not asked for, and it has no list of kinds"
EC_KEY, PRIME_FIELD, P256 = "1.2.840.10045.2.1", "1.2.840.10045.1.1", "1.2.840.10045.3.1.7"
RSA_KEY, PSS_KEY = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"
# SEC 2 §2.4.2: secp256r1.
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
X = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
Y = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def of_leaf(kind: str) -> Presented:
    return under_root(leaf(own_key=key("of leaf", kind)), ca())


def of_ca(kind: str) -> Presented:
    other = key("of ca", kind)
    return under_root(leaf(signer=other), ca(own_key=other))


def written(public_key_info: bytes) -> Presented:
    return under_root(leaf(public_key_info=public_key_info), ca())


def point() -> bytes:
    public = key("device-1").public_key()
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def explicit_p256() -> bytes:
    generator = b"\x04" + X.to_bytes(32, "big") + Y.to_bytes(32, "big")
    curve = sequence(octets((P - 3).to_bytes(32, "big")), octets(B.to_bytes(32, "big")))
    field = sequence(oid(PRIME_FIELD), integer(P))
    parameters = sequence(integer(1), field, curve, octets(generator), integer(ORDER), integer(1))
    return sequence(sequence(oid(EC_KEY), parameters), bits(point()))


@accepted()
def p384_of_the_leaf() -> Presented:
    """RFC 5480 §2.1.1.1: secp384r1."""
    return of_leaf("P-384")


@accepted()
def p384_of_the_ca() -> Presented:
    """RFC 5758 §3.2: ECDSA with SHA-384."""
    return of_ca("P-384")


@accepted()
def p521_of_the_leaf() -> Presented:
    """RFC 5480 §2.1.1.1: secp521r1."""
    return of_leaf("P-521")


@accepted()
def p521_of_the_ca() -> Presented:
    """RFC 5758 §3.2: ECDSA with SHA-512."""
    return of_ca("P-521")


@accepted()
def rsa_2048_of_the_leaf() -> Presented:
    """RFC 8017 §3.1: the least size that is accepted."""
    return of_leaf("RSA-2048")


@accepted()
def rsa_2048_of_the_ca() -> Presented:
    """RFC 4055 §5: RSA with SHA-256."""
    return of_ca("RSA-2048")


@accepted()
def rsa_3072_of_the_leaf() -> Presented:
    """RFC 8017 §3.1: a middle size."""
    return of_leaf("RSA-3072")


@accepted()
def ml_dsa_44_of_the_leaf() -> Presented:
    """RFC 9881 §4: ML-DSA-44."""
    return of_leaf("ML-DSA-44")


@accepted()
def ml_dsa_44_of_the_ca() -> Presented:
    """RFC 9881 §3: signed with ML-DSA-44."""
    return of_ca("ML-DSA-44")


@accepted()
def ml_dsa_65_of_the_leaf() -> Presented:
    """RFC 9881 §4: ML-DSA-65."""
    return of_leaf("ML-DSA-65")


@accepted()
def ml_dsa_65_of_the_ca() -> Presented:
    """RFC 9881 §3: signed with ML-DSA-65."""
    return of_ca("ML-DSA-65")


@accepted()
def ml_dsa_87_of_the_leaf() -> Presented:
    """RFC 9881 §4: ML-DSA-87."""
    return of_leaf("ML-DSA-87")


@accepted()
def ml_dsa_87_of_the_ca() -> Presented:
    """RFC 9881 §3: signed with ML-DSA-87."""
    return of_ca("ML-DSA-87")


@accepted()
def a_kind_for_each_certificate() -> Presented:
    """RFC 5280 §6.1.3 (a)(1): an RSA leaf under ML-DSA under P-384 under a P-256 root."""
    upper, lower = key("mixed", "P-384"), key("mixed", "ML-DSA-65")
    return under_root(
        leaf(issuer="lower", own_key=key("of leaf", "RSA-2048"), signer=lower),
        ca("lower", "upper", own_key=lower, signer=upper),
        ca("upper", own_key=upper),
    )


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def rsa_1024_of_the_leaf() -> Presented:
    """RFC 8017 §3.1: too small; NIST SP 800-131A has disallowed it since 2014."""
    return of_leaf("RSA-1024")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def rsa_1024_of_the_ca() -> Presented:
    """RFC 8017 §3.1: too small for a CA."""
    return of_ca("RSA-1024")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def rsa_512_of_the_leaf() -> Presented:
    """RFC 8017 §3.1: a modulus that anybody can factor; libraries make none any more."""
    modulus = (1 << 511) | (1 << 300) | 0x1D5
    public = sequence(integer(modulus), integer(65537))
    return written(sequence(sequence(oid(RSA_KEY), NULL), bits(public)))


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def rsa_of_an_odd_size() -> Presented:
    """Our rule: 2048, 3072 or 4096 bits; 2056 is none of them."""
    return of_leaf("RSA-2056")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def rsa_exponent_3() -> Presented:
    """RFC 8017 §3.1: an exponent of 3 forgives no mistake in padding."""
    return of_leaf("RSA-2048-e3")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def rsa_exponent_3_of_the_ca() -> Presented:
    """RFC 8017 §3.1: of a CA least of all."""
    return of_ca("RSA-2048-e3")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def rsa_key_for_pss_only() -> Presented:
    """RFC 4055 §1.2: a key that names id-RSASSA-PSS; rsaEncryption is what is accepted."""
    info = key("of leaf", "RSA-2048").public_key()
    public = info.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return written(sequence(sequence(oid(PSS_KEY)), bits(public)))


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def p224_of_the_leaf() -> Presented:
    """RFC 5480 §2.1.1.1: a curve that is too small."""
    return of_leaf("P-224")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def p224_of_the_ca() -> Presented:
    """RFC 5480 §2.1.1.1: a CA on a curve that is too small."""
    return of_ca("P-224")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def secp256k1_of_the_leaf() -> Presented:
    """SEC 2 and RFC 5480 §2.1.1.1: a curve that is not among ours."""
    return of_leaf("secp256k1")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def brainpool_of_the_ca() -> Presented:
    """RFC 5639 §3: another."""
    return of_ca("brainpoolP256r1")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def ed25519_of_the_leaf() -> Presented:
    """RFC 8410 §3: a good key, and not among our kinds."""
    return of_leaf("Ed25519")


@refused(ChainRefusal.WEAK_SIGNATURE, openssl=NO_LEVEL)
def ed25519_of_the_ca() -> Presented:
    """RFC 8410 §6: so is its signature."""
    return of_ca("Ed25519")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def ed448_of_the_leaf() -> Presented:
    """RFC 8410 §3: as Ed25519."""
    return of_leaf("Ed448")


@refused(ChainRefusal.WEAK_KEY, openssl=NO_LEVEL)
def dsa_of_the_leaf() -> Presented:
    """RFC 3279 §2.3.2: FIPS 186-5 has no DSA any more."""
    return of_leaf("DSA-1024")


@refused(ChainRefusal.WEAK_KEY)
def explicit_parameters_of_the_leaf() -> Presented:
    """RFC 5480 §2.1.1: P-256 spelt out; curves are named (CVE-2020-0601)."""
    return written(explicit_p256())


@refused(
    ChainRefusal.WEAK_KEY,
)
def explicit_parameters_of_the_ca() -> Presented:
    """RFC 5480 §2.1.1: a CA whose curve is spelt out."""
    info = explicit_p256()
    return under_root(
        leaf(signer=key("device-1")), ca(own_key=key("device-1"), public_key_info=info)
    )


@refused(ChainRefusal.WEAK_KEY)
def algorithm_nobody_knows() -> Presented:
    """RFC 5280 §4.1.2.7: a key of an algorithm that has no name here."""
    return written(sequence(sequence(oid("1.3.6.1.4.1.55555.3")), bits(bytes(32))))


@refused(ChainRefusal.WEAK_KEY)
def point_off_the_curve() -> Presented:
    """RFC 5480 §2.2: the point is not on the curve that is named."""
    off = point()[:-1] + bytes([point()[-1] ^ 1])
    return written(sequence(sequence(oid(EC_KEY), oid(P256)), bits(off)))


@refused(ChainRefusal.WEAK_KEY)
def no_key_at_all() -> Presented:
    """RFC 5480 §2.2: a named curve and no point."""
    return written(sequence(sequence(oid(EC_KEY), oid(P256)), bits(b"")))


@accepted()
def point_compressed() -> Presented:
    """RFC 5480 §2.2: a compressed point may be supported, and is."""
    public = key("device-1").public_key()
    compressed = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return written(sequence(sequence(oid(EC_KEY), oid(P256)), bits(compressed)))
