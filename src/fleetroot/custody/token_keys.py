"""Keys that live in a token: how they are made there, and objects that sign with them.

A key is made in the token, is sensitive and not extractable, and is found again by its CKA_ID,
which is derived from the record's name. Here is only its public half. The objects take the place of
the library's private keys: its builders and ours sign with them alike. They have no private bytes.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asym_utils

from fleetroot.custody.cryptoki import (
    Attribute,
    CryptokiError,
    Mechanism,
    ObjectClass,
    Rv,
    Template,
)
from fleetroot.custody.sealing import RecordName
from fleetroot.custody.session import Session
from fleetroot.custody.token import Token
from fleetroot.errors import InvalidArgument, Unavailable
from fleetroot.pki import KeyType, PublicKey

_ID_BYTES: Final = 20
_CKK_RSA: Final = 0
_CKK_EC: Final = 3
_RSA_EXPONENT: Final = 65537
_MAX_LABEL: Final = 64
_TEST: Final = b"fleetroot: a key that was just made"

# DER of namedCurve (RFC 5480 §2.1.1.1).
_CURVES: Final[dict[KeyType, tuple[ec.EllipticCurve, bytes]]] = {
    KeyType.EC_P256: (ec.SECP256R1(), bytes.fromhex("06082a8648ce3d030107")),
    KeyType.EC_P384: (ec.SECP384R1(), bytes.fromhex("06052b81040022")),
    KeyType.EC_P521: (ec.SECP521R1(), bytes.fromhex("06052b81040023")),
}
_RSA_BITS: Final = {KeyType.RSA_2048: 2048, KeyType.RSA_3072: 3072, KeyType.RSA_4096: 4096}
_RSA_MECHANISMS: Final = {
    "sha256": Mechanism.SHA256_RSA_PKCS,
    "sha384": Mechanism.SHA384_RSA_PKCS,
    "sha512": Mechanism.SHA512_RSA_PKCS,
}
_CANNOT: Final = frozenset(
    {
        Rv.MECHANISM_INVALID,
        Rv.MECHANISM_PARAM_INVALID,
        Rv.CURVE_NOT_SUPPORTED,
        Rv.KEY_SIZE_RANGE,
        Rv.FUNCTION_NOT_SUPPORTED,
        Rv.ATTRIBUTE_VALUE_INVALID,
        Rv.TEMPLATE_INCONSISTENT,
        Rv.TOKEN_WRITE_PROTECTED,
    }
)

TokenPrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class TokenCannot(InvalidArgument):
    """The token holds no keys of that type."""


class TokenKeyUnsafe(Unavailable):
    """What the token made is not what was asked for, and was destroyed."""


def key_id(name: RecordName) -> bytes:
    """CKA_ID of the key of that name: 20 bytes."""
    return hashlib.sha256(b"fleetroot/pkcs11/1\0" + name.to_bytes()).digest()[:_ID_BYTES]


def generate(token: Token, key_type: KeyType, name: RecordName) -> PublicKey:
    """Makes a key pair in the token.

    Raises:
        TokenCannot: the token holds no keys of this type, or has one of this name.
        TokenAway: it does not answer now.
        TokenKeyUnsafe: the key could be read out, or does not sign.
    """
    if key_type not in _CURVES and key_type not in _RSA_BITS:
        raise TokenCannot(
            f"token {token.name} cannot hold {key_type} keys: use EC or RSA there, or keep the key "
            "in software"
        )
    try:
        public = token.use(lambda session: _generate(session, token, key_type, name), writing=True)
    except CryptokiError as error:
        if error.rv in _CANNOT:
            raise TokenCannot(f"token {token.name} cannot make {key_type} keys: {error}") from error
        raise Unavailable("the key cannot be made now", reason=str(error)) from error
    _check_pair(token, name, public)
    return public


def _generate(session: Session, token: Token, key_type: KeyType, name: RecordName) -> PublicKey:
    module, handle, id_ = session.module, session.handle, key_id(name)
    if session.private_keys(id_):
        raise TokenCannot(f"token {token.name} has a key of this name already")
    label = f"{name.kind} {name.id}".encode()[:_MAX_LABEL]
    common: dict[Attribute, bytes | bool | int] = {
        Attribute.TOKEN: True,
        Attribute.ID: id_,
        Attribute.LABEL: label,
    }
    mechanism, parameters = _parameters(key_type)
    public: Template = {
        **common,
        Attribute.CLASS: ObjectClass.PUBLIC_KEY,
        Attribute.VERIFY: True,
        **parameters,
    }
    private: Template = {
        **common,
        Attribute.CLASS: ObjectClass.PRIVATE_KEY,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.SIGN: True,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
    }
    public_key, private_key = module.generate_key_pair(handle, mechanism, public, private)
    try:
        for attribute, wanted in (
            (Attribute.SENSITIVE, True),
            (Attribute.ALWAYS_SENSITIVE, True),
            (Attribute.EXTRACTABLE, False),
            (Attribute.NEVER_EXTRACTABLE, True),
            (Attribute.LOCAL, True),
        ):
            if module.read(handle, private_key, attribute) != bytes([wanted]):
                raise TokenKeyUnsafe(
                    "the key cannot be made now",
                    reason=f"token {token.name} made a key with CKA_{attribute.name} {not wanted}",
                )
        return _read_public_key(session, public_key, key_type)
    except Exception:
        for made in (private_key, public_key):
            module.destroy(handle, made)
        raise


def _parameters(key_type: KeyType) -> tuple[Mechanism, dict[Attribute, bytes | bool | int]]:
    if (bits := _RSA_BITS.get(key_type)) is not None:
        return Mechanism.RSA_PKCS_KEY_PAIR_GEN, {
            Attribute.KEY_TYPE: _CKK_RSA,
            Attribute.MODULUS_BITS: bits,
            Attribute.PUBLIC_EXPONENT: _RSA_EXPONENT.to_bytes(3, "big"),
        }
    _, parameters = _CURVES[key_type]
    return Mechanism.EC_KEY_PAIR_GEN, {
        Attribute.KEY_TYPE: _CKK_EC,
        Attribute.EC_PARAMS: parameters,
    }


def _read_public_key(session: Session, handle: int, key_type: KeyType) -> PublicKey:
    module = session.module
    if key_type in _RSA_BITS:
        modulus = module.read(session.handle, handle, Attribute.MODULUS)
        exponent = module.read(session.handle, handle, Attribute.PUBLIC_EXPONENT)
        return rsa.RSAPublicNumbers(
            int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")
        ).public_key()
    curve, _ = _CURVES[key_type]
    point = module.read(session.handle, handle, Attribute.EC_POINT)
    # The standard wants it in an OCTET STRING; some tokens give it bare.
    bare = 1 + 2 * ((curve.key_size + 7) // 8)
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, point[-bare:])


def _check_pair(token: Token, name: RecordName, public: PublicKey) -> None:
    """Raises:
    TokenKeyUnsafe: what the key signs does not verify.
    """
    key = private_key(token, key_id(name), public)
    try:
        match key, public:
            case TokenEcPrivateKey(), ec.EllipticCurvePublicKey():
                public.verify(
                    key.sign(_TEST, ec.ECDSA(hashes.SHA256())), _TEST, ec.ECDSA(hashes.SHA256())
                )
            case TokenRsaPrivateKey(), rsa.RSAPublicKey():
                signature = key.sign(_TEST, padding.PKCS1v15(), hashes.SHA256())
                public.verify(signature, _TEST, padding.PKCS1v15(), hashes.SHA256())
    except Exception as error:
        raise TokenKeyUnsafe(
            "the key cannot be made now", reason=f"a key of token {token.name} does not sign"
        ) from error


def private_key(token: Token, id_: bytes, public: PublicKey) -> TokenPrivateKey:
    """The key of that CKA_ID, to sign with; the token is not asked until it does.

    Raises:
        TypeError: no token holds such keys.
    """
    match public:
        case ec.EllipticCurvePublicKey():
            return TokenEcPrivateKey(token, id_, public)
        case rsa.RSAPublicKey():
            return TokenRsaPrivateKey(token, id_, public)
        case _:
            raise TypeError("a token holds EC and RSA keys")


class _InToken:
    """What both kinds share. Signing may wait for the token: `token.run` is for the event loop."""

    def __init__(self, token: Token, id_: bytes) -> None:
        self.token = token
        self._id = id_

    def __repr__(self) -> str:
        return f"{type(self).__name__}(token={self.token.name!r}, id={self._id.hex()})"

    def private_numbers(self) -> NoReturn:
        raise _stays()

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,  # noqa: A002 - the library's name
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        raise _stays()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __copy__(self) -> Any:
        return self


class TokenEcPrivateKey(_InToken, ec.EllipticCurvePrivateKey):
    """An EC key in a token."""

    def __init__(self, token: Token, id_: bytes, public: ec.EllipticCurvePublicKey) -> None:
        super().__init__(token, id_)
        self._public = public

    def sign(
        self,
        data: bytes | bytearray | memoryview,
        signature_algorithm: ec.EllipticCurveSignatureAlgorithm,
    ) -> bytes:
        """ECDSA, DER.

        Raises:
            TokenAway, KeyNotInToken: the token cannot sign now.
        """
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, asym_utils.Prehashed):
            digest = bytes(data)
        else:
            hasher = hashes.Hash(algorithm)
            hasher.update(data)
            digest = hasher.finalize()
        # CKM_ECDSA takes up to the order's length (PKCS #11 mechanisms §2.3.6), FIPS 186-5 §6.4.1.
        size = (self.key_size + 7) // 8
        raw = self.token.sign(self._id, Mechanism.ECDSA, digest[:size])
        half = len(raw) // 2
        return asym_utils.encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        )

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        raise UnsupportedAlgorithm("this key only signs")

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size


class TokenRsaPrivateKey(_InToken, rsa.RSAPrivateKey):
    """An RSA key in a token."""

    def __init__(self, token: Token, id_: bytes, public: rsa.RSAPublicKey) -> None:
        super().__init__(token, id_)
        self._public = public

    def sign(
        self,
        data: bytes | bytearray | memoryview,
        padding: padding.AsymmetricPadding,  # the library's name
        algorithm: asym_utils.Prehashed | hashes.HashAlgorithm | asym_utils.NoDigestInfo,
    ) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-2; nothing else is asked for here.

        Raises:
            UnsupportedAlgorithm: it is.
            TokenAway, KeyNotInToken: the token cannot sign now.
        """
        mechanism = (
            _RSA_MECHANISMS.get(algorithm.name)
            if isinstance(algorithm, hashes.HashAlgorithm)
            else None
        )
        if padding.name != "EMSA-PKCS1-v1_5" or mechanism is None:
            raise UnsupportedAlgorithm("keys in a token sign by PKCS #1 v1.5 with SHA-2")
        return self.token.sign(self._id, mechanism, bytes(data))

    def decrypt(self, ciphertext: bytes, padding: padding.AsymmetricPadding) -> bytes:
        raise UnsupportedAlgorithm("this key only signs")

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size


def _stays() -> UnsupportedAlgorithm:
    return UnsupportedAlgorithm("the key does not leave its token")
