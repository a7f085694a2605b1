"""Keys that live in a PKCS#11 token."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from fleetroot.custody import (
    SOFTWARE,
    Custody,
    KeyStore,
    MasterKey,
    MasterKeyKind,
    MasterKeySource,
    RecordName,
    SealBroken,
    Sealer,
    sign_with,
    waits,
)
from fleetroot.custody.cryptoki import Attribute, CryptokiError, Mechanism, Module
from fleetroot.custody.session import Session
from fleetroot.custody.token import Token
from fleetroot.custody.token_keys import key_id
from fleetroot.errors import InvalidArgument, Unavailable
from fleetroot.pki import KeyType, PrivateKey, key_type_of, private_key_to_der
from softhsm import PIN, SoftHsm, needs_softhsm

pytestmark = needs_softhsm

Open = Callable[..., Custody]

NAME = RecordName("authority-key", "default", "issuing-1", 1)
OTHER = RecordName("authority-key", "default", "issuing-2", 1)
SHA256 = hashes.SHA256()

TOKEN_KEY_TYPES = [
    KeyType.EC_P256,
    KeyType.EC_P384,
    KeyType.EC_P521,
    KeyType.RSA_3072,
    KeyType.RSA_4096,
]


def verified(key: PrivateKey, data: bytes = b"data") -> bool:
    """Signs with the key, and has its public key verify that; raises if it does not."""
    match key:
        case ec.EllipticCurvePrivateKey():
            signature = key.sign(data, ec.ECDSA(SHA256))
            key.public_key().verify(signature, data, ec.ECDSA(SHA256))
        case rsa.RSAPrivateKey():
            signature = key.sign(data, padding.PKCS1v15(), SHA256)
            key.public_key().verify(signature, data, padding.PKCS1v15(), SHA256)
        case _:
            raise AssertionError(key)
    return True


@pytest.mark.parametrize("key_type", TOKEN_KEY_TYPES)
def test_a_key_in_a_token_signs(hsm: SoftHsm, open_custody: Open, key_type: KeyType) -> None:
    custody = open_custody(hsm.config())
    made = custody.generate(key_type, NAME, keep_in="hsm")
    assert key_type_of(made.public_key) is key_type
    assert verified(custody.load(NAME, made.sealed))


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_a_digest_longer_than_the_curve_is_cut_as_ecdsa_wants(
    hsm: SoftHsm, open_custody: Open, digest: hashes.HashAlgorithm
) -> None:
    custody = open_custody(hsm.config())
    made = custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")
    key = custody.load(NAME, made.sealed)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    key.public_key().verify(key.sign(b"data", ec.ECDSA(digest)), b"data", ec.ECDSA(digest))


def test_the_key_is_found_again_by_another_process(hsm: SoftHsm, open_custody: Open) -> None:
    made = open_custody(hsm.config()).generate(KeyType.EC_P256, NAME, keep_in="hsm")
    script = (
        "import sys; from pathlib import Path; from fleetroot.custody import *;"
        "from fleetroot.custody import MasterKeySource, MasterKeyKind;"
        "from cryptography.hazmat.primitives import hashes;"
        "from cryptography.hazmat.primitives.asymmetric import ec;"
        "token = Token(TokenConfig('hsm', Path(sys.argv[1]), 'fleet', sys.argv[2]));"
        "master = MasterKey(bytes(32), MasterKeySource(MasterKeyKind.ENVIRONMENT));"
        "custody = Custody(Sealer(master), [token]);"
        "name = RecordName('authority-key', 'default', 'issuing-1', 1);"
        "key = custody.load(name, bytes.fromhex(sys.argv[3]));"
        "print(key.sign(b'data', ec.ECDSA(hashes.SHA256())).hex())"
    )
    arguments = [str(hsm.config().module), PIN, made.sealed.hex()]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    assert isinstance(made.public_key, ec.EllipticCurvePublicKey)
    made.public_key.verify(bytes.fromhex(done.stdout), b"data", ec.ECDSA(SHA256))


def test_the_key_stays_in_its_token(hsm: SoftHsm, open_custody: Open) -> None:
    custody = open_custody(hsm.config())
    key = custody.load(NAME, custody.generate(KeyType.EC_P256, NAME, keep_in="hsm").sealed)
    with pytest.raises(UnsupportedAlgorithm):
        private_key_to_der(key)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    with pytest.raises(UnsupportedAlgorithm):
        key.private_numbers()


VALUE = 0x11  # CKA_VALUE, the private value itself
ATTRIBUTE_SENSITIVE = 0x11  # CKR_ATTRIBUTE_SENSITIVE


def test_the_token_does_not_let_the_key_be_read(hsm: SoftHsm, open_custody: Open) -> None:
    open_custody(hsm.config()).generate(KeyType.EC_P256, NAME, keep_in="hsm")

    def read(session: Session) -> None:
        [key] = session.private_keys(key_id(NAME))
        session.module.read(session.handle, key, VALUE)  # type: ignore[arg-type]

    token = Token(hsm.config())
    try:
        with pytest.raises(CryptokiError) as refused:
            token.use(read)
    finally:
        token.close()
    assert refused.value.rv == ATTRIBUTE_SENSITIVE


@pytest.mark.parametrize(
    "attribute",
    [
        Attribute.SENSITIVE,
        Attribute.ALWAYS_SENSITIVE,
        Attribute.EXTRACTABLE,
        Attribute.NEVER_EXTRACTABLE,
        Attribute.LOCAL,
    ],
)
def test_a_key_that_could_be_read_out_is_destroyed(
    hsm: SoftHsm,
    open_custody: Open,
    monkeypatch: pytest.MonkeyPatch,
    attribute: Attribute,
) -> None:
    read = Module.read

    def lies(self: Module, session: int, key: int, asked: Attribute) -> bytes:
        value = read(self, session, key, asked)
        return bytes([not value[0]]) if asked is attribute else value

    custody = open_custody(hsm.config())
    with monkeypatch.context() as patched:
        patched.setattr(Module, "read", lies)
        with pytest.raises(Unavailable) as refused:
            custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")
    assert f"CKA_{attribute.name}" in refused.value.reason
    assert custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")  # the name is free


@pytest.mark.parametrize("key_type", [KeyType.ML_DSA_44, KeyType.ML_DSA_65, KeyType.ML_DSA_87])
def test_a_token_holds_no_ml_dsa_key(hsm: SoftHsm, open_custody: Open, key_type: KeyType) -> None:
    with pytest.raises(InvalidArgument, match=f"token hsm cannot hold {key_type} keys"):
        open_custody(hsm.config()).generate(key_type, NAME, keep_in="hsm")


def test_a_second_key_of_the_same_name_is_refused(hsm: SoftHsm, open_custody: Open) -> None:
    custody = open_custody(hsm.config())
    custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")
    with pytest.raises(InvalidArgument, match="has a key of this name already"):
        custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")


def test_a_key_does_not_load_under_another_name(hsm: SoftHsm, open_custody: Open) -> None:
    custody = open_custody(hsm.config())
    made = custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")
    with pytest.raises(SealBroken):
        custody.load(OTHER, made.sealed)


def test_a_software_key_of_before_loads(hsm: SoftHsm, open_custody: Open) -> None:
    master = MasterKey(bytes(32), MasterKeySource(MasterKeyKind.ENVIRONMENT))
    made = KeyStore(Sealer(master)).generate(KeyType.EC_P256, NAME)
    key = open_custody(hsm.config()).load(NAME, made.sealed)
    assert key.public_key() == made.public_key
    assert not waits(key)


def test_software_and_tokens_stand_beside_each_other(hsm: SoftHsm, open_custody: Open) -> None:
    hsm.add("second")
    custody = open_custody(hsm.config(), hsm.config(name="other", label="second"))
    places = {SOFTWARE: KeyType.ML_DSA_44, "hsm": KeyType.EC_P256, "other": KeyType.EC_P384}
    for place, key_type in places.items():
        name = RecordName("authority-key", "default", place, 1)
        made = custody.generate(key_type, name, keep_in=place)
        assert custody.load(name, made.sealed).public_key() == made.public_key
        assert waits(custody.load(name, made.sealed)) is (place != SOFTWARE)


def test_a_token_that_is_not_configured_is_refused(open_custody: Open) -> None:
    with pytest.raises(InvalidArgument, match="there is no token hsm"):
        open_custody().generate(KeyType.EC_P256, NAME, keep_in="hsm")
    with pytest.raises(InvalidArgument, match="there is no token hsm"):
        open_custody(authorities_in="hsm")


def test_a_key_of_a_token_that_is_configured_no_more_is_unavailable(
    hsm: SoftHsm, open_custody: Open
) -> None:
    made = open_custody(hsm.config()).generate(KeyType.EC_P256, NAME, keep_in="hsm")
    with pytest.raises(Unavailable) as refused:
        open_custody().load(NAME, made.sealed)
    assert refused.value.reason == "token is not configured: hsm"


def test_a_key_that_the_token_lost_is_unavailable(hsm: SoftHsm, open_custody: Open) -> None:
    hsm.add("empty")
    made = open_custody(hsm.config()).generate(KeyType.EC_P256, NAME, keep_in="hsm")
    key = open_custody(hsm.config(label="empty")).load(NAME, made.sealed)
    with pytest.raises(Unavailable) as refused:
        verified(key)
    assert refused.value.reason.startswith("key is not in its token: hsm, id ")


def test_threads_sign_beside_each_other(hsm: SoftHsm, open_custody: Open) -> None:
    custody = open_custody(hsm.config(threads=4))
    made = custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")
    key = custody.load(NAME, made.sealed)
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda n: verified(key, str(n).encode()), range(400)))


def test_threads_open_sessions_and_sign_beside_each_other(hsm: SoftHsm, open_custody: Open) -> None:
    """A module that was not told of threads answers GENERAL_ERROR here, or ends the process."""
    open_custody(hsm.config()).generate(KeyType.EC_P256, NAME, keep_in="hsm")
    token = Token(hsm.config(threads=8))

    def sign(session: Session) -> int:
        return sum(
            len(session.sign(key_id(NAME), Mechanism.ECDSA, bytes(32)) or b"") for _ in range(50)
        )

    errors: list[int] = []
    recover = token._recover
    token._recover = lambda *a, **k: errors.append(1) or recover(*a, **k)  # type: ignore[method-assign,func-returns-value]
    try:
        with ThreadPoolExecutor(8) as threads:
            done = list(threads.map(lambda _: token.use(sign, writing=True), range(160)))
    finally:
        token.close()
    assert done == [50 * 64] * 160
    assert errors == []


def test_a_session_of_before_the_module_was_initialised_anew_is_not_used(hsm: SoftHsm) -> None:
    """Its handle may be that of another thread's session by now."""
    token = Token(hsm.config(threads=1))
    try:
        before = token.use(lambda session: session.epoch)
        token._module.initialize_anew(before, 30)
        assert token.use(lambda session: session.epoch) == before + 1
    finally:
        token.close()


async def test_a_job_runs_in_a_thread_of_the_token(hsm: SoftHsm, open_custody: Open) -> None:
    custody = open_custody(hsm.config())
    made = custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")
    key = custody.load(NAME, made.sealed)
    assert await sign_with(key, lambda: verified(key))


def test_the_pin_is_in_no_repr(hsm: SoftHsm, open_custody: Open) -> None:
    config = hsm.config()
    custody = open_custody(config)
    made = custody.generate(KeyType.EC_P256, NAME, keep_in="hsm")
    key = custody.load(NAME, made.sealed)
    assert PIN not in repr((config, custody, custody.states(), key, key.token))  # type: ignore[union-attr]
